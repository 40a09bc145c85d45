"""Time, as the rest of the program sees it.

Nothing outside this module and the worker's stamps reads a clock; the scheduler's pure core does
not even see this protocol, it is given ``now``.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol

from jitney.fine_timer import FineTimers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Clock", "LoopClock", "Timer", "wall_seconds"]


FINE_BELOW: Final = 0.01
"""Seconds; longer delays are left to the loop's own timers, whose milliseconds do."""


class Timer(Protocol):
    """A call that was asked for and may be taken back."""

    def cancel(self) -> None:
        """Take the call back; after it ran, do nothing."""


class Clock(Protocol):
    """Monotonic seconds, and calls at a later time on the thread that owns the scheduler."""

    def now(self) -> float:
        """Return monotonic seconds; comparable between processes of one machine."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` after the events that are already at hand."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` once ``now() >= when``."""


class LoopClock:
    """The real clock, bound to the event loop that owns the scheduler.

    ``time.monotonic`` reads CLOCK_MONOTONIC, as the workers' stamps do, so that durations may be
    taken between a stamp of the server and one of a worker.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fine: FineTimers | None = None
        with contextlib.suppress(OSError):
            self._fine = FineTimers(loop)

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` in the next turn of the loop."""
        self._loop.call_soon(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` at ``when``; within the millisecond where the platform can."""
        delay = when - time.monotonic()
        if delay < FINE_BELOW and self._fine is not None:
            return self._fine.call_at(when, callback)
        # The loop's own clock may differ from ours, so only the delay counts.
        return self._loop.call_later(max(0.0, delay), callback)

    def close(self) -> None:
        """Give back what the timers hold."""
        if self._fine is not None:
            self._fine.close()


def wall_seconds() -> float:
    """Return seconds since the epoch, for people and protocols; never for a duration."""
    return time.time()
