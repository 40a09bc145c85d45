"""The places of a model's active sequences."""

from __future__ import annotations

import heapq

__all__ = ["Places"]


class Places:
    """Numbers from 0 on, of which the lowest that is free is taken first.

    With the direct strategy they are the rows of batches: low ones leave fewer gaps.
    """

    __slots__ = ("_beyond", "_freed")

    def __init__(self) -> None:
        self._freed: list[int] = []
        self._beyond = 0

    def __len__(self) -> int:
        """Return how many are taken."""
        return self._beyond - len(self._freed)

    def take(self, limit: int) -> int | None:
        """Take the lowest free one; None where that is not below ``limit``."""
        if self._freed:
            return heapq.heappop(self._freed) if self._freed[0] < limit else None
        if self._beyond >= limit:
            return None
        self._beyond += 1
        return self._beyond - 1

    def free(self, place: int) -> None:
        """Give one back."""
        heapq.heappush(self._freed, place)
