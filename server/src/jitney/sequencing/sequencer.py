"""Requests of sequences, between the engine and the scheduler."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

from jitney.errors import Draining, JitneyError, WorkerLost
from jitney.scheduling import refusals
from jitney.scheduling.batch import NO_DEADLINE, State
from jitney.scheduling.entry_heap import EntryHeap
from jitney.sequencing import refusals as sequence_refusals
from jitney.sequencing.correlation import read_correlation
from jitney.sequencing.live_sequence import NO_PLACE, LiveSequence
from jitney.sequencing.roster import Roster
from jitney.sequencing.statistics import SequencerStatistics
from jitney.sequencing.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jitney.clock import Clock, Timer
    from jitney.scheduling.batch import Entry
    from jitney.sequence import SequenceConfig
    from jitney.types import ModelRef

__all__ = ["Scheduling", "Sequencer"]


class Scheduling(Protocol):
    """What requests are given to when it is their turn."""

    def submit(self, entry: Entry) -> None:
        """Queue an entry; raises JitneyError where it is refused."""

    def cancel(self, entry: Entry) -> str:
        """Forget an entry; return where it was, ``queued`` or ``running``. Idempotent."""


class Sequencer:
    """Stands between the engine and the scheduler, for models that keep state between requests.

    - Requests of one sequence run one after the other, in the order in which they came: the
      scheduler gets the next when the one before has ended, whichever way. Different sequences
      share batches.
    - With the direct strategy a sequence has one row of its model's batches from its START to its
      end, and nobody else has it. With the oldest one, so many sequences are active at once. Others
      wait, first come, first served.
    - A sequence ends with its END, after ``max_idle`` seconds without a request, when the model
      takes no more requests, or when the model's state is lost with its worker. A START ends the
      one before of the same id.
    - What fails, is cancelled or comes too late does not end its sequence. A START that fails, or
      that is cancelled before it runs, does, and what came behind it is refused: it would be run on
      the state of whichever sequence had the row before. That goes for failures in the model too: a
      batch fails as a whole, so it may have been another's row at which the model stopped, before
      it had looked at this one.
    - A request waits here no longer than it may wait at all, and may be cancelled at any time.
    - There is room for ``max_queue_rows`` waiting requests of each model.

    It takes the model to be on one device: its state is in one process, where batches run in the
    order in which they were formed. So the request behind one that was cancelled while it was
    running need not wait for the batch of that.

    It counts on one thread, and on ``done`` never being called from within ``submit`` for the entry
    that is being submitted.
    """

    def __init__(self, scheduler: Scheduling, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._rosters: dict[ModelRef, Roster] = {}
        self._steps: dict[Entry, Step] = {}
        self._limits = EntryHeap()
        self._due: deque[tuple[Roster, LiveSequence | None]] = deque()
        self._is_advancing = False
        self._timer: Timer | None = None
        self._timer_due = 0.0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        s = self.statistics()
        return (
            f"<Sequencer {s.active} active, {s.idle} of them idle, {s.backlog} in the backlog, "
            f"{s.waiting} requests waiting>"
        )

    # -- requests -------------------------------------------------------------------------------

    def submit(self, entry: Entry, config: SequenceConfig) -> None:
        """Take an entry of a model with sequences; ``done`` is called as the scheduler would.

        :param config: the model's, always the same.
        :raises InvalidRequest: when it names no sequence, continues none, has several rows, or its
            id is none that the model could be told.
        :raises Overloaded: when too many wait.
        :raises JitneyError: when it needs not wait and the scheduler refuses it.
        """
        key = entry.key
        roster = self._rosters.get(key.model)
        if roster is None:
            roster = self._rosters[key.model] = Roster(config)
        said = read_correlation(entry.request.header)
        if entry.rows != 1:
            raise sequence_refusals.several_rows(key.model.name)
        step = Step(entry, said, roster.controls.row(said, key.model.name), self._ended)
        if step.nbytes > key.max_bytes:
            raise sequence_refusals.too_large(step)
        sequence = roster.sequences.get(said.id)
        if not said.starts and (sequence is None or not sequence.open):
            raise sequence_refusals.unstarted(step)
        if sequence is None:
            sequence = roster.sequences[said.id] = LiveSequence(said.id)
        step.sequence = sequence
        self._steps[entry] = step
        roster.idle.pop(sequence, None)
        had_place, was_open = sequence.place != NO_PLACE, sequence.open
        sequence.open = not said.ends
        try:
            if sequence.is_busy or not roster.seat(sequence, step):
                self._wait(roster, sequence, step)
            else:
                self._hand_over(roster, sequence, step)
        except JitneyError:
            del self._steps[entry]
            sequence.open = was_open and not said.starts
            self._settle(roster, sequence)
            raise
        finally:
            if had_place and sequence.place == NO_PLACE:
                self._due.append((roster, None))
            if self._due:
                # Not at once: whoever is told on the way may be the caller, who has to get his
                # entry first.
                self._clock.call_soon(self._advance)

    def cancel(self, entry: Entry) -> str:
        """Forget an entry; its ``done`` will not be called. Idempotent, also after its end.

        :returns: where it was: ``queued``, here or in the scheduler, or ``running``.
        """
        step = self._steps.pop(entry, None)
        if step is None:
            return "running"
        sequence, stage, orphans = step.sequence, "queued", list[Step]()
        if entry.state is State.QUEUED:
            assert sequence is not None  # noqa: S101  # nothing waits outside of one
            _, *orphans = self._leave(sequence, step)
        elif step.state is not State.DONE:  # which is one that is being refused
            stage = self._scheduler.cancel(step)
            if sequence is not None:
                sequence.running = None
                if step.starts and stage == "queued":
                    orphans = self._orphans(sequence)
        entry.state = State.DONE
        if sequence is not None:
            self._settle(self._rosters[entry.key.model], sequence)
        self._refuse(orphans, sequence_refusals.orphaned)
        self._advance()
        return stage

    def forget(self, model: ModelRef, why: str) -> int:
        """End all sequences of a model whose state is lost, or that is no longer there.

        What waits ends with ModelNotReady; what is running is left to the scheduler.

        :param why: the beginning of the text that callers get.
        :returns: how many requests were waiting, here or in the scheduler.
        """
        return self._dismiss(model, lambda step: sequence_refusals.forgotten(step, why))

    def retire(self, model: ModelRef) -> None:
        """Note that no further requests of a model will come: it is being unloaded, or replaced.

        What waits still runs. Sequences end with the last request that they have: nobody can
        continue them, so nobody shall wait until they have been idle for long enough.
        """
        roster = self._rosters.get(model)
        if roster is None or roster.retired:
            return
        roster.retired = True
        for sequence in list(roster.idle):
            roster.end(sequence)
        self._due.append((roster, None))
        self._advance()

    def drain(self) -> None:
        """Note that no further requests will come at all."""
        for model in list(self._rosters):
            self.retire(model)

    def refuse_rest(self) -> int:
        """Fail everything that still waits, at the end of a drain; return how many there were."""
        return sum(
            self._dismiss(model, lambda _: Draining("the server is shutting down"))
            for model in list(self._rosters)
        )

    def statistics(self) -> SequencerStatistics:
        """Return the current figures; on any thread."""
        rosters = list(self._rosters.values())
        return SequencerStatistics(
            active=sum(roster.active for roster in rosters),
            idle=sum(len(roster.idle) for roster in rosters),
            backlog=sum(len(roster.backlog) for roster in rosters),
            waiting=sum(roster.waiting for roster in rosters),
        )

    def waiting(self) -> dict[ModelRef, int]:
        """Return how many requests of each model wait here, each of one row; on any thread."""
        return {model: roster.waiting for model, roster in list(self._rosters.items())}

    # -- one after the other --------------------------------------------------------------------

    def _wait(self, roster: Roster, sequence: LiveSequence, step: Step) -> None:
        roster.check_room(step)
        sequence.waiting.append(step)
        roster.waiting += 1
        if step.limit != NO_DEADLINE:
            self._limits.push(step.limit, step.whole)
            self._wake_at(step.limit)

    def _hand_over(self, roster: Roster, sequence: LiveSequence, step: Step) -> None:
        step.stand_in(roster.row(sequence, step))
        step.let_late(self._clock.now())
        sequence.running, step.whole.state = step, State.RUNNING
        try:
            self._scheduler.submit(step)
        except JitneyError:
            sequence.running = None
            raise

    def _ended(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        step = self._steps.pop(entry.whole, None)  # type: ignore[attr-defined]  # it is a Step
        if step is None:
            return  # whoever was told just before cancelled it
        sequence, orphans = step.sequence, list[Step]()
        if isinstance(error, WorkerLost):
            # The state of all of them is gone with it, not only that of those in this batch.
            error = sequence_refusals.lost(step, error)
            if sequence is not None:
                sequence.running = None
                self.forget(step.key.model, "the worker of this model was lost")
        elif sequence is not None:
            sequence.running = None
            if step.starts and error is not None:
                orphans = self._orphans(sequence)
            self._settle(self._rosters[step.key.model], sequence)
        step.whole.timing = step.timing
        step.finish(reply, error)
        self._refuse(orphans, sequence_refusals.orphaned)
        self._advance()

    def _settle(self, roster: Roster, sequence: LiveSequence) -> None:
        """Decide what becomes of a sequence of which nothing may be running any more."""
        if sequence.running is not None:
            return
        if sequence.waiting:
            if sequence.place != NO_PLACE:
                self._due.append((roster, sequence))
        elif sequence.open and not roster.retired:
            due = roster.idle[sequence] = self._clock.now() + roster.max_idle
            roster.idle.move_to_end(sequence)
            self._wake_at(due)
        else:
            roster.end(sequence)
            self._due.append((roster, None))

    def _advance(self) -> None:
        """Hand over whatever has become the next of its sequence.

        One loop, whoever is told on the way and does what: no call of it runs within another.
        """
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._due:
                roster, sequence = self._due.popleft()
                if sequence is not None:
                    self._continue(roster, sequence)
                while (first := roster.promote()) is not None:
                    self._launch(roster, first)
        finally:
            self._is_advancing = False

    def _continue(self, roster: Roster, sequence: LiveSequence) -> None:
        if sequence.running is not None or not sequence.waiting or sequence.place == NO_PLACE:
            return  # it moved on since
        if roster.seat(sequence, sequence.waiting[0]):
            self._launch(roster, sequence)

    def _launch(self, roster: Roster, sequence: LiveSequence) -> None:
        step = sequence.waiting.popleft()
        self._left(roster, step)
        try:
            self._hand_over(roster, sequence, step)
        except JitneyError as error:
            del self._steps[step.whole]
            orphans = self._orphans(sequence) if step.starts else []
            self._settle(roster, sequence)
            step.finish(None, error)
            self._refuse(orphans, sequence_refusals.orphaned)

    # -- what is not run ------------------------------------------------------------------------

    def _leave(self, sequence: LiveSequence, step: Step) -> list[Step]:
        """Take a waiting request out; return it and what cannot be run without it."""
        return self._taken(sequence.remove(step))

    def _orphans(self, sequence: LiveSequence) -> list[Step]:
        """Take out what waits for a START that was handed over and came to nothing."""
        return self._taken(sequence.orphans())

    def _taken(self, steps: list[Step]) -> list[Step]:
        for step in steps:
            self._left(self._rosters[step.key.model], step)
            step.state, step.sequence = State.DONE, None
        return steps

    def _left(self, roster: Roster, step: Step) -> None:
        """Note that a request no longer waits here."""
        roster.waiting -= 1
        step.whole.state = State.RUNNING  # which tells the heap, whatever comes next
        if step.limit != NO_DEADLINE:
            self._limits.left()

    def _refuse(self, steps: Iterable[Step], error_of: Callable[[Step], JitneyError]) -> None:
        """End requests that were taken out."""
        for step in steps:
            # Whoever was told just before may have cancelled it.
            if self._steps.pop(step.whole, None) is not None:
                step.finish(None, error_of(step))

    def _dismiss(self, model: ModelRef, error_of: Callable[[Step], JitneyError]) -> int:
        """End all sequences of a model, and all their requests that are not running."""
        roster = self._rosters.get(model)
        if roster is None:
            return 0
        dismissed: list[Step] = []
        for sequence in roster.sequences.values():
            step = sequence.running
            if step is not None:
                step.sequence = sequence.running = None
                if step.state is State.QUEUED:
                    self._scheduler.cancel(step)
                    dismissed.append(step)
            dismissed += self._taken(list(sequence.waiting))
            sequence.waiting.clear()
        roster.backlog.clear()
        del self._rosters[model]
        self._refuse(dismissed, error_of)
        return len(dismissed)

    # -- time -----------------------------------------------------------------------------------

    def _wake_at(self, due: float) -> None:
        if self._timer is None or due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._clock.call_at(due, self._wake)
            self._timer_due = due

    def _wake(self) -> None:
        # It may come early: it is not taken back when that for which it was set is over, which
        # with sequences that go on is every time.
        self._timer = None
        now = self._clock.now()
        self._end_late(now)
        dues = []
        for roster in self._rosters.values():
            while roster.idle and (due := next(iter(roster.idle.values()))) <= now:
                roster.end(next(iter(roster.idle)))
                self._due.append((roster, None))
            if roster.idle:
                dues.append(due)
        self._advance()
        if (soonest := self._limits.next()) is not None:
            dues.append(soonest)
        if dues:
            self._wake_at(min(dues))

    def _end_late(self, now: float) -> None:
        for entry in self._limits.pop_until(math.nextafter(now, math.inf)):
            step = self._steps.get(entry)
            if step is None or entry.state is not State.QUEUED:
                continue  # one before it took it along, or its caller did
            sequence = step.sequence
            assert sequence is not None  # noqa: S101  # nothing waits outside of one
            del self._steps[entry]
            _, *orphans = self._leave(sequence, step)
            self._settle(self._rosters[entry.key.model], sequence)
            # At its limit it is late; the scheduler, which hands over in no time, waits beyond it.
            late = step.limit >= step.deadline
            step.finish(None, refusals.late() if late else refusals.expired(entry, math.inf))
            self._refuse(orphans, sequence_refusals.orphaned)
