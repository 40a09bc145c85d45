"""What a call can end with, as types: one per decision that a caller takes.

Every error has the gRPC status ``code`` it came with, and ``str(error)`` is the server's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AccessRefused",
    "Cancelled",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidReply",
    "InvalidRequest",
    "JitneyError",
    "ModelNotFound",
    "NotSupported",
    "Overloaded",
    "ServerFault",
    "Unavailable",
    "from_rpc_error",
]

PUSHBACK: Final = "grpc-retry-pushback-ms"


class JitneyError(Exception):
    """The base of all errors of a call.

    ``code`` is the status of the call, ``retry_after`` the server's advice on when to try again,
    in seconds; None where it gave none.
    """

    safe_to_retry: ClassVar[bool] = False
    """Whether the same call may succeed later or elsewhere, and repeating it does no harm."""

    def __init__(
        self, text: str, *, code: grpc.StatusCode, retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class InvalidRequest(JitneyError):
    """INVALID_ARGUMENT: the request contradicts the model's contract; repeating it cannot help."""


class ModelNotFound(JitneyError):
    """NOT_FOUND: no such model or version."""


class FailedPrecondition(JitneyError):
    """FAILED_PRECONDITION: the server's operator must act first."""


class Unavailable(JitneyError):
    """UNAVAILABLE: no connection, or the model or the server is not ready."""

    safe_to_retry = True


class Overloaded(JitneyError):
    """RESOURCE_EXHAUSTED: a limit is reached, mostly of the server's load: wait, or go elsewhere.

    A message over the size limit ends so too: only ``retry_after`` tells that waiting helps.
    """

    safe_to_retry = True


class DeadlineExceeded(JitneyError):
    """DEADLINE_EXCEEDED: the timeout passed, or could not have been kept."""


class Cancelled(JitneyError):
    """CANCELLED: the caller, or a shutdown, gave the call up."""


class NotSupported(JitneyError):
    """UNIMPLEMENTED: the server does not offer this call."""


class AccessRefused(JitneyError):
    """UNAUTHENTICATED or PERMISSION_DENIED: the caller may not do this."""


class ServerFault(JitneyError):
    """INTERNAL and everything unforeseen: a defect of the server or of the model."""


class InvalidReply(ServerFault):
    """The call succeeded, and its reply contradicts the protocol."""


_TYPES: Final[Mapping[grpc.StatusCode, type[JitneyError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: NotSupported,
    grpc.StatusCode.UNAUTHENTICATED: AccessRefused,
    grpc.StatusCode.PERMISSION_DENIED: AccessRefused,
}


def from_rpc_error(error: grpc.RpcError) -> JitneyError:
    """Return the typed error of a failed call."""
    code = error.code()
    retry_after = None
    for key, value in error.trailing_metadata() or ():
        # A negative number, or no number, means "do not retry" (gRFC A6): no advice to wait.
        if key == PUSHBACK and value.isdigit():
            retry_after = int(value) / 1000
    kind = _TYPES.get(code, ServerFault)
    return kind(error.details() or code.name, code=code, retry_after=retry_after)
