"""How long to wait before a new worker."""

from __future__ import annotations

from typing import Final

__all__ = ["Backoff"]

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 30.0
"""Seconds: the first and the longest wait."""


class Backoff:
    """Doubles with each process that ended before it did anything useful, and begins anew after."""

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Backoff {self._next:g} s>"

    def after(self, *, worked: bool) -> float:
        """Return the seconds to wait after the end of a process.

        :param worked: whether it had answered a batch, or lived for long.
        """
        if worked:
            self._next = FIRST_DELAY
        delay, self._next = self._next, min(LAST_DELAY, 2 * self._next)
        return delay
