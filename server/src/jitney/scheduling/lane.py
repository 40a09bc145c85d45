"""Waiting entries in the order in which they should leave."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from jitney.scheduling.batch import PRIORITIES

if TYPE_CHECKING:
    from jitney.scheduling.batch import Entry

__all__ = ["Lane"]


class Lane:
    """Entries by ascending ``position``; those of equal position in the order of their arrival.

    Two flat lists, searched by bisection. Taking the first few of ten thousand, or one out of the
    middle, moves 80 KB of pointers: some microseconds. A heap would be faster to insert into, but
    forming a batch asks for the first hundred in order; marking dead entries instead of removing
    them was tried, and every reader then paid for stepping over them.

    Invariants: ``entries`` and ``positions`` correspond; ``rows`` and ``nbytes`` are their sums,
    ``classes`` the numbers of entries of each class.
    """

    __slots__ = ("classes", "entries", "nbytes", "positions", "rows")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.positions: list[float] = []
        self.rows = 0
        self.nbytes = 0
        self.classes = [0] * PRIORITIES

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.entries)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Lane {len(self.entries)} entries, {self.rows} rows>"

    def push(self, entry: Entry) -> None:
        """Insert an entry."""
        position, positions = entry.position, self.positions
        self.rows += entry.rows
        self.nbytes += entry.nbytes
        self.classes[entry.priority] += 1
        if not positions or position >= positions[-1]:
            positions.append(position)
            self.entries.append(entry)
            return
        index = bisect_right(positions, position)
        positions.insert(index, position)
        self.entries.insert(index, entry)

    def remove(self, entry: Entry) -> None:
        """Take out an entry that is here."""
        index = bisect_left(self.positions, entry.position)
        entries = self.entries
        while entries[index] is not entry:
            index += 1
        del self.positions[index], entries[index]
        self._count_out(entry)

    def remove_range(self, first: int, end: int) -> None:
        """Take out the entries ``first`` … ``end`` - 1."""
        rows = nbytes = 0
        classes = self.classes
        for entry in self.entries[first:end]:
            rows += entry.rows
            nbytes += entry.nbytes
            classes[entry.priority] -= 1
        self.rows -= rows
        self.nbytes -= nbytes
        del self.entries[first:end], self.positions[first:end]

    def _count_out(self, entry: Entry) -> None:
        self.rows -= entry.rows
        self.nbytes -= entry.nbytes
        self.classes[entry.priority] -= 1

    @property
    def is_mixed(self) -> bool:
        """Whether there are entries of more than one class."""
        return max(self.classes) != len(self.entries)

    def rows_before(self, position: float) -> float:
        """Return about how many rows leave before ``position``: by count, at the mean size."""
        entries = len(self.entries)
        if not entries:
            return 0.0
        return bisect_right(self.positions, position) * (self.rows / entries)

    def share_of_classes(self, priority: int) -> float:
        """Return the share of the entries that are of class ``priority`` or a better one."""
        return sum(self.classes[: priority + 1]) / len(self.entries)
