"""A sequence, while it lasts."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jitney.sequencing.step import Step

__all__ = ["NO_PLACE", "LiveSequence"]

NO_PLACE: Final = -1


class LiveSequence:
    """A sequence, from its first request to the end of its last.

    Its state is what follows from these:

    - ``running`` is the one request of it that the scheduler has; ``waiting`` are those behind.
    - ``place`` is NO_PLACE while it waits for one, in the backlog; then nothing of it is running,
      and the first that waits is a START.
    - ``open`` tells that the last request that came did not end it: another may come without START.

    One without requests is idle while it is open, and gone when it is not. A START makes it another
    sequence of the same id, wherever it stands: what comes after it must not run before it.
    """

    __slots__ = ("id", "open", "place", "running", "waiting")

    def __init__(self, id: int | str) -> None:  # noqa: A002  # the protocol's word
        self.id = id
        self.open = False
        self.place = NO_PLACE
        self.running: Step | None = None
        self.waiting: deque[Step] = deque()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        where = "backlog" if self.place == NO_PLACE else f"place {self.place}"
        what = "runs" if self.running else "open" if self.open else "closed"
        return f"<LiveSequence {self.id!r} {where}, {what}, {len(self.waiting)} waiting>"

    @property
    def is_busy(self) -> bool:
        """Whether a request of it has not ended."""
        return self.running is not None or bool(self.waiting)

    def remove(self, step: Step) -> list[Step]:
        """Take a waiting request out; return it and what cannot be run without it."""
        at = self.waiting.index(step)
        del self.waiting[at]
        return [step, *(self.orphans(at) if step.starts else ())]

    def orphans(self, first: int = 0) -> list[Step]:
        """Take out and return what continues a START that came to nothing.

        It would be run on the state of whichever sequence had been in its place.

        :param first: the index of the first that does, among those that wait.
        """
        starts = (at for at, step in enumerate(self.waiting) if at >= first and step.starts)
        last = next(starts, len(self.waiting))
        if last == len(self.waiting):
            self.open = False
        found = list(islice(self.waiting, first, last))
        if found:
            rest = islice(self.waiting, last, None)
            self.waiting = deque([*islice(self.waiting, first), *rest])
        return found
