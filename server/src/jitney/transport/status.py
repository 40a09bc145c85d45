"""Errors to gRPC status codes: one table, tested to cover the whole taxonomy, and Triton's."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from jitney import errors
from jitney.bugs import numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jitney.types import Request

    Table = Mapping[type[errors.JitneyError], grpc.StatusCode]

__all__ = ["CODES", "COMPAT", "Context", "Statuses", "logged", "text_of"]

log = logging.getLogger(__name__)

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Clients with a retry policy wait this long, or not at all if it is negative (gRFC A6)."""
REASON: Final = "jitney-reason"
DETAILS: Final = "grpc-status-details-bin"
"""A ``google.rpc.Status``: the standard form of what the two keys above say."""
DOMAIN: Final = "jitney"

SOON: Final = 0.2
"""Seconds to wait for what passes by itself: a load, a new worker."""
LONGEST_PUSHBACK: Final = 60_000

MAX_TEXT: Final = 3072
"""Bytes of a text on the wire. Texts quote what callers sent; past 8 KiB of metadata gRPC's clients
drop the whole status, and show an error of their own that names neither the input nor the model.
The text travels twice: as the status' own, and in the details, in base 64."""

CODES: Final[dict[type[errors.JitneyError], grpc.StatusCode]] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BatchTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InputRejected: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InputQuarantined: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.WorkerLost: grpc.StatusCode.UNAVAILABLE,
    errors.ModelLoadFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfDeviceMemory: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutputTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.QueueTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.DeadlineTooShort: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.InferenceFailed: grpc.StatusCode.INTERNAL,
    errors.NotSupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.DeviceFailed: grpc.StatusCode.UNAVAILABLE,
    errors.ListenerFailed: grpc.StatusCode.UNAVAILABLE,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ControlDisabled: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LoadRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BadOverride: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownToLoad: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.RegionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.RegionNotOpened: grpc.StatusCode.NOT_FOUND,
    errors.RegionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.JitneyError: grpc.StatusCode.INTERNAL,
}


COMPAT: Final[Table] = {
    errors.Overloaded: grpc.StatusCode.UNAVAILABLE,
    errors.QueueTimeout: grpc.StatusCode.UNAVAILABLE,
    errors.ControlDisabled: grpc.StatusCode.UNAVAILABLE,
    errors.RegionNotOpened: grpc.StatusCode.INTERNAL,
    errors.LoadRefused: grpc.StatusCode.INTERNAL,
    errors.BadOverride: grpc.StatusCode.INTERNAL,
    errors.UnknownToLoad: grpc.StatusCode.INTERNAL,
    # To call a version that could not be loaded; to load it is LoadRefused.
    errors.ModelLoadFailed: grpc.StatusCode.UNAVAILABLE,
}
"""Where Triton's codes are others (``server.triton_compat``): protocol.md, section 14."""


class Context(Protocol):
    """What we use of grpc.aio's servicer context; it has no types of its own."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the call's deadline."""

    def peer(self) -> str:
        """Return the other end's address, such as ``ipv4:127.0.0.1:50123``."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """Return the metadata that came with the call."""

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        """Call back when the call is over, its reply with it."""

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str,
        trailing_metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> NoReturn:
        """End the call by raising."""


class Statuses:
    """Says with which status a call ends.

    ``compat`` gives Triton's codes where ours are others, for programs that compare them. Reasons
    and advice beside the code stay: nobody who does not know them reads them.
    """

    def __init__(self, *, compat: bool = False) -> None:
        self._codes: Table = {**CODES, **COMPAT} if compat else CODES

    def code_of(self, error: Exception) -> grpc.StatusCode:
        """Return the code of an error; that of its nearest base if it has none of its own.

        What is not ours to raise is a bug, and INTERNAL.
        """
        for kind in type(error).__mro__:
            if kind in self._codes:
                return self._codes[kind]
        return grpc.StatusCode.INTERNAL

    async def abort(
        self, context: Context, error: Exception, request: Request | None = None
    ) -> NoReturn:
        """End a call with the status of an error; overload carries the advice when to come back.

        Lost and loading workers carry a short wait as well, so that a retrying client does not
        spend its attempts within the milliseconds that a restart takes. Where there is no advice,
        the call is not worth repeating, or not here. Of a bug the caller is told a number only.

        :param request: what the call asked for, for the log.
        """
        if not isinstance(error, errors.JitneyError):
            await context.abort(grpc.StatusCode.INTERNAL, logged(error, request))
        code, text = self.code_of(error), _fitted(str(error))
        pushback = _pushback(error)
        status = status_pb2.Status(code=code.value[0], message=text).SerializeToString()
        metadata: list[tuple[str, str | bytes]] = [
            (REASON, error.reason),
            (DETAILS, status + _details(error.reason, pushback)),
        ]
        if pushback is not None:
            metadata.append((PUSHBACK, str(pushback)))
        await context.abort(code, text, tuple(metadata))


def text_of(error: Exception, request: Request | None = None) -> str:
    """Return what a caller may read of an error: of a bug, a number that the log has as well."""
    if isinstance(error, errors.JitneyError):
        return _fitted(str(error))
    return logged(error, request)


def logged(error: Exception, request: Request | None = None) -> str:
    """Log a bug under a number; return a text for the caller that has it."""
    facts: dict[str, object] = {}
    if request is not None:
        facts = {"request_id": request.id, "model": request.header.model_name}
        if request.model is not None:
            facts["version"] = request.model.version
    return numbered(log, "an RPC failed", error, **facts)


def _pushback(error: errors.JitneyError) -> int | None:
    """Return after how many milliseconds the call may be repeated, None for no advice."""
    if isinstance(error, errors.Overloaded):
        seconds = error.retry_after
    elif isinstance(error, errors.ModelNotReady | errors.WorkerLost):
        seconds = SOON
    else:
        return None
    return max(1, round(min(seconds * 1000, LONGEST_PUSHBACK)))


@functools.lru_cache(maxsize=1024)
def _details(reason: str, pushback: int | None) -> bytes:
    """Return the serialised field ``details`` of a ``google.rpc.Status``.

    Serialised messages that follow each other are one message, so the rest of the status may stand
    before it. Under overload thousands of calls a second end with the same few.
    """
    status = status_pb2.Status()
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    if pushback is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(pushback)
        status.details.add().Pack(retry)
    details: bytes = status.SerializeToString()
    return details


def _fitted(text: str) -> str:
    """Cut a text to ``MAX_TEXT`` bytes as gRPC writes it: three for what is not plain ASCII."""
    if len(text) * 12 <= MAX_TEXT:  # twelve bytes are the most that one character takes
        return text
    size = 0
    for i, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        size += 1 if plain else 3 * len(character.encode("utf-8", "replace"))
        if size > MAX_TEXT:
            return f"{text[:i]}..."
    return text
