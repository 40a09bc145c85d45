"""Batches that give several replies, and go on without their device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jitney.errors import InferenceFailed, InvalidRequest, JitneyError, WorkerLost
from jitney.scheduling.batch import State
from jitney.scheduling.policy import Policy
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.metrics import Metrics
from jitney.testing import EchoCarrier, Ends, FakeClock, PuppetExecutor, make_entry, make_key
from jitney.testing.puppet import Stages
from jitney.types import Timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.batch import Batch, Entry
    from jitney.types import BatchOutputs, Carrier, Placed

KEY = make_key("repeat")
TOOK = Stages(0.25, 0.5, 0.125)


class Bench:
    """A scheduler over a puppet, whose one device has a decoupled model."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.policy = Policy()
        self.executor = PuppetExecutor(self.clock)
        self.scheduler = Scheduler(self.policy, self.executor, self.clock, self.metrics)
        self.executor.listener = self.scheduler
        self.ends = Ends()
        self.replies: list[tuple[str, object]] = []
        self.scheduler.device_up("d0")
        self.scheduler.model_ready("d0", KEY.model)

    def submit(self, *ids: str, carrier: Carrier | None = None) -> list[Entry]:
        """Submit entries that share a batch, and let it start if a device is free."""
        entries = []
        for name in ids:
            entry = make_entry(
                KEY, id=name, arrived=self.clock.now(), done=self.ends, carrier=carrier
            )
            entry.partial = lambda entry, reply: self.replies.append((entry.request.id, reply))
            self.scheduler.submit(entry)
            entries.append(entry)
        self.clock.run_soon()
        return entries

    @property
    def batch(self) -> Batch:
        """The batch that started last."""
        return self.executor.started[-1]

    def answered(self) -> list[str]:
        """Return whose replies came, in order."""
        return [name for name, _ in self.replies]


def test_every_entry_is_told_every_reply_and_then_the_end() -> None:
    """Two entries of a batch get three replies each, then done() without one."""
    bench = Bench()
    entries = bench.submit("a", "b")
    for _ in range(3):
        bench.executor.produce(bench.batch)
    assert ["a", "b"] * 3 == bench.answered()
    assert [] == bench.ends.all

    bench.executor.finish(bench.batch)

    assert [(entry, None, None) for entry in entries] == bench.ends.all
    assert {"y": entries[0].request.data[0]} == bench.replies[0][1].outputs  # type: ignore[attr-defined]  # an EchoReply


def test_a_batch_may_end_without_any_reply() -> None:
    """Nothing to repeat: done() is called all the same, and the device takes the next batch."""
    bench = Bench()
    bench.submit("a")
    bench.submit("b")

    bench.executor.finish(bench.executor.pending[0])

    assert {"a": None} == bench.ends.replies
    assert [["a"], ["b"]] == [[e.request.id for e in b.entries] for b in bench.executor.started]


def test_a_detached_batch_leaves_its_device_to_others() -> None:
    """The next batch starts at once, and runs to its end while the first still gives replies."""
    bench = Bench()
    bench.submit("long")
    long = bench.batch
    bench.submit("short")
    assert [long] == bench.executor.started

    bench.executor.detach(long)
    assert ["short"] == [entry.request.id for entry in bench.batch.entries]
    bench.executor.produce(long)
    bench.executor.complete_next()
    bench.executor.produce(long)

    assert (["long", "long"], ["short"]) == (bench.answered(), bench.ends.ids)
    assert (0, 0) == (
        bench.policy.figures.statistics().running,
        bench.policy.figures.statistics().queued_rows,
    )
    bench.executor.finish(long)
    assert ["short", "long"] == bench.ends.ids


def test_the_end_of_a_detached_batch_does_not_free_its_device_again() -> None:
    """What runs there by then is another batch, which goes on."""
    bench = Bench()
    bench.submit("one")
    one = bench.batch
    bench.executor.detach(one)
    bench.submit("two")
    bench.submit("three")

    bench.executor.finish(one)
    bench.clock.run_soon()

    assert ["two"] == [entry.request.id for entry in bench.batch.entries]
    assert 1 == bench.policy.figures.statistics().running


def test_a_detached_batch_is_timed_by_its_device_and_counted_once() -> None:
    """Stages are those of the device; the total is up to the end, which no stage accounts for."""
    bench = Bench()
    start = bench.clock.now()
    [entry] = bench.submit("a")
    bench.clock.advance(1.0)
    bench.executor.detach(bench.batch, stages=TOOK)
    bench.clock.advance(2.0)
    bench.executor.produce(bench.batch)
    reply: object = bench.replies[0][1]
    assert entry.timing is None
    bench.clock.advance(4.0)
    bench.executor.finish(bench.batch)
    bench.clock.run_soon()

    queue = 1.0 - sum(TOOK)
    assert Timing(queue, *TOOK, bench.clock.now() - start) == entry.timing
    # A reply on its way has no stages of its own.
    assert 3.0 == reply.timing.total  # type: ignore[attr-defined]  # an EchoReply
    figures = bench.metrics.figures(KEY.model)
    assert (1, 1, 0) == (figures.batches, figures.rows, figures.fail_count)
    assert 1 == figures.total.count
    assert 0.875 == bench.metrics.busy_seconds()["d0"]


def test_a_cancelled_entry_gets_no_more_replies() -> None:
    """Its neighbour does; and it does not count as answered when the batch ends."""
    bench = Bench()
    gone, _ = bench.submit("gone", "stays")
    bench.executor.produce(bench.batch)
    assert "running" == bench.scheduler.cancel(gone)
    bench.executor.produce(bench.batch)
    bench.executor.finish(bench.batch)
    bench.clock.run_soon()

    assert ["gone", "stays", "stays"] == bench.answered()
    assert ["stays"] == bench.ends.ids
    assert 1 == bench.metrics.figures(KEY.model).total.count


def test_whoever_is_cancelled_by_a_neighbours_reply_gets_none() -> None:
    """A callback may cancel anybody, whose reply of the same moment is dropped."""
    bench = Bench()
    first, second = bench.submit("first", "second")
    first.partial = lambda *_: bench.scheduler.cancel(second)

    bench.executor.produce(bench.batch)

    assert ([], State.DONE) == (bench.answered(), second.state)


@pytest.mark.parametrize("detached", [False, True])
def test_an_error_after_a_reply_is_told_and_nothing_runs_again(detached: bool) -> None:  # noqa: FBT001
    """Run again in parts, entries would be given their replies twice."""
    bench = Bench()
    bench.submit("a", "b")
    batch = bench.batch
    bench.executor.produce(batch)
    if detached:
        bench.executor.detach(batch)

    bench.executor.finish(batch, error := InferenceFailed("broken"))
    bench.clock.run_soon()

    assert {"a": error, "b": error} == bench.ends.errors
    assert ([batch], 0) == (bench.executor.started, bench.policy.figures.statistics().running)
    bench.submit("c")
    assert ["c"] == [entry.request.id for entry in bench.batch.entries]


def test_an_error_before_any_reply_is_looked_for_in_parts() -> None:
    """As long as nobody was told anything, a decoupled batch fails like any other."""
    bench = Bench()
    bench.submit("a", "b")

    bench.executor.fail_next(InferenceFailed("broken"))

    assert [["a", "b"], ["a"]] == [
        [e.request.id for e in b.entries] for b in bench.executor.started
    ]


def test_a_detached_batch_ends_with_its_worker() -> None:
    """It is not put back into the queue, whatever became of the device."""
    bench = Bench()
    bench.submit("a")
    batch = bench.batch
    bench.executor.detach(batch)
    bench.scheduler.device_down("d0")

    bench.executor.finish(batch, lost := WorkerLost("gone"))

    assert {"a": lost} == bench.ends.errors
    assert 0 == bench.policy.figures.statistics().queued_rows


class Choosy(EchoCarrier):
    """A carrier that cannot make the replies of some."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = refused

    def reply(
        self, placed: Sequence[Placed], outputs: BatchOutputs, timings: Sequence[Timing]
    ) -> list[object]:  # type: ignore[override]  # errors as well
        """Return replies, and errors in place of some."""
        replies = super().reply(placed, outputs, timings)
        return [
            InvalidRequest(f"no room for {p.request.id}") if p.request.id in self.refused else made
            for p, made in zip(placed, replies, strict=True)
        ]


def refusals(ends: Ends) -> dict[str, str]:
    """Return the texts of errors."""
    return {name: str(error) for name, error in ends.errors.items()}


def test_a_reply_that_cannot_be_made_ends_its_entry_alone() -> None:
    """In a plain batch the others are answered, and it does not count as answered."""
    bench = Bench()
    a, b = bench.submit("a", "b", carrier=Choosy("a"))
    bench.executor.complete_next()
    bench.clock.run_soon()

    assert ({"a": "no room for a"}, ["b"]) == (refusals(bench.ends), [*bench.ends.replies])
    assert (None, True) == (a.timing, b.timing is not None)
    assert 1 == bench.metrics.figures(KEY.model).total.count


def test_one_of_several_replies_that_cannot_be_made_ends_its_entry_alone() -> None:
    """The others go on, and it is told nothing more."""
    bench = Bench()
    bench.submit("a", "b", carrier=Choosy("a"))
    bench.executor.produce(bench.batch)
    bench.executor.produce(bench.batch)
    bench.executor.finish(bench.batch)

    assert ["b", "b"] == bench.answered()
    assert ({"a": "no room for a"}, {"b": None}) == (refusals(bench.ends), bench.ends.replies)
    assert all(isinstance(error, JitneyError) for error in bench.ends.errors.values())
