"""A device that only takes time: what stands in for a GPU where there is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SimDevice", "Span", "sleep_until"]


class Span(NamedTuple):
    """When the device began with a batch and when it was done, in monotonic seconds."""

    began: float
    ended: float


def sleep_until(moment: float) -> None:
    """Sleep until a moment in monotonic seconds; other threads run meanwhile, as in a forward."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)


class SimDevice:
    """Runs batches one after the other, each for as long as it is told.

    A batch begins when it comes, or when the one before it was to end, whichever is later, and ends
    exactly so many seconds after that: both are computed. What a sleep takes too long delays the
    news of the end and makes no batch longer. Rejected: to time the sleep itself, which would tell
    the latency model about this machine's timers instead of about the device.
    """

    def __init__(self, wait_until: Callable[[float], None] = sleep_until) -> None:
        """Be free at once.

        :param wait_until: returns when a moment, in monotonic seconds, has come.
        """
        self._wait_until = wait_until
        self.free_at = float("-inf")
        self.busy_seconds = 0.0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<SimDevice free at {self.free_at:g}, {self.busy_seconds:g} s busy>"

    def run(self, seconds: float, now: float) -> Span:
        """Run a batch of ``seconds`` that comes at ``now``; return when it is over."""
        began = max(now, self.free_at)
        self.free_at = began + seconds
        self.busy_seconds += seconds
        self._wait_until(self.free_at)
        return Span(began, self.free_at)
