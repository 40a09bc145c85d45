"""Waiting entries by a number of theirs: the moment at which they expire, or their turn."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Final

from jitney.scheduling.batch import State

if TYPE_CHECKING:
    from collections.abc import Container

    from jitney.scheduling.batch import Entry
    from jitney.types import ModelRef

__all__ = ["EntryHeap"]

SPARE: Final = 64


class EntryHeap:
    """A heap in which entries that left otherwise stay until they come up.

    They are swept out when they are more than half of it, so that their tensors are not kept for
    as long as their deadlines were away; that costs O(1) for each that leaves.
    """

    __slots__ = ("_heap", "_live", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._live = 0
        self._sequence = itertools.count()

    def __len__(self) -> int:
        """Return how many places are taken, by those that wait and those that left."""
        return len(self._heap)

    def push(self, number: float, entry: Entry) -> None:
        """Add an entry that begins to wait."""
        self._live += 1
        heapq.heappush(self._heap, (number, next(self._sequence), entry))

    def postpone(self, number: float, entry: Entry) -> None:
        """Add one again that ``pop_until`` took out and that waits on."""
        heapq.heappush(self._heap, (number, next(self._sequence), entry))

    def left(self, count: int = 1) -> None:
        """Note that entries no longer wait."""
        self._live -= count
        # When nothing waits, nobody's tensors are kept at all.
        if len(self._heap) > (2 * self._live + SPARE if self._live > 0 else 0):
            self._heap = [item for item in self._heap if item[2].state is State.QUEUED]
            heapq.heapify(self._heap)

    def pop_until(self, number: float) -> list[Entry]:
        """Take out and return the waiting entries below ``number``.

        For each of them ``left`` or ``postpone`` has to follow.
        """
        heap = self._heap
        due = []
        while heap and (heap[0][0] < number or heap[0][2].state is not State.QUEUED):
            entry = heapq.heappop(heap)[2]
            if entry.state is State.QUEUED:
                due.append(entry)
        return due

    def next(self) -> float | None:
        """Return the smallest number, None if nothing waits."""
        heap = self._heap
        while heap and heap[0][2].state is not State.QUEUED:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def first(self, count: int, models: Container[ModelRef]) -> list[Entry]:
        """Return ``count`` waiting entries of some models: the very first, and near ones."""
        self.next()
        found: list[Entry] = []
        for _, _, entry in self._heap:
            if entry.state is State.QUEUED and entry.key.model in models:
                found.append(entry)
                if len(found) == count:
                    break
        return found
