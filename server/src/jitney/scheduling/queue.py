"""The entries that wait under one key."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from jitney.scheduling.batch import State

if TYPE_CHECKING:
    from jitney.scheduling.batch import BatchKey, Entry

__all__ = ["KeyQueue"]


class KeyQueue:
    """A first-in, first-out queue of the entries of one key.

    Cancelling is O(1): the entry is marked and stepped over later, because taking it out of the
    middle would cost a search per cancelled request, exactly when an overloaded server has long
    queues and impatient callers. Marked entries are swept out when they outnumber the live ones.

    Invariants:

    - ``rows`` and ``nbytes`` count live entries only;
    - ``head()`` is live;
    - at most as many dead entries are kept as live ones (and a few).
    """

    __slots__ = ("_dead", "_entries", "key", "nbytes", "rows")

    def __init__(self, key: BatchKey) -> None:
        self.key = key
        self.rows = 0
        self.nbytes = 0
        self._dead = 0
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        """Return the number of live entries."""
        return len(self._entries) - self._dead

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<KeyQueue {self.key.model} {len(self)} entries, {self.rows} rows>"

    def push(self, entry: Entry) -> None:
        """Append a queued entry of this key."""
        self._entries.append(entry)
        self.rows += entry.rows
        self.nbytes += entry.nbytes

    def discard(self, entry: Entry) -> None:
        """Forget an entry that is in this queue and whose state has just left QUEUED."""
        self.rows -= entry.rows
        self.nbytes -= entry.nbytes
        self._dead += 1
        if self._dead > len(self._entries) // 2 + 8:
            self._entries = deque(e for e in self._entries if e.state is State.QUEUED)
            self._dead = 0
        else:
            self._step_over()

    def head(self) -> Entry | None:
        """Return the oldest live entry."""
        return self._entries[0] if self._entries else None

    def is_full(self) -> bool:
        """Whether the next batch would have no room for another row of this key."""
        return self.rows >= self.key.max_rows or self.nbytes >= self.key.max_bytes

    def take(self) -> tuple[list[Entry], int, int, bool]:
        """Remove the longest prefix that fits into one batch.

        :returns: the entries, their rows, their bytes, and whether the batch is full: it has all
            the rows or bytes it may have, or the next entry would not fit.
        """
        taken: list[Entry] = []
        rows = nbytes = 0
        max_rows, max_bytes = self.key.max_rows, self.key.max_bytes
        entries = self._entries
        full = False
        while entries:
            entry = entries[0]
            if entry.state is not State.QUEUED:
                entries.popleft()
                self._dead -= 1
                continue
            if taken and (rows + entry.rows > max_rows or nbytes + entry.nbytes > max_bytes):
                full = True
                break
            entries.popleft()
            entry.state = State.RUNNING
            taken.append(entry)
            rows += entry.rows
            nbytes += entry.nbytes
            if rows >= max_rows or nbytes >= max_bytes:
                full = True
                break
        self.rows -= rows
        self.nbytes -= nbytes
        self._step_over()
        return taken, rows, nbytes, full

    def _step_over(self) -> None:
        entries = self._entries
        while entries and entries[0].state is not State.QUEUED:
            entries.popleft()
            self._dead -= 1
