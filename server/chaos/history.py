"""What callers saw of their requests, and whether all of it can be true (Jepsen's way)."""

from __future__ import annotations

import collections
from typing import Final, NamedTuple

__all__ = ["OK", "Ended", "History"]

OK: Final = "OK"
WRONG: Final = "WRONG"
"""Not a status: an answer came, and it is not the one to this request."""


class Ended(NamedTuple):
    """The end of a request: monotonic seconds, the status, and the server's word for why."""

    number: int
    began: float
    ended: float
    code: str
    reason: str = ""
    stamp: int = -1

    @property
    def seconds(self) -> float:
        """How long the caller waited."""
        return self.ended - self.began


class History:
    """Every request of a run: invoked once, ended once.

    ``keep`` remembers each end with its times; without it only the counts stay, for runs of
    millions. ``problems`` are in words; none is a pass.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._open: dict[int, float] = {}
        self.ends: list[Ended] = []
        self.codes: collections.Counter[str] = collections.Counter()
        self.reasons: collections.Counter[str] = collections.Counter()
        self.invoked = 0
        self.wrong = 0
        self.double = 0
        self.problems: list[str] = []

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<History {self.invoked} invoked, {len(self._open)} open, {dict(self.codes)}>"

    @property
    def open(self) -> int:
        """Requests that have not ended; when all callers are done, those are lost."""
        return len(self._open)

    def invoke(self, number: int, now: float) -> None:
        """Note that a caller sends a request; each number once."""
        if number in self._open:
            self._problem(f"request {number} was sent twice")
        self._open[number] = now
        self.invoked += 1

    def end(self, number: int, now: float, code: str, reason: str = "", *, stamp: int = -1) -> None:
        """Note how a request ended.

        :param stamp: which load of its model answered it, where that is known.
        """
        began = self._open.pop(number, None)
        if began is None:
            self.double += 1
            self._problem(f"request {number} ended twice, or was never sent")
            return
        self.codes[code] += 1
        if reason:
            self.reasons[reason] += 1
        if self._keep:
            self.ends.append(Ended(number, began, now, code, reason, stamp))

    def wrongly(self, number: int, now: float, what: str) -> None:
        """Note an answer that is not the one to its request."""
        self.wrong += 1
        self._problem(f"request {number} was answered wrongly: {what}")
        self.end(number, now, WRONG)

    def latencies(self, code: str = OK) -> list[float]:
        """Return how many seconds each request took that ended so."""
        return [end.seconds for end in self.ends if end.code == code]

    def later_than(self, seconds: float) -> int:
        """Return how many requests were answered OK more than so many seconds after they began."""
        return sum(end.code == OK and end.seconds > seconds for end in self.ends)

    def stamp_problems(self, loads: list[tuple[float, float, int]]) -> int:
        """Return how many answers came from a load that could not have been serving.

        :param loads: began, ended (monotonic seconds) and the stamp of each load, in order. One
            that is being replaced may serve until the next load has ended, and a new one may serve
            from when its load began.
        """
        bad = 0
        for end in self.ends:
            if end.code != OK:
                continue
            oldest = max((s for _, done, s in loads if done <= end.began), default=0)
            newest = max((s for began, _, s in loads if began <= end.ended), default=0)
            if not oldest <= end.stamp <= newest:
                bad += 1
                self._problem(
                    f"request {end.number} was answered by load {end.stamp}, expected one of "
                    f"{oldest} to {newest}"
                )
        return bad

    def _problem(self, text: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(text)
