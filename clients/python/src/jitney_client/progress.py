"""How far a long run is: a line on the terminal, or a function that is told."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    Told = Callable[[int, int | None], None]

__all__ = ["Progress"]

EVERY: Final = 0.1
"""Seconds between two lines."""
WIDTH: Final = 24
CLEAR: Final = "\r\x1b[K"


class Progress:
    """Counts what is done.

    :param show: True for a line on the terminal, which is left out where standard error is none; a
        function gets the number done and the number of all, None where that is not known.
    :param total: the number of all.
    """

    def __init__(
        self,
        show: bool | Told | None,  # noqa: FBT001  # what callers of infer_many write
        total: int | None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._told = show if callable(show) else None
        self._shown = show is True and self._stream.isatty()
        self._total = total
        self._clock = clock
        self._begun = self._next = clock()
        self._done = 0

    def advance(self) -> None:
        """Count one more."""
        self._done += 1
        if self._told is not None:
            self._told(self._done, self._total)
        if self._shown and (now := self._clock()) >= self._next:
            self._next = now + EVERY
            self._write(self._line(now - self._begun))

    def close(self) -> None:
        """Leave the last line standing."""
        if self._shown and self._done:
            self._write(self._line(self._clock() - self._begun) + "\n")
        self._shown = False

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds if seconds > 0 else 0.0
        if not self._total:
            return f"{self._done} done, {rate:.0f}/s, {_clock_time(seconds)}"
        full = min(WIDTH, WIDTH * self._done // self._total)
        bar = "#" * full + "." * (WIDTH - full)
        left = (self._total - self._done) / rate if rate else 0.0
        return (
            f"[{bar}] {self._done}/{self._total} ({100 * self._done // self._total} %), "
            f"{rate:.0f}/s, {_clock_time(left)} left"
        )

    def _write(self, line: str) -> None:
        self._stream.write(CLEAR + line)
        self._stream.flush()


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
