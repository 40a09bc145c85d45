"""Which trace a call belongs to, as its caller says in W3C Trace Context."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TRACE_ID", "Parent", "parent_of"]

TRACE_ID: Final[ContextVar[str]] = ContextVar("TRACE_ID", default="")
"""The trace of the call that is being handled, in hexadecimal, if spans are made of it."""

TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
MAX_STATE: Final = 512
"""Characters of a ``tracestate`` that is passed on, as the recommendation asks for at least."""
SAMPLED: Final = 1


class Parent(NamedTuple):
    """The caller's span; ``sampled`` tells whether spans are made of it."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""


def parent_of(metadata: Iterable[tuple[str, str | bytes]]) -> Parent | None:
    """Return what ``traceparent`` and ``tracestate`` say, None where that is nothing valid.

    https://www.w3.org/TR/trace-context/: of a version that is not known, what is like version 0 is
    read; of several ``traceparent`` none is, and several ``tracestate`` are one list.
    """
    found, states = None, ""
    for key, value in metadata:
        if key == "traceparent":
            if found is not None:
                return None
            found = value
        elif key == "tracestate" and isinstance(value, str):
            states = f"{states},{value}" if states else value
    if not isinstance(found, str) or (match := TRACEPARENT.fullmatch(found)) is None:
        return None
    version, trace, span, flags, more = match.groups()
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id or version == "ff" or (version == "00" and more):
        return None
    sampled = bool(int(flags, 16) & SAMPLED)
    return Parent(trace_id, span_id, sampled, states if len(states) <= MAX_STATE else "")
