"""Calls within the millisecond, which no event loop offers.

asyncio and uvloop count their timers in whole milliseconds, because epoll does: a delay of 0.3 ms
becomes 0 or 1 ms. The kernel's timerfd has nanoseconds and wakes a loop like any socket. Python has
it from 3.13 on; before that it takes two calls of libc. Busy turns of the loop were the other
choice: exact as well, and a core lost to them.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["FineTimer", "FineTimers"]

CLOCK_MONOTONIC: Final = 1
TFD_TIMER_ABSTIME: Final = 1
FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
"""timerfd takes the values of these two under names of its own."""
NANOSECONDS: Final = 1_000_000_000


class _Interval(ctypes.Structure):
    """``struct itimerspec``: no repetition, and the moment in seconds and nanoseconds."""

    _fields_ = (
        ("repeat_seconds", ctypes.c_long),
        ("repeat_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class FineTimer:
    """A call that was asked for."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Take the call back; after it ran, do nothing."""
        self.callback = None


class FineTimers:
    """Timers of one event loop, on one timerfd; ``when`` is in the seconds of ``time.monotonic``.

    :raises OSError: where the kernel has no timerfd.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timerfd_create"):
            msg = "no timerfd on this platform"
            raise OSError(msg)
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Interval()
        self._timers: list[tuple[float, int, FineTimer]] = []
        self._sequence = itertools.count()
        self._loop = loop
        loop.add_reader(self._fd, self._fire)

    def call_at(self, when: float, callback: Callable[[], None]) -> FineTimer:
        """Run ``callback`` on the loop at ``when``."""
        timer = FineTimer(callback)
        heapq.heappush(self._timers, (when, next(self._sequence), timer))
        if self._timers[0][2] is timer:
            self._arm(when)
        return timer

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, when: float) -> None:
        # A moment in the past fires at once; 0 would disarm, and monotonic time is never 0.
        nanoseconds = int(when * NANOSECONDS)
        self._spec.seconds, self._spec.nanoseconds = divmod(nanoseconds, NANOSECONDS)
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was armed anew between the wake-up and now
        now = time.monotonic()
        timers = self._timers
        try:
            while timers and timers[0][0] <= now:
                callback = heapq.heappop(timers)[2].callback
                if callback is not None:
                    callback()
        finally:  # whatever a callback does, the others are not forgotten
            while timers and timers[0][2].callback is None:
                heapq.heappop(timers)
            if timers:
                self._arm(timers[0][0])
