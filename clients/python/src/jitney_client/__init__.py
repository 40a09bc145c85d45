"""The Python client of jitney, and of any server of the Open Inference Protocol over gRPC.

    >>> import numpy as np
    >>> from jitney_client import Client
    >>> with Client("127.0.0.1:8001", timeout=5.0) as client:
    ...     result = client.infer("digits", np.zeros((1, 1, 8, 8), np.float32))
    ...     result["scores"].shape
    (1, 10)

``AsyncClient`` has the same methods, to be awaited. ``clients/README.md`` tells more, and
``clients/python/examples`` shows it. Messages and stubs are in ``jitney_client.protocol``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitney_client.async_client import AsyncClient
    from jitney_client.async_stream import AsyncPending, AsyncStream
    from jitney_client.classification import ClassScore
    from jitney_client.client import Client
    from jitney_client.connection import ConnectionOptions
    from jitney_client.errors import (
        AccessRefused,
        BadOverride,
        BatchTooLarge,
        ByteBudget,
        Cancelled,
        ControlDisabled,
        DeadlineExceeded,
        DeadlineTooShort,
        DeviceLost,
        Draining,
        Expired,
        FailedPrecondition,
        InvalidReply,
        InvalidRequest,
        JitneyError,
        ModelFault,
        ModelLoadFailed,
        ModelLoading,
        ModelNotFound,
        NotFound,
        NotSupported,
        OutOfDeviceMemory,
        OutputTooLarge,
        Overloaded,
        PredictedLate,
        Quarantined,
        QueueFull,
        RateLimited,
        RegionExists,
        RegionNotFound,
        RegionNotOpened,
        RequestFailed,
        RequestLimit,
        ServerFault,
        Shed,
        StreamUnread,
        TenantQuota,
        Unauthenticated,
        Unavailable,
        WorkerLost,
    )
    from jitney_client.options import InferOptions, RequestOptions
    from jitney_client.result import InferResult, Timing
    from jitney_client.retries import Retries
    from jitney_client.sequence import Sequence
    from jitney_client.settings import LogChanges, LogSettings, TraceChanges, TraceSettings
    from jitney_client.stream import Pending, Stream
    from jitney_client.tensors import Bfloat16
    from jitney_client.tls import Tls

__all__ = [
    "AccessRefused",
    "AsyncClient",
    "AsyncPending",
    "AsyncStream",
    "BadOverride",
    "BatchTooLarge",
    "Bfloat16",
    "ByteBudget",
    "Cancelled",
    "ClassScore",
    "Client",
    "ConnectionOptions",
    "ControlDisabled",
    "DeadlineExceeded",
    "DeadlineTooShort",
    "DeviceLost",
    "Draining",
    "Expired",
    "FailedPrecondition",
    "InferOptions",
    "InferResult",
    "InvalidReply",
    "InvalidRequest",
    "JitneyError",
    "LogChanges",
    "LogSettings",
    "ModelFault",
    "ModelLoadFailed",
    "ModelLoading",
    "ModelNotFound",
    "NotFound",
    "NotSupported",
    "OutOfDeviceMemory",
    "OutputTooLarge",
    "Overloaded",
    "Pending",
    "PredictedLate",
    "Quarantined",
    "QueueFull",
    "RateLimited",
    "RegionExists",
    "RegionNotFound",
    "RegionNotOpened",
    "RequestFailed",
    "RequestLimit",
    "RequestOptions",
    "Retries",
    "Sequence",
    "ServerFault",
    "Shed",
    "Stream",
    "StreamUnread",
    "TenantQuota",
    "Timing",
    "Tls",
    "TraceChanges",
    "TraceSettings",
    "Unauthenticated",
    "Unavailable",
    "WorkerLost",
]

_MODULES = (
    "errors",
    "tensors",
    "result",
    "classification",
    "sequence",
    "settings",
    "retries",
    "tls",
    "options",
    "connection",
    "stream",
    "async_stream",
    "client",
    "async_client",
)


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for.

    So ``jitney_client.protocol`` alone needs neither gRPC nor NumPy: the server reads model
    configurations with it in layers that must not know the transport.
    """
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    for module in _MODULES:
        namespace = import_module(f"{__name__}.{module}")
        if name in namespace.__all__:
            return getattr(namespace, name)
    msg = f"{name!r} is in __all__ and in no module"
    raise AssertionError(msg)
