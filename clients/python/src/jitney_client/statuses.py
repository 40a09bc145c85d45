"""From what a call ended with on the wire to the type of its error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

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
    InvalidRequest,
    ModelFault,
    ModelLoadFailed,
    ModelLoading,
    ModelNotFound,
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney_client.errors import JitneyError

__all__ = ["error_of", "from_rpc_error", "from_stream"]

PUSHBACK: Final = "grpc-retry-pushback-ms"
REASON: Final = "jitney-reason"
MOST_DIGITS: Final = 12
"""Of a pushback; what is longer is no advice."""

_BY_CODE: Final[Mapping[grpc.StatusCode, type[JitneyError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    # Nearly all of what is looked up is a model; a jitney says where it is something else.
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.ALREADY_EXISTS: RegionExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: NotSupported,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: AccessRefused,
}

_BY_REASON: Final[Mapping[str, type[JitneyError]]] = {
    "BAD_INPUT": InvalidRequest,
    "BATCH_TOO_LARGE": BatchTooLarge,
    "QUARANTINED": Quarantined,
    "BAD_OVERRIDE": BadOverride,
    "MODEL_NOT_FOUND": ModelNotFound,
    "REGION_NOT_FOUND": RegionNotFound,
    "REGION_NOT_OPENED": RegionNotOpened,
    "REGION_EXISTS": RegionExists,
    "NOT_SUPPORTED": NotSupported,
    "UNAUTHENTICATED": Unauthenticated,
    "ACCESS_DENIED": AccessRefused,
    "CONFIG": FailedPrecondition,
    "MODEL_LOAD_FAILED": ModelLoadFailed,
    "CONTROL_DISABLED": ControlDisabled,
    "MODEL_LOADING": ModelLoading,
    "WORKER_LOST": WorkerLost,
    "DRAINING": Draining,
    "DEVICE_LOST": DeviceLost,
    "QUEUE_FULL": QueueFull,
    "BYTE_BUDGET": ByteBudget,
    "REQUEST_LIMIT": RequestLimit,
    "TENANT_QUOTA": TenantQuota,
    "RATE_LIMITED": RateLimited,
    "PREDICTED_LATE": PredictedLate,
    "SHED": Shed,
    "DEVICE_OOM": OutOfDeviceMemory,
    "OUTPUT_TOO_LARGE": OutputTooLarge,
    "STREAM_UNREAD": StreamUnread,
    "EXPIRED": Expired,
    "DEADLINE_TOO_SHORT": DeadlineTooShort,
    "INTERNAL": ServerFault,
}
"""What a jitney calls its errors. It counts more than the code, which may be Triton's
(``server.triton_compat``). MODEL_ERROR is missing: a model that raised is INVALID_ARGUMENT where
its input is to blame, and ``ModelFault`` otherwise."""

_BY_TEXT: Final[Mapping[str, tuple[type[JitneyError], grpc.StatusCode]]] = {
    "Request timeout expired": (Expired, grpc.StatusCode.DEADLINE_EXCEEDED),
    "explicit model load / unload is not allowed": (
        ControlDisabled,
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    "Exceeds maximum queue size": (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "Deadline Exceeded": (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    "Request for unknown model": (ModelNotFound, grpc.StatusCode.NOT_FOUND),
    "unexpected shape for input": (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    "unexpected inference ": (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    "inference input ": (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    "inference request batch-size": (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
}
"""Texts that the protocol's servers share word by word, and clients may rely on. They tell apart
what has the same code, UNAVAILABLE, in Triton, and what has no code at all: errors on streams."""


def from_rpc_error(error: grpc.RpcError, *, given_up: bool = True) -> JitneyError:
    """Return the typed error of a failed call.

    :param given_up: whether we may have cancelled it ourselves. Where we have not, CANCELLED
        without a word comes from a server that stops: gRPC had taken the call in for it, and it
        never got to see it. That is no different from a server that is gone.
    """
    code = error.code()
    metadata = error.trailing_metadata() or ()
    if code is grpc.StatusCode.CANCELLED and not given_up and not metadata:
        msg = "the server cancelled the call; it may be stopping"
        return Unavailable(msg, code=code)
    reason, retry_after, final = "", None, False
    for key, value in metadata:
        if key == REASON:
            reason = value
        elif key == PUSHBACK:
            # A negative number, or no number, means "do not retry" (gRFC A6).
            final = not (value.isdecimal() and len(value) <= MOST_DIGITS)
            retry_after = None if final else int(value) / 1000
    text = error.details() or code.name
    return error_of(code, text, reason=reason, retry_after=retry_after, final=final)


def error_of(
    code: grpc.StatusCode,
    text: str,
    *,
    reason: str = "",
    retry_after: float | None = None,
    final: bool = False,
) -> JitneyError:
    """Return the typed error of a status, its text, and a jitney's word for why."""
    kind = _kind(code, reason, text)
    return kind(text, code=code, reason=reason, retry_after=retry_after, final=final)


def from_stream(text: str) -> JitneyError:
    """Return the typed error of one request of a stream, of which only the text is known."""
    for part, (kind, code) in _BY_TEXT.items():
        if part in text:
            return kind(text, code=code)
    return RequestFailed(text, code=grpc.StatusCode.UNKNOWN)


def _kind(code: grpc.StatusCode, reason: str, text: str) -> type[JitneyError]:
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    if reason == "MODEL_ERROR" and code is grpc.StatusCode.INTERNAL:
        return ModelFault
    if not reason and code is grpc.StatusCode.UNAVAILABLE:
        for part, (kind, _) in _BY_TEXT.items():
            if part in text:
                return kind
    return _BY_CODE.get(code, ServerFault)
