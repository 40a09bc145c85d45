"""Errors to gRPC status codes: one table, tested to cover the whole taxonomy."""

from __future__ import annotations

from typing import Final, NoReturn, Protocol

import grpc

from jitney import errors

__all__ = ["CODES", "Context", "abort", "code_of"]

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Clients with a retry policy wait this long, or not at all if it is negative (gRFC A6)."""
REASON: Final = "jitney-reason"

MAX_TEXT: Final = 4096
"""Bytes of a text on the wire. Texts quote what callers sent; past 8 KiB of metadata gRPC's clients
drop the whole status, and show an error of their own that names neither the input nor the model."""

CODES: Final[dict[type[errors.JitneyError], grpc.StatusCode]] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BatchTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InputRejected: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.WorkerLost: grpc.StatusCode.UNAVAILABLE,
    errors.ModelLoadFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfDeviceMemory: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutputTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.InferenceFailed: grpc.StatusCode.INTERNAL,
    errors.NotSupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.DeviceFailed: grpc.StatusCode.UNAVAILABLE,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.JitneyError: grpc.StatusCode.INTERNAL,
}


def code_of(error: errors.JitneyError) -> grpc.StatusCode:
    """Return the code of an error; that of its nearest base if it has none of its own."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


class Context(Protocol):
    """What we use of grpc.aio's servicer context; it has no types of its own."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the call's deadline."""

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str,
        trailing_metadata: tuple[tuple[str, str], ...] = (),
    ) -> NoReturn:
        """End the call by raising."""


async def abort(context: Context, error: errors.JitneyError) -> NoReturn:
    """End a call with the status of an error; overload carries the advice when to come back.

    Lost and loading workers carry a short wait as well, so that a retrying client does not spend
    its attempts within the milliseconds that a restart takes.
    """
    metadata = [(REASON, error.reason)]
    if isinstance(error, errors.Overloaded):
        metadata.append((PUSHBACK, str(round(error.retry_after * 1000))))
    elif isinstance(error, errors.ModelNotReady | errors.WorkerLost):
        metadata.append((PUSHBACK, "200"))
    await context.abort(code_of(error), _fitted(str(error)), tuple(metadata))


def _fitted(text: str) -> str:
    """Cut a text to ``MAX_TEXT`` bytes as gRPC writes it: three for what is not plain ASCII."""
    size = 0
    for i, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        size += 1 if plain else 3 * len(character.encode("utf-8", "replace"))
        if size > MAX_TEXT:
            return f"{text[:i]}..."
    return text
