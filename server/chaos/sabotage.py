"""Defects to put into a server, so that whoever looks for them can be seen to find them."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final

from jitney.engine import Engine
from jitney.telemetry.metrics import Metrics
from jitney.transport.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.types import ModelRef

__all__ = ["SABOTAGES"]

EVERY: Final = 50
LEAKED_BYTES: Final = 512
_kept: list[object] = []


def _swap_replies() -> None:
    """Give the replies of two requests of a batch to each other, now and then."""
    right, count = Codec.reply, itertools.count(1)

    def reply(self: Codec, *args: Any, **options: Any) -> list[Any]:  # noqa: ANN401  # passed on
        replies = right(self, *args, **options)
        if len(replies) > 1 and not next(count) % 5:
            replies[0], replies[1] = replies[1], replies[0]
        return replies

    Codec.reply = reply  # type: ignore[method-assign]  # that is what it is about


def _leak() -> None:
    """Keep some bytes of every request, and a descriptor of some."""
    right, count = Engine.submit, itertools.count(1)

    def submit(self: Engine, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # passed on
        _kept.append(bytearray(LEAKED_BYTES))
        if not next(count) % EVERY:
            _kept.append(os.open(os.devnull, os.O_RDONLY))
        return right(self, *args, **options)

    Engine.submit = submit  # type: ignore[method-assign]


def _miscount() -> None:
    """Forget to count a call now and then."""
    right, count = Metrics.request_ended, itertools.count(1)

    def request_ended(self: Metrics, model: ModelRef | None, method: str, code: str) -> None:
        if next(count) % EVERY:
            right(self, model, method, code)

    Metrics.request_ended = request_ended  # type: ignore[method-assign]


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    "swap_replies": _swap_replies,
    "leak": _leak,
    "miscount": _miscount,
}
"""By name; each changes this process for good."""
