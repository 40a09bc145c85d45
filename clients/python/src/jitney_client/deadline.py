"""The moment by which a call has to end."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["NEVER", "Deadline"]

FOREVER: Final = 1e8
"""Seconds, three years: what is further away overflows in gRPC, and ends at once."""


class Deadline:
    """A timeout that runs: what is left of it is the timeout of whatever comes next.

    :param timeout: seconds; None never ends, nor does what is infinite.
    """

    __slots__ = ("_at", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        endless = timeout is None or timeout > FOREVER
        self._at = None if endless else time.monotonic() + timeout  # type: ignore[operator]  # it is a number then

    def remaining(self) -> float | None:
        """Return the seconds that are left, at least 0; None where it never ends."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def passed(self) -> bool:
        """Return whether nothing is left."""
        return self._at is not None and time.monotonic() >= self._at


NEVER = Deadline(None)
"""The one that never ends."""
