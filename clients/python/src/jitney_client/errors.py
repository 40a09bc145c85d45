"""What a call can end with, as types: one per decision that a caller takes.

Every error has the gRPC status ``code`` it came with, and ``str(error)`` is the server's text. A
jitney also says why in one word (``reason``), and each of these words has a type of its own below
the type of its code. So ``except Overloaded`` catches every kind of overload, with any server, and
``except TenantQuota`` one kind of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import grpc

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
    "Quarantined",
    "QueueFull",
    "RateLimited",
    "RegionExists",
    "RegionNotFound",
    "RegionNotOpened",
    "RequestFailed",
    "RequestLimit",
    "ServerFault",
    "Shed",
    "StreamUnread",
    "TenantQuota",
    "Unauthenticated",
    "Unavailable",
    "WorkerLost",
]


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


class Quarantined(InvalidRequest):
    """These very inputs ended a worker, or failed their batch, several times just now.

    The server does not run them again for a while.
    """


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


class Unauthenticated(AccessRefused):
    """The server does not know who calls: there was no token, or not one of its own any more."""


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


class RateLimited(Overloaded):
    """The caller asks more often than it may; others are not concerned."""


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
