"""Metadata of calls as parameters of their requests, for models that read them."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jitney.transport.status import Context
    from jitney.types import Request, RequestHeader

    Forwarder = Callable[[Request], None]

__all__ = ["MetadataForwarder"]

MAX_FORWARDED: Final = 64
MAX_NAME: Final = 128
MAX_TEXT: Final = 256
"""As the codec has them for parameters that come in the request."""
REMEMBERED: Final = 1024
"""Headers kept; past it all are forgotten. Calls of one client mostly bring the same metadata."""

OURS: Final = re.compile(
    r"priority|timeout|sequence_\w+|triton_.*|jitney_.*|grpc-.*|.*-bin"
    r"|authorization|proxy-authorization|cookie"
)
"""Keys that are never forwarded: what the server acts on has to stand in the request itself, where
the codec checks it; what holds bytes is no text; and what says who somebody is is no model's
business."""


class MetadataForwarder:
    """Adds the metadata whose keys match a pattern to the parameters of a call's requests.

    Triton's ``--grpc-header-forward-pattern``. Keys are matched as a whole. A parameter that came
    in the request itself stays as it is. Like those, keys and texts are cut to a bounded size.

    :param pattern: a regular expression of Python; that it is one was checked with the settings.
    """

    def __init__(self, pattern: str) -> None:
        self._matches = re.compile(pattern).fullmatch
        self._headers: dict[tuple[RequestHeader, tuple[tuple[str, str], ...]], RequestHeader] = {}

    def of_call(self, context: Context) -> Forwarder | None:
        """Return what adds a call's metadata to a request of it, None where nothing matches."""
        found: dict[str, str] = {}
        for key, value in context.invocation_metadata() or ():
            if len(found) == MAX_FORWARDED:
                break
            wanted = isinstance(value, str) and len(key) <= MAX_NAME and self._matches(key)
            if wanted and not OURS.fullmatch(key):
                found[key] = str(value)[:MAX_TEXT]
        return functools.partial(self._add, found) if found else None

    def _add(self, found: Mapping[str, str], request: Request) -> None:
        header = request.header
        # Headers are interned, so that what follows from them is worked out once.
        key = (header, tuple(found.items()))
        other = self._headers.get(key)
        if other is None:
            other = dataclasses.replace(header, parameters={**found, **(header.parameters or {})})
            if header.recurs:
                if len(self._headers) >= REMEMBERED:
                    self._headers.clear()
                self._headers[key] = other
        request.header = other
