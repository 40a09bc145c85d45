"""What ``jitney predict`` shows while it scores."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TextIO

from jitney.cli.table import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.scoring.scorer import Standing

__all__ = ["ScoringBar"]

EVERY: Final = 0.1
"""Seconds between two lines."""
WIDTH: Final = 24
CLEAR: Final = "\r\x1b[K"


class ScoringBar:
    """One line that changes, on a terminal; nothing elsewhere.

    How much of the file was read tells what remains: of a file of text, nobody knows the number of
    rows before the end. What an earlier run had done counts for the bar, and not for the rate.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._clock = clock
        self._began = self._next = clock()
        self._fraction: float | None = None

    def begin(self, fraction: float) -> None:
        """Start the clock.

        :param fraction: of the file, what was done before.
        """
        self._began = self._next = self._clock()
        self._fraction = fraction

    def show(self, standing: Standing) -> None:
        """Show how far it is."""
        now = self._clock()
        if self._live and now >= self._next:
            self._next = now + EVERY
            self._stream.write(CLEAR + self._line(standing, now - self._began))
            self._stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._live:
            self._stream.write(CLEAR)
            self._stream.flush()

    def _line(self, standing: Standing, seconds: float) -> str:
        done, share = standing.rows + standing.before, standing.fraction
        full = min(WIDTH, int(WIDTH * share))
        rate = standing.rows / seconds if seconds > 0 else 0.0
        gained = share - (self._fraction or 0.0)
        left = f", {duration(seconds * (1 - share) / gained)} left" if gained > 0 else ""
        failed = f", {standing.failed:,} failed" if standing.failed else ""
        bar = "#" * full + "." * (WIDTH - full)
        return f"[{bar}] {share:4.0%}  {done:,} rows, {rate:,.0f}/s{left}{failed}"
