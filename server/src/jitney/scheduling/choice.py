"""What one queue would send next, and which of several such choices is best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.scheduling.batch import PRIORITIES, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.batch import Entry
    from jitney.scheduling.queue import KeyQueue

__all__ = ["BACKGROUND", "Choice", "Choices", "first_due"]

PATIENCE: Final = 1.0
"""Seconds after which an entry without deadline may claim the reserve."""
BACKGROUND: Final = 2 * PRIORITIES
"""The rank of entries without deadline."""


class Choice(NamedTuple):
    """A batch to be: ``timed`` and ``riders`` of ``queue``, in order; ``victims`` are given up.

    ``victims`` and ``timed`` are neighbours in their lane from ``at`` on, unless that is None.
    ``rank``, ``latest`` (when the batch must start) and ``density`` (what a second of the device
    yields) are for comparing choices, and ``yields_until`` is up to when it may be made to wait for
    the sake of a denser one of a lower rank. ``left_out`` are in time and go on waiting all the
    same: for padding, which costs more than their wait, or for a higher rank, or for their row.
    """

    queue: KeyQueue
    victims: Sequence[Entry]
    timed: Sequence[Entry]
    riders: Sequence[Entry]
    rows: int
    planned: float
    reason: Reason
    rank: int
    latest: float
    density: float
    at: int | None
    yields_until: float
    left_out: Sequence[Entry] = ()

    @property
    def is_full(self) -> bool:
        """Whether not even one row more would fit by the limits of a batch."""
        return self.reason is Reason.FULL


class Choices:
    """What the queues would send to a device.

    ``ready`` are those that should be sent now, ``background`` is the first in turn of what has no
    deadline, ready or not. ``some_full``: one of them has all that a batch may have.
    """

    __slots__ = ("background", "ready", "some_full")

    def __init__(self) -> None:
        self.ready: list[Choice] = []
        self.background: Choice | None = None
        self.some_full = False

    def add_background(self, choice: Choice) -> None:
        """Keep the one whose turn is first."""
        if self.background is None or choice.latest < self.background.latest:
            self.background = choice

    def best(self, others: Sequence[float]) -> Choice | None:
        """Return the choice that must start first, or a denser one that makes nobody late.

        A batch that is densest, rows per second of the device, goes first if all others can still
        start after it, one on each device as those become free, each with the time of its own run
        to spare. Simulated, this gains what little there is between earliest-deadline-first and
        the best order; with less to spare it loses more to what arrives meanwhile than it gains.

        :param others: when the other devices will be free, ascending.
        """
        if len(self.ready) == 1:
            return self.ready[0]
        if not self.ready or not others:
            return min(self.ready, key=first_due, default=None)
        choices = sorted(self.ready, key=first_due)
        best = first = choices[0]
        if first.rank == BACKGROUND or first.latest < others[0] + first.planned:
            return first
        for choice in choices[1:]:
            if choice.rank != first.rank:
                break
            if choice.density > best.density and _all_can_wait(choices, choice, others):
                best = choice
        return self._beyond(choices, others) or best

    def _beyond(self, choices: Sequence[Choice], others: Sequence[float]) -> Choice | None:
        """Return the first choice of those beyond their share, if the protected may wait for it.

        They would otherwise be served one by one as they come, in batches of a row or two, and all
        others get next to nothing.
        """
        protected = [choice for choice in choices if choice.rank < PRIORITIES]
        if not protected or len(protected) == len(choices):
            return None
        choice = choices[len(protected)]
        if choice.rank == BACKGROUND or choice.density <= protected[0].density:
            return None
        soon = others[min(len(protected), len(others)) - 1]
        if any(waits.yields_until < soon for waits in protected):
            return None
        return choice if _all_can_wait(protected, choice, others) else None

    def claim(self, now: float, owed: float) -> Choice | None:
        """Return background work that has waited for long, if the reserve suffices for it."""
        choice = self.background
        if choice is None or choice.planned > owed:
            return None
        return choice if now - choice.riders[0].arrived > PATIENCE else None


def first_due(choice: Choice) -> tuple[int, float, float]:
    """Return what choices are ordered by: rank, then what must start first."""
    return choice.rank, choice.latest, -choice.density


def _all_can_wait(choices: Sequence[Choice], but: Choice, others: Sequence[float]) -> bool:
    count = len(others)
    place = 0
    for choice in choices:
        if choice is but:
            continue
        free_at = others[place % count] + (place // count) * choice.planned
        if choice.latest < free_at + choice.planned:
            return False
        place += 1
    return True
