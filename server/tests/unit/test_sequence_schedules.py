"""Random schedules of sequences: order, rows, and nobody forgotten, whatever happens when."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from sequences import REF, SequenceBench, make_sequence_key

from jitney.errors import DeadlineExpired, InferenceFailed, JitneyError, Overloaded, WorkerLost
from jitney.scheduling.batch import NO_DEADLINE, Entry, State
from jitney.sequence import Strategy

if TYPE_CHECKING:
    from jitney.sequencing.step import Step

STEPS = 400
ROWS = 3
FAILS = 0.3


class World(SequenceBench):
    """A bench that does random things, and checks after each what must always hold.

    ``accepted`` are all requests that were let in, by the number in their id; ``cancelled`` those
    that their callers took back. ``begun`` has, for each sequence, the number of the START that its
    callers believe to have begun it, and ``of`` that of each request. ``state`` has what the model
    keeps by row, or by id: the START that it saw there, and the last that came after; ``before``
    has the same as each request found it.
    """

    def __init__(self, seed: int, strategy: Strategy) -> None:
        super().__init__(
            make_sequence_key(ROWS, max_queue_rows=12), strategy=strategy, max_candidates=4
        )
        self.chance = random.Random(seed)  # noqa: S311  # no secret
        self.strategy = strategy
        self.accepted: dict[int, Entry] = {}
        self.cancelled: set[Entry] = set()
        self.begun: dict[int, int] = {}
        self.of: dict[int, int] = {}
        self.state: dict[int | str, tuple[int, int]] = {}
        self.before: dict[str, dict[int | str, tuple[int, int]]] = {}
        self.count = 0

    def submit(self, entry: Entry) -> None:
        """Queue an entry, most of the time."""
        if self.chance.random() < 0.05:
            msg = "full"
            raise Overloaded(msg)
        super().submit(entry)

    # What happens.

    def arrive(self) -> None:
        """Send a request of one of a few sequences, of which some know no manners."""
        flags = self.chance.choice(["s", "", "", "", "e", "se"])
        deadline = start_by = NO_DEADLINE
        if self.chance.random() < 0.3:
            deadline = self.clock.now() + 2 * self.chance.random()
        if self.chance.random() < 0.3:
            start_by = self.clock.now() + 2 * self.chance.random()
        self.count += 1
        sequence = self.chance.randint(1, 9)
        if "s" in flags:
            self.begun[sequence] = self.count  # whatever becomes of it
        before = self.ends.all.copy()
        try:
            entry = self.send(
                sequence, f"{self.count}", flags, deadline=deadline, start_by=start_by
            )
        except JitneyError:
            assert f"{self.count}" not in self.ends.ids
        else:
            self.accepted[self.count] = entry
            self.of[self.count] = self.begun[sequence]
            assert before == self.ends.all[: len(before)]
            assert f"{self.count}" not in self.ends.ids

    def run(self) -> None:
        """Let the model run some of what is queued, and check what it sees."""
        for step in self.start(*self.some(self.queued)):
            self.see(step)

    def see(self, step: Step) -> None:
        """Be the model: know whose state is where."""
        place = step.row if self.strategy is Strategy.DIRECT else step.id
        number = int(step.request.id)
        start = self.of[number]
        if step.starts:
            assert number == start
        else:
            seen, last = self.state[place]
            assert (start, True) == (seen, last < number)
        self.before[step.request.id] = self.state.copy()
        self.state[place] = (start, number)

    def answer(self) -> None:
        """End some of what is running."""
        if names := self.some(self.running):
            self.end(*names)

    def fail(self) -> None:
        """Fail at some of what is running, before anything was done: all state is as it was."""
        steps = [step for step in self.running if self.chance.random() < FAILS]
        for step in steps:
            place = step.row if self.strategy is Strategy.DIRECT else step.id
            self.state.pop(place)
            if (was := self.before[step.request.id].get(place)) is not None:
                self.state[place] = was
        if steps:
            self.end(*(step.request.id for step in steps), error=InferenceFailed("oh"))

    def expire(self) -> None:
        """End some of what is queued, as the scheduler does with those that are late."""
        if names := self.some(self.queued)[:1]:
            self.end(*names, error=DeadlineExpired("late"))

    def give_up(self) -> None:
        """Cancel a request, wherever it is, if need be twice."""
        live = [entry for entry in self.accepted.values() if entry.state is not State.DONE]
        if live:
            entry = self.chance.choice(live)
            self.cancelled.add(entry)
            self.sequencer.cancel(entry)
            assert State.DONE is entry.state
            self.sequencer.cancel(entry)

    def lose(self) -> None:
        """Lose the worker, and with it all state."""
        if self.running and self.chance.random() < 0.1:
            self.state.clear()
            self.end(*(step.request.id for step in self.running), error=WorkerLost("gone"))
            self.sequencer.forget(REF, "gone")
            assert [] == self.queued

    def some(self, steps: list[Step]) -> list[str]:
        """Return the ids of some, in any order."""
        return [step.request.id for step in steps if self.chance.random() < 0.6]

    # What must hold.

    def check(self) -> None:
        """Check the places, and what the sequencer says of itself."""
        steps = [*self.queued, *self.running]
        ids = [step.id for step in steps]
        assert len(set(ids)) == len(ids), "two requests of a sequence at once"
        if self.strategy is Strategy.DIRECT:
            rows = [step.row for step in steps]
            assert len(set(rows)) == len(rows), "two sequences in a row"
            assert set(rows) <= set(range(ROWS))
        else:
            assert {-1} >= {step.row for step in steps}
        statistics = self.sequencer.statistics()
        assert statistics.active <= (ROWS if self.strategy is Strategy.DIRECT else 4)
        assert statistics.waiting <= 12
        waiting = [e for e in self.accepted.values() if e.state is State.QUEUED]
        assert len(waiting) == statistics.waiting
        if statistics.waiting:
            assert steps or statistics.idle == statistics.active > 0, "nobody is at work"
        assert len(self.sequencer._steps) == statistics.waiting + len(steps)

    def settle(self) -> None:
        """Let everything end."""
        for _ in range(len(self.accepted) + 50):
            for step in self.start():
                self.see(step)
            self.end()
            self.clock.advance(0.5)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_sequences_stay_sequences(seed: int, strategy: Strategy) -> None:
    """Order and rows are kept, no state is continued by others, and everybody is told once."""
    world = World(seed, strategy)
    for _ in range(STEPS):
        world.chance.choice(
            [
                *(world.arrive,) * 6,
                *(world.run, world.run, world.answer, world.answer),
                *(world.expire, world.give_up, world.lose),
                world.fail,
                lambda: world.clock.advance(world.chance.random() / 2),
            ]
        )()
        world.clock.run_soon()
        world.check()
    world.settle()

    told = [entry for entry, _, _ in world.ends.all]
    assert len(set(told)) == len(told)
    assert {*world.accepted.values()} == {*told} | world.cancelled
    assert not {*told} & world.cancelled
    statistics = world.sequencer.statistics()
    assert (0, 0, 0) == (statistics.active, statistics.backlog, statistics.waiting)
    assert ({}, 0, []) == (
        world.sequencer._steps,
        len(world.sequencer._due),
        world.clock.timers,
    )
    assert len(world.sequencer._limits) <= 64 + 2
