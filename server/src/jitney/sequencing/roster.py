"""The sequences of one model: who is active, who waits for a place, who is idle."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from jitney.errors import BatchTooLarge
from jitney.sequence import Strategy
from jitney.sequencing import refusals
from jitney.sequencing.controls import Controls
from jitney.sequencing.live_sequence import NO_PLACE
from jitney.sequencing.places import Places

if TYPE_CHECKING:
    from jitney.sequence import SequenceConfig
    from jitney.sequencing.live_sequence import LiveSequence
    from jitney.sequencing.step import Step

__all__ = ["Roster"]


class Roster:
    """Gives sequences their places, in the order in which they came.

    A sequence keeps its place until it ends. One that begins anew goes behind those that wait for a
    place: otherwise a caller who always begins the same one would keep them out for ever.

    ``waiting`` counts the requests that wait here, those of the backlog and those behind another of
    their sequence. ``idle`` has, for each idle sequence, when it is forgotten; the first is the
    next. Neither grows without bound: idle ones have places, and all others have requests here.
    ``retired`` tells that there will be no further requests, so that nobody need be idle.
    """

    __slots__ = (
        "_candidates",
        "_direct",
        "_places",
        "backlog",
        "controls",
        "idle",
        "max_idle",
        "retired",
        "sequences",
        "waiting",
    )

    def __init__(self, config: SequenceConfig) -> None:
        self.controls = Controls(config)
        self.max_idle = config.max_idle
        self.retired = False
        self.sequences: dict[int | str, LiveSequence] = {}
        # Ordered dicts, not dicts: their first is found at once however many left before it.
        self.backlog: OrderedDict[LiveSequence, None] = OrderedDict()
        self.idle: OrderedDict[LiveSequence, float] = OrderedDict()
        self.waiting = 0
        self._places = Places()
        self._direct = config.strategy is Strategy.DIRECT
        self._candidates = 0 if self._direct else config.max_candidates

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return (
            f"<Roster {len(self._places)} active, {len(self.idle)} of them idle, "
            f"{len(self.backlog)} in the backlog, {self.waiting} requests waiting>"
        )

    @property
    def active(self) -> int:
        """How many sequences have a place."""
        return len(self._places)

    def check_room(self, step: Step) -> None:
        """Check that one more request may wait.

        :raises Overloaded: when not.
        """
        if self.waiting >= step.key.max_queue_rows:
            raise refusals.queue_full(step, self.waiting)

    def seat(self, sequence: LiveSequence, step: Step) -> bool:
        """Give a sequence a place for its next request; return whether it has one now.

        Where it has none it is in the backlog, and may have left the place that it had.
        """
        if sequence.place != NO_PLACE:
            if not step.starts or (not self.backlog and sequence.place < self._limit(step)):
                return True
            self._vacate(sequence)
        if not self.backlog and self._take(sequence, step):
            return True
        self.backlog[sequence] = None
        return False

    def promote(self) -> LiveSequence | None:
        """Give the first of the backlog a place and return it, None where there is no place."""
        for sequence in self.backlog:
            if self._take(sequence, sequence.waiting[0]):
                del self.backlog[sequence]
                return sequence
            break  # nobody overtakes it
        return None

    def row(self, sequence: LiveSequence, step: Step) -> int:
        """Return the row of a batch in which a request has to stand, -1 for any.

        :raises BatchTooLarge: when its rows are so large that no batch of them has that row.
        """
        key, row = step.key, sequence.place
        if not self._direct:
            return -1
        if row >= key.max_rows:
            msg = (
                f"sequence {sequence.id} has row {row} of the batches of model "
                f"'{key.model.name}', and requests as large as this one share batches of "
                f"{key.max_rows} rows; begin the sequence with a request as large"
            )
            raise BatchTooLarge(msg)
        return row

    def end(self, sequence: LiveSequence) -> None:
        """Forget a sequence that has no requests."""
        del self.sequences[sequence.id]
        self.idle.pop(sequence, None)
        self.backlog.pop(sequence, None)
        if sequence.place != NO_PLACE:
            self._vacate(sequence)

    def _take(self, sequence: LiveSequence, step: Step) -> bool:
        place = self._places.take(self._limit(step))
        if place is None:
            return False
        sequence.place = place
        return True

    def _vacate(self, sequence: LiveSequence) -> None:
        self._places.free(sequence.place)
        sequence.place = NO_PLACE

    def _limit(self, step: Step) -> int:
        return self._candidates or step.key.max_rows
