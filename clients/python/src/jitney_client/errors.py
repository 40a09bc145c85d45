"""What a call can end with, as types: one per decision that a caller takes.

Every error has the gRPC status ``code`` it came with, and ``str(error)`` is the server's text. A
jitney also says why in one word (``reason``), and each of these words has a type of its own below
the type of its code. So ``except Overloaded`` catches every kind of overload, with any server, and
``except TenantQuota`` one kind of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AccessRefused",
    "BadOverride",
    "BatchTooLarge",
    "ByteBudget",
    "Cancelled",
    "ControlDisabled",
    "DeadlineExceeded",
    "DeadlineTooShort",
    "DeviceLost",
    "Draining",
    "Expired",
    "FailedPrecondition",
    "InvalidReply",
    "InvalidRequest",
    "JitneyError",
    "ModelFault",
    "ModelLoadFailed",
    "ModelLoading",
    "ModelNotFound",
    "NotFound",
    "NotSupported",
    "OutOfDeviceMemory",
    "OutputTooLarge",
    "Overloaded",
    "PredictedLate",
    "QueueFull",
    "RegionExists",
    "RegionNotFound",
    "RegionNotOpened",
    "RequestFailed",
    "RequestLimit",
    "ServerFault",
    "Shed",
    "StreamUnread",
    "TenantQuota",
    "Unavailable",
    "WorkerLost",
    "from_rpc_error",
    "from_stream",
]

PUSHBACK: Final = "grpc-retry-pushback-ms"
REASON: Final = "jitney-reason"


class JitneyError(Exception):
    """The base of all errors of a call.

    ``code`` is the status of the call, ``reason`` the server's word for why (empty where it gave
    none, as other servers do), ``retry_after`` its advice on when to try again, in seconds; None
    where it gave none. ``safe_to_retry`` tells whether the same call may succeed later or
    elsewhere, and repeating it does no harm: unless it belongs to a sequence, whose order a
    repetition may upset, or changes the server, as loading a model does.
    """

    retryable: ClassVar[bool] = False
    """Whether calls that end so are safe to retry, unless the server asks not to."""

    def __init__(
        self,
        text: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        retry_after: float | None = None,
        final: bool = False,
    ) -> None:
        """Make an error.

        :param final: the server asked not to try again.
        """
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.safe_to_retry = self.retryable and not final


# -- the request -----------------------------------------------------------------------------------


class InvalidRequest(JitneyError):
    """INVALID_ARGUMENT: the request contradicts the model's contract; repeating it cannot help."""


class BatchTooLarge(InvalidRequest):
    """The request has more rows, or more bytes, than its model takes at once."""


class BadOverride(InvalidRequest):
    """The configuration or the files that came with a load cannot be used."""


class NotFound(JitneyError):
    """NOT_FOUND: what the request names is not there."""


class ModelNotFound(NotFound):
    """No such model or version."""


class RegionNotFound(NotFound):
    """No region of shared memory is registered under that name."""


class RegionNotOpened(NotFound):
    """The server cannot open the object that shall be registered as shared memory."""


class RegionExists(JitneyError):
    """ALREADY_EXISTS: a region of shared memory is registered under that name."""


class NotSupported(JitneyError):
    """UNIMPLEMENTED: the server does not offer this call, or not for this model."""


class AccessRefused(JitneyError):
    """UNAUTHENTICATED or PERMISSION_DENIED: the caller may not do this."""


# -- the operator ----------------------------------------------------------------------------------


class FailedPrecondition(JitneyError):
    """FAILED_PRECONDITION: the server's operator must act first."""


class ModelLoadFailed(FailedPrecondition):
    """The model could not be loaded; the text says why."""


class ControlDisabled(FailedPrecondition):
    """The operator lets nobody load or unload models over the network."""


# -- the moment ------------------------------------------------------------------------------------


class Unavailable(JitneyError):
    """UNAVAILABLE: no connection, or the model or the server is not ready."""

    retryable = True


class ModelLoading(Unavailable):
    """The model is being loaded, or its worker replaced."""


class WorkerLost(Unavailable):
    """The worker process ended while it held the request."""


class Draining(Unavailable):
    """The server shuts down; another one may take the request."""


class DeviceLost(Unavailable):
    """The server has no device left to compute with."""


class Overloaded(JitneyError):
    """RESOURCE_EXHAUSTED: a limit is reached, mostly of the server's load: wait, or go elsewhere.

    A message over the size limit ends so too: only ``retry_after`` tells that waiting helps, and
    without it such a call is not safe to retry.
    """

    retryable = True

    def __init__(self, text: str, **facts: Any) -> None:  # noqa: ANN401  # the base names them
        super().__init__(text, **facts)
        self.safe_to_retry = self.safe_to_retry and self.retry_after is not None


class QueueFull(Overloaded):
    """Too many requests wait for the model."""


class ByteBudget(Overloaded):
    """The tensors of the requests in flight take as much memory as they may."""


class RequestLimit(Overloaded):
    """As many requests are in flight as may be."""


class TenantQuota(Overloaded):
    """The tenant has as much in flight as one may."""


class PredictedLate(Overloaded):
    """What waits already would make the request late."""


class Shed(Overloaded):
    """The request was given up so that more others are in time."""


class OutOfDeviceMemory(Overloaded):
    """Even this request alone does not fit into the device's memory."""

    retryable = False


class OutputTooLarge(Overloaded):
    """The outputs of this request alone are larger than the server lets them be."""

    retryable = False


class StreamUnread(Overloaded):
    """More replies waited on a stream than the server keeps: it was read too slowly."""

    retryable = False


# -- the clock -------------------------------------------------------------------------------------


class DeadlineExceeded(JitneyError):
    """DEADLINE_EXCEEDED: the timeout passed, or could not have been kept."""


class Expired(DeadlineExceeded):
    """The timeout, or the time that it might wait, passed in the queue; no device was used."""


class DeadlineTooShort(DeadlineExceeded):
    """Even an idle device would not be done in time; refused at once."""


class Cancelled(JitneyError):
    """CANCELLED: the caller, or a shutdown, gave the call up."""


# -- faults ----------------------------------------------------------------------------------------


class ServerFault(JitneyError):
    """INTERNAL and everything unforeseen: a defect of the server or of the model."""


class ModelFault(ServerFault):
    """The model did not return what its signature says."""


class InvalidReply(ServerFault):
    """The call succeeded, and its reply contradicts the protocol."""


class RequestFailed(ServerFault):
    """One request of a stream failed, and all that the protocol tells about it is the text."""


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
    grpc.StatusCode.UNAUTHENTICATED: AccessRefused,
    grpc.StatusCode.PERMISSION_DENIED: AccessRefused,
}

_BY_REASON: Final[Mapping[str, type[JitneyError]]] = {
    "BAD_INPUT": InvalidRequest,
    "BATCH_TOO_LARGE": BatchTooLarge,
    "BAD_OVERRIDE": BadOverride,
    "MODEL_NOT_FOUND": ModelNotFound,
    "REGION_NOT_FOUND": RegionNotFound,
    "REGION_NOT_OPENED": RegionNotOpened,
    "REGION_EXISTS": RegionExists,
    "NOT_SUPPORTED": NotSupported,
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


def from_rpc_error(error: grpc.RpcError) -> JitneyError:
    """Return the typed error of a failed call."""
    code = error.code()
    reason, retry_after, final = "", None, False
    for key, value in error.trailing_metadata() or ():
        if key == REASON:
            reason = value
        elif key == PUSHBACK:
            # A negative number, or no number, means "do not retry" (gRFC A6).
            final = not value.isdigit()
            retry_after = None if final else int(value) / 1000
    text = error.details() or code.name
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
