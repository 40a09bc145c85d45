"""A clock that moves only when it is told to."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeClock", "FakeTimer"]


class FakeTimer:
    """A call at ``when``, until it ran or was taken back."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<FakeTimer {self.when:g}{'' if self.callback else ' cancelled'}>"

    def cancel(self) -> None:
        """Take the call back; after it ran, do nothing."""
        self.callback = None


class FakeClock:
    """A ``clock.Clock`` on which no time passes but by ``advance``.

    Calls run on the thread that calls ``advance`` or ``run_soon``, never earlier: like on an event
    loop, ``call_soon`` returns before its callback runs. While a timer's callback runs, ``now()``
    is exactly the moment it was asked for, so timing can be compared with ``==``.

    ``now()`` starts at a number that binary fractions represent exactly and that is not 0, so that
    code that takes 0 for "never" is found out.
    """

    def __init__(self, now: float = 1024.0) -> None:
        self._now = now
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._sequence = itertools.count()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<FakeClock {self._now:g}, {len(self._soon)} soon, {len(self.timers)} timers>"

    @property
    def timers(self) -> list[float]:
        """The moments of the timers that are set, ascending."""
        return sorted(when for when, _, timer in self._timers if timer.callback is not None)

    def now(self) -> float:
        """Return the time in seconds."""
        return self._now

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` in the next ``run_soon`` or ``advance``."""
        self._soon.append(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        """Run ``callback`` in the ``advance`` that reaches ``when``."""
        timer = FakeTimer(when, callback)
        heapq.heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def run_soon(self, at_most: int = 10_000) -> int:
        """Run what was asked for soon, and what that asks for in turn; return how many calls.

        :param at_most: more calls than this are a loop that never ends.
        :raises RuntimeError: when there are more.
        """
        count = 0
        while self._soon:
            if count == at_most:
                msg = f"{count} calls were made and each asked for another"
                raise RuntimeError(msg)
            self._soon.popleft()()
            count += 1
        return count

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every timer on the way; also run what is due soon.

        ``advance(0)`` runs the timers of this very moment.
        """
        end = self._now + seconds
        self.run_soon()
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is None:
                continue
            self._now = max(self._now, when)
            callback()
            self.run_soon()
        self._now = end
