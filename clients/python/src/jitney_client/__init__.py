"""The Python client of jitney, and of any server of the Open Inference Protocol over gRPC.

    >>> import numpy as np
    >>> from jitney_client import Client
    >>> with Client("127.0.0.1:8001", timeout=5.0) as client:
    ...     result = client.infer("digits", np.zeros((1, 1, 8, 8), np.float32))
    ...     result["scores"].shape
    (1, 10)

Messages and stubs are in ``jitney_client.protocol``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitney_client.client import Client, InferResult
    from jitney_client.errors import (
        AccessRefused,
        Cancelled,
        DeadlineExceeded,
        FailedPrecondition,
        InvalidReply,
        InvalidRequest,
        JitneyError,
        ModelNotFound,
        NotSupported,
        Overloaded,
        ServerFault,
        Unavailable,
    )
    from jitney_client.tensors import Bfloat16

__all__ = [
    "AccessRefused",
    "Bfloat16",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InferResult",
    "InvalidReply",
    "InvalidRequest",
    "JitneyError",
    "ModelNotFound",
    "NotSupported",
    "Overloaded",
    "ServerFault",
    "Unavailable",
]


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for.

    So ``jitney_client.protocol`` alone needs neither gRPC nor NumPy: the server reads model
    configurations with it in layers that must not know the transport.
    """
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    for module in ("errors", "tensors", "client"):
        namespace = import_module(f"{__name__}.{module}")
        if name in namespace.__all__:
            return getattr(namespace, name)
    msg = f"{name!r} is in __all__ and in no module"
    raise AssertionError(msg)
