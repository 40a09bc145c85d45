"""The error taxonomy: what can go wrong on the way of a request, whoever is to blame.

An error belongs to one arrow of the data flow and carries a text for the caller; it never holds a
path, a process id, a shared-memory name or a traceback. The codes of gRPC are assigned in one
place, ``transport.status``.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AccessDenied",
    "BadOverride",
    "BatchTooLarge",
    "ConfigError",
    "ControlDisabled",
    "DeadlineExpired",
    "DeadlineTooShort",
    "DeviceFailed",
    "Draining",
    "InferenceFailed",
    "InputQuarantined",
    "InputRejected",
    "InvalidRequest",
    "JitneyError",
    "ListenerFailed",
    "LoadRefused",
    "ModelError",
    "ModelLoadFailed",
    "ModelNotFound",
    "ModelNotReady",
    "NotSupported",
    "OutOfDeviceMemory",
    "OutputTooLarge",
    "Overloaded",
    "QueueTimeout",
    "RateLimited",
    "RegionExists",
    "RegionNotFound",
    "RegionNotOpened",
    "Unauthenticated",
    "UnknownToLoad",
    "WorkerLost",
]


class JitneyError(Exception):
    """The base of everything that a caller may be told.

    ``reason`` is the stable, machine-readable name: ``jitney-reason`` in the trailing metadata, and
    a label of metrics. ``str(error)`` is the text for a person.
    """

    reason = "INTERNAL"


class InvalidRequest(JitneyError):
    """The request contradicts the protocol or the model's contract; repeating it cannot help."""

    reason = "BAD_INPUT"


class BatchTooLarge(InvalidRequest):
    """The request has more rows, or more bytes, than its model takes at once.

    That is what one batch may have, or, where requests are split, what may wait in the queue.
    """

    reason = "BATCH_TOO_LARGE"


class ModelNotFound(JitneyError):
    """No such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class ModelNotReady(JitneyError):
    """The version exists and is loading, or its worker is being replaced; safe to retry."""

    reason = "MODEL_LOADING"


class ModelLoadFailed(JitneyError):
    """The version could not be loaded; the operator must act."""

    reason = "MODEL_LOAD_FAILED"


class Draining(JitneyError):
    """The server is shutting down and takes nothing new; another replica may."""

    reason = "DRAINING"


class WorkerLost(JitneyError):
    """The worker process ended while it held the request; inference is safe to repeat.

    For the scheduler: ``rerun`` says how the server itself may repeat its batch. ``whole``: as it
    was, which was not to blame, or not begun; ``apart``: each request alone, for one of them may
    have ended the worker; ``never``: it took too long, or nobody knows. ``suspect`` tells that the
    batch may be to blame, ``back_in`` in how many seconds its device is expected back.
    """

    reason = "WORKER_LOST"

    def __init__(
        self,
        text: str = "",
        *,
        rerun: Literal["never", "whole", "apart"] = "never",
        suspect: bool = False,
        back_in: float = 0.0,
    ) -> None:
        super().__init__(text)
        self.rerun = rerun
        self.suspect = suspect
        self.back_in = back_in


class Overloaded(JitneyError):
    """There is more work than the server can do in time, or a limit is reached.

    ``reason`` is one of QUEUE_FULL, BYTE_BUDGET, REQUEST_LIMIT, TENANT_QUOTA; PREDICTED_LATE (what
    waits already would make it late) and SHED (it was given up, so that a larger batch behind it
    is in time). ``retry_after`` is the advice to the caller in seconds.
    """

    reason = "QUEUE_FULL"

    def __init__(self, text: str, *, reason: str = "QUEUE_FULL", retry_after: float = 0.05) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after = retry_after


class RateLimited(Overloaded):
    """The caller asks more often than it may; whoever else calls does not matter."""

    reason = "RATE_LIMITED"

    def __init__(self, text: str, *, retry_after: float = 1.0) -> None:
        super().__init__(text, reason=self.reason, retry_after=retry_after)


class DeadlineExpired(JitneyError):
    """The deadline, or the time that it might wait, passed in the queue; it reached no device."""

    reason = "EXPIRED"


class QueueTimeout(DeadlineExpired):
    """The request's ``timeout``, or its model's, passed in the queue; its deadline may be far."""


class DeadlineTooShort(JitneyError):
    """Even an idle device would not be done before the deadline; refused at once."""

    reason = "DEADLINE_TOO_SHORT"


class OutOfDeviceMemory(JitneyError):
    """Even this request alone does not fit into the device's memory."""

    reason = "DEVICE_OOM"


class InferenceFailed(JitneyError):
    """The model did not return what its signature says; no caller can mend that."""

    reason = "MODEL_ERROR"


class InputRejected(InferenceFailed):
    """The model raised on this request alone, after it ran on others: the values are to blame."""

    reason = "MODEL_ERROR"


class InputQuarantined(InputRejected):
    """These very inputs ended a worker, or failed the batch they were in, several times just now.

    They are not run again for a while.
    """

    reason = "QUARANTINED"


class OutputTooLarge(JitneyError):
    """The outputs of this request alone do not fit into a slot (``--slot-bytes``)."""

    reason = "OUTPUT_TOO_LARGE"


class NotSupported(JitneyError):
    """The RPC or option exists in the protocol, and this server does not offer it."""

    reason = "NOT_SUPPORTED"


class ControlDisabled(JitneyError):
    """The operator lets nobody load or unload models, or accept their files, over the network."""

    reason = "CONTROL_DISABLED"


class LoadRefused(JitneyError):
    """A model that was asked to be loaded could not be; what was served before still is."""

    reason = "MODEL_LOAD_FAILED"


class BadOverride(LoadRefused):
    """The configuration or the files that came with a load cannot be used."""

    reason = "BAD_OVERRIDE"


class UnknownToLoad(LoadRefused):
    """The model repository has no model of the name that was asked to be loaded."""

    reason = "MODEL_NOT_FOUND"


class Unauthenticated(JitneyError):
    """Nothing that came with the call tells who makes it, or what came is not good for it."""

    reason = "UNAUTHENTICATED"


class AccessDenied(JitneyError):
    """Who makes the call is known, and may not make it.

    What the call names, such as a model, may or may not exist: the text is the same.
    """

    reason = "ACCESS_DENIED"


class RegionNotFound(JitneyError):
    """No region of shared memory is registered under that name."""

    reason = "REGION_NOT_FOUND"


class RegionNotOpened(JitneyError):
    """The object that a region of shared memory shall be registered for cannot be opened."""

    reason = "REGION_NOT_OPENED"


class RegionExists(JitneyError):
    """A region of shared memory is registered under that name already."""

    reason = "REGION_EXISTS"


class ConfigError(JitneyError):
    """A flag, environment variable, settings file or ``model.toml`` is wrong.

    The text names the setting by its full path and says what to write.
    """

    reason = "CONFIG"


class DeviceFailed(JitneyError):
    """No device is left to serve with, or none of those that had the model; another replica may."""

    reason = "DEVICE_LOST"


class ListenerFailed(JitneyError):
    """A port stopped taking calls by itself; the server process ends with an error."""

    reason = "LISTENER_LOST"


class ModelError(JitneyError):
    """A model file is broken, hostile or does not keep its contract; raised while loading it.

    ``reason`` names the check that failed, ``str(error)`` says what to do about it. ``digest`` is
    the SHA-256 of the file that was refused, where it was read that far.
    """

    reason = "MODEL_INVALID"
    digest = ""
