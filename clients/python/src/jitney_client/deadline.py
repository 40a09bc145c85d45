"""The moment by which a call has to end."""

from __future__ import annotations

import time

__all__ = ["NEVER", "Deadline"]


class Deadline:
    """A timeout that runs: what is left of it is the timeout of whatever comes next.

    :param timeout: seconds; None never ends.
    """

    __slots__ = ("_at", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Return the seconds that are left, at least 0; None where it never ends."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def passed(self) -> bool:
        """Return whether nothing is left."""
        return self._at is not None and time.monotonic() >= self._at


NEVER = Deadline(None)
"""The one that never ends."""
