"""How cautious to plan, by what came of it."""

from __future__ import annotations

from typing import Final

__all__ = ["Margin"]

WINDOW: Final = 1000
TOLERATED: Final = 5
"""Late ones among ``WINDOW``: 0.5 %."""
RAISE: Final = 1.1
RELAX: Final = 0.99
LEAST: Final = 1.0
MOST: Final = 6.0


class Margin:
    """``z``: the standard deviations between the mean and what is planned with.

    Grows by a tenth as soon as more than 0.5 % of a window of 1000 were late, and shrinks by a
    hundredth at the end of a window without. It grows at most once per window: the table itself
    follows a slower device within some twenty batches, and the late ones of that time do not tell
    that the margin was too small.
    """

    __slots__ = ("_late", "_raised", "_seen", "z")

    def __init__(self, z: float) -> None:
        self.z = z
        self._seen = self._late = 0
        self._raised = False

    def __repr__(self) -> str:
        """Return the present figure."""
        return f"<Margin {self.z:.2f}, {self._late} late of {self._seen}>"

    def outcome(self, on_time: int, late: int) -> None:
        """Count what was promised and came in time, or late."""
        self._seen += on_time + late
        self._late += late
        if self._late > TOLERATED and not self._raised:
            self._raised = True
            self.z = min(MOST, max(LEAST, self.z * RAISE))
        if self._seen >= WINDOW:
            if not self._raised:
                self.z = min(MOST, max(LEAST, self.z * RELAX))
            self._seen = self._late = 0
            self._raised = False
