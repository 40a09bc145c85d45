"""The loop between policy and executor: every entry ends once, a failure stays with its cause."""

from __future__ import annotations

import contextlib
import random
import struct
from typing import TYPE_CHECKING, Any, Literal

import pytest

from jitney.errors import (
    DeadlineExpired,
    DeadlineTooShort,
    Draining,
    InferenceFailed,
    InputQuarantined,
    InputRejected,
    InvalidRequest,
    JitneyError,
    ModelNotReady,
    OutOfDeviceMemory,
    Overloaded,
    WorkerLost,
)
from jitney.execution.executor import Completion
from jitney.scheduling.batch import NO_DEADLINE, Reason, State
from jitney.scheduling.policy import Policy, PolicySettings
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.metrics import Metrics
from jitney.testing import (
    EchoCarrier,
    Ends,
    FakeClock,
    PuppetExecutor,
    make_entry,
    make_key,
)
from jitney.testing.puppet import Stages
from jitney.types import Timing

if TYPE_CHECKING:
    from jitney.scheduling.batch import Batch, BatchKey, Entry
    from jitney.types import Carrier


class Bench:
    """A scheduler on a fake clock over a puppet, with devices that may run ``keys``."""

    def __init__(self, *keys: BatchKey, devices: int = 1, max_overhead: float = 1.0) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.policy = Policy(PolicySettings(max_overhead))
        self.executor = PuppetExecutor(self.clock)
        self.scheduler = Scheduler(self.policy, self.executor, self.clock, self.metrics)
        self.executor.listener = self.scheduler
        self.ends = Ends()
        self.keys = keys
        for i in range(devices):
            self.device_up(f"d{i}")

    def device_up(self, name: str) -> None:
        """Bring a device up with every model."""
        self.scheduler.device_up(name)
        for key in self.keys:
            self.scheduler.model_ready(name, key.model)

    def submit(
        self,
        id: str,  # noqa: A002  # the protocol's word
        rows: int = 1,
        *,
        key: BatchKey | None = None,
        within: float = NO_DEADLINE,
        tenant: str = "",
        carrier: Carrier | None = None,
    ) -> Entry:
        """Submit an entry, ``within`` seconds of deadline."""
        now = self.clock.now()
        entry = make_entry(
            key or self.keys[0],
            rows=rows,
            id=id,
            arrived=now,
            deadline=now + within,
            tenant=tenant,
            done=self.ends,
            carrier=carrier,
        )
        self.scheduler.submit(entry)
        return entry

    def run_all(self, error_of: JitneyError | None = None, poison: str = "") -> list[Batch]:
        """End batches until none is left; those with the request ``poison`` fail."""
        ran = []
        while self.executor.pending:
            members = self.executor.pending[0].entries
            if error_of is not None and any(e.request.id == poison for e in members):
                ran.append(self.executor.fail_next(error_of))
            else:
                ran.append(self.executor.complete_next())
            self.clock.run_soon()
        return ran


def ids(batch: Batch) -> list[str]:
    """Return the ids of the requests in a batch."""
    return [entry.request.id for entry in batch.entries]


# -- turns --------------------------------------------------------------------------------------


def test_a_burst_shares_a_batch() -> None:
    """What is submitted before the next turn of the loop leaves together, after one turn."""
    bench = Bench(make_key())
    for name in "abc":
        bench.submit(name)
    assert [] == bench.executor.started

    assert 1 == bench.clock.run_soon()

    assert [["a", "b", "c"]] == [ids(batch) for batch in bench.executor.started]


def test_what_can_only_wait_asks_for_no_turn() -> None:
    """While the device runs newcomers cost no turn each, and leave at the end of what it runs."""
    bench = Bench(make_key())
    bench.submit("a")
    bench.clock.run_soon()

    bench.submit("b")
    bench.submit("c")

    assert 0 == bench.clock.run_soon()
    bench.executor.complete_next()
    assert [["a"], ["b", "c"]] == [ids(batch) for batch in bench.executor.started]


def test_what_must_leave_sooner_than_the_rest_is_told_in_time() -> None:
    """A newcomer behind a running batch expires at its own moment, not at an earlier one's."""
    bench = Bench(make_key())
    bench.submit("a")
    bench.clock.run_soon()
    bench.submit("b", within=10.0)
    bench.clock.run_soon()

    bench.submit("c", within=2.0)
    bench.clock.advance(2.5)

    assert ["c"] == list(bench.ends.errors)


def test_every_caller_gets_its_own_rows() -> None:
    """Rows are gathered and cut in order, whatever number each request has."""
    bench = Bench(make_key(dims=(3,), max_rows=8))
    entries = [bench.submit(name, rows) for name, rows in (("a", 1), ("b", 3), ("c", 2))]
    bench.clock.run_soon()

    bench.executor.complete_next()

    for entry in entries:
        reply = bench.ends.replies[entry.request.id]
        assert (entry.rows, {"y": entry.request.data[0]}) == (reply.rows, reply.outputs)
        assert State.DONE is entry.state


def test_a_batch_is_gathered_and_answered_by_one_call_per_run_of_a_carrier() -> None:
    """Neighbours of one transport are one call, and no transport sees another's requests."""
    bench = Bench(make_key(dims=(2,)))
    one, two = EchoCarrier(), EchoCarrier()
    entries = [
        bench.submit(name, carrier=carrier)
        for name, carrier in (("a", one), ("b", one), ("c", two), ("d", one))
    ]
    bench.clock.run_soon()

    bench.executor.complete_next()

    assert (2, 2, 1, 1) == (one.gathered, one.replied, two.gathered, two.replied)
    for entry in entries:
        assert bench.ends.replies[entry.request.id].outputs["y"] == entry.request.data[0]


def test_a_delayed_batch_leaves_on_the_timer() -> None:
    """With a delay of 5 ms nothing starts at 4.999 ms, and everything at 5.000 ms."""
    bench = Bench(make_key(max_rows=8, max_delay=0.005))
    start = bench.clock.now()
    bench.submit("a")
    bench.clock.advance(0.003)
    bench.submit("b")

    bench.clock.advance(0.001999)
    assert [] == bench.executor.started
    bench.clock.advance(0.000001)

    assert [(["a", "b"], start + 0.005)] == [
        (ids(batch), batch.formed_at) for batch in bench.executor.started
    ]


def test_an_earlier_moment_replaces_the_timer() -> None:
    """A short deadline that comes after a long one is kept, by the one timer that there is."""
    bench = Bench(make_key(max_rows=8, max_delay=10.0))
    bench.submit("far", within=5.0)
    bench.clock.run_soon()
    start = bench.clock.now()

    bench.submit("near", within=0.5)
    bench.clock.run_soon()

    [due] = bench.clock.timers
    assert start + 0.49 < due < start + 0.5
    bench.clock.advance(0.5)
    assert [["near", "far"]] == [ids(batch) for batch in bench.executor.started]


def test_the_next_batch_starts_before_the_last_one_is_answered() -> None:
    """The device does not idle while replies are encoded."""
    order: list[str] = []

    class Slow(EchoCarrier):
        def reply(self, *args: object) -> list[object]:  # type: ignore[override]  # only counts
            order.append(f"reply after {len(bench.executor.started)} starts")
            return super().reply(*args)  # type: ignore[arg-type, return-value]

    bench = Bench(make_key(max_rows=1))
    bench.submit("a", carrier=Slow())
    bench.clock.run_soon()
    bench.submit("b")
    bench.clock.run_soon()
    assert 2 == len(bench.executor.started)
    bench.submit("c")

    bench.executor.complete_next()

    assert ["reply after 3 starts"] == order


def test_time_for_who_left_or_is_late_is_wasted() -> None:
    """A row whose caller went away, and one whose deadline passed in the run, were for nobody."""
    bench = Bench(make_key(max_rows=8))
    left, *_ = (bench.submit("left", 1), bench.submit("late", 2, within=1.0), bench.submit("ok", 5))
    bench.clock.run_soon()
    bench.scheduler.cancel(left)

    bench.clock.advance(2.0)
    bench.executor.complete_next(stages=Stages(compute_infer=1.6))
    bench.clock.run_soon()

    assert [(("d0", "echo", "1"), pytest.approx(0.6))] == bench.metrics.device_wasted.items()
    assert {"d0": pytest.approx(1.6)} == bench.metrics.busy_seconds()


def test_timings_come_from_the_stamps() -> None:
    """Each stage is what its stamps say, and the total runs from arrival to reply."""
    bench = Bench(make_key())
    bench.submit("a")
    bench.clock.advance(0.5)

    bench.executor.complete_next(stages=Stages(0.0625, 0.125, 0.03125))

    assert (
        Timing(
            queue=0.5 - 0.21875,
            compute_input=0.0625,
            compute_infer=0.125,
            compute_output=0.03125,
            total=0.5,
        )
        == bench.ends.replies["a"].timing
    )


def test_overhead_is_what_neither_the_worker_nor_the_batch_before_it_took() -> None:
    """Of half a second of which the worker ran all but a millisecond, that is overhead."""
    bench = Bench(make_key(max_rows=1), max_overhead=0.5)
    bench.submit("running")
    bench.submit("staged")
    bench.clock.advance(0.5)

    bench.executor.complete_next(stages=Stages(0.125, 0.125, 0.25 - 2**-10))
    once = bench.policy._host.batch
    bench.clock.advance(0.5)
    bench.executor.complete_next()
    bench.submit("fails")
    bench.clock.advance(0.5)
    [batch] = bench.executor.pending
    stamp = bench.clock.now()
    bench.scheduler.completed(batch, Completion(None, WorkerLost(), stamp, stamp, stamp, stamp))

    assert (2**-10, 2**-10) == (once, bench.policy._host.batch)


# -- ends ---------------------------------------------------------------------------------------


def test_expired_entries_never_reach_the_executor() -> None:
    """An entry whose deadline passes while it waits ends with DeadlineExpired and is not run."""
    bench = Bench(make_key(max_rows=1))
    bench.submit("running")
    bench.clock.run_soon()
    bench.submit("staged")
    bench.clock.run_soon()
    bench.submit("late", within=0.010)
    bench.submit("patient")

    bench.clock.advance(0.011)

    error = bench.ends.errors["late"]
    assert DeadlineExpired is type(error)
    assert "Deadline Exceeded" in str(error)
    bench.run_all()
    assert [["running"], ["staged"], ["patient"]] == [ids(b) for b in bench.executor.started]


def test_a_cancelled_entry_is_never_called_back() -> None:
    """Cancelled while it waits, runs or is done: no call, no error, its neighbours are answered."""
    bench = Bench(make_key(max_rows=2))
    running, neighbour = bench.submit("running"), bench.submit("neighbour")
    bench.clock.run_soon()
    waiting = bench.submit("waiting")

    stages = [bench.scheduler.cancel(entry) for entry in (waiting, running, running, waiting)]
    bench.run_all()
    bench.scheduler.cancel(neighbour)

    assert ["queued", "running"] == stages[:2]
    assert ["neighbour"] == bench.ends.ids


def test_whoever_is_told_may_cancel_its_neighbours() -> None:
    """An entry cancelled by the callback of another one of its batch is not called back."""
    for error in (None, WorkerLost("gone")):
        bench = Bench(make_key(max_rows=2))
        first, second = bench.submit("first"), bench.submit("second")
        told: list[str] = []

        def cancel_other(
            entry: Entry,
            *_: object,
            told: list[str] = told,
            bench: Bench = bench,
            second: Entry = second,
        ) -> None:
            told.append(entry.request.id)
            bench.scheduler.cancel(second)

        first.done = cancel_other
        bench.clock.run_soon()

        if error is None:
            bench.executor.complete_next()
        else:
            bench.executor.fail_next(error)

        assert (["first"], []) == (told, bench.ends.ids)


def test_a_lost_worker_ends_its_whole_batch() -> None:
    """WorkerLost is nobody's doing: all get it at once, and nothing is run again."""
    bench = Bench(make_key(max_rows=4))
    for name in "abcd":
        bench.submit(name)
    bench.clock.run_soon()

    bench.executor.fail_next(WorkerLost("the worker ended"))

    assert set("abcd") == set(bench.ends.errors)
    assert {WorkerLost} == {type(error) for error in bench.ends.errors.values()}
    assert [] == bench.executor.pending


@pytest.mark.parametrize("error", [InputRejected("bad"), InferenceFailed("x"), OutOfDeviceMemory()])
def test_bisection_isolates_one_poison_among_32(error: JitneyError) -> None:
    """Wherever it stands, the culprit alone gets the error, after at most 11 runs."""
    for place in (0, 15, 16, 31):
        bench = Bench(make_key(max_rows=32))
        names = [str(i) for i in range(32)]
        entries = [bench.submit(name) for name in names]
        bench.clock.run_soon()

        ran = bench.run_all(error, poison=str(place))

        assert {str(place): error} == bench.ends.errors
        assert set(names) - {str(place)} == set(bench.ends.replies)
        assert len(bench.ends.all) == 32
        for entry in entries:
            if entry.request.id != str(place):
                reply = bench.ends.replies[entry.request.id]
                assert entry.request.data[0] == reply.outputs["y"]
        assert 11 == len(ran)
        assert {Reason.RETRY} == {batch.reason for batch in ran[1:]}


def test_two_culprits_are_both_found() -> None:
    """Each of two bad requests of a batch of four gets its own error, the others their replies."""
    bench = Bench(make_key(max_rows=4))
    for name in ("bad 1", "good 1", "good 2", "bad 2"):
        bench.submit(name)
    bench.clock.run_soon()

    while bench.executor.pending:
        bad = [name for name in ids(bench.executor.pending[0]) if name.startswith("bad")]
        if bad:
            bench.executor.fail_next(InputRejected("bad"))
        else:
            bench.executor.complete_next()

    assert {"bad 1", "bad 2"} == set(bench.ends.errors)
    assert {"good 1", "good 2"} == set(bench.ends.replies)


def test_the_other_half_is_not_run_for_callers_that_left() -> None:
    """Entries cancelled between two runs of their batch are left out of the second."""
    bench = Bench(make_key(max_rows=4))
    entries = [bench.submit(name) for name in "abcd"]
    bench.clock.run_soon()
    bench.executor.fail_next(InputRejected("bad"))
    assert ["a", "b"] == ids(bench.executor.pending[0])

    bench.scheduler.cancel(entries[2])
    bench.scheduler.cancel(entries[3])
    bench.executor.complete_next()

    assert [] == bench.executor.pending
    assert ["a", "b"] == bench.ends.ids


def test_a_carrier_that_cannot_answer_fails_its_own_requests_only() -> None:
    """What one transport cannot encode ends with its error; the other's replies go out."""
    bench = Bench(make_key(max_rows=4))
    good, bad = EchoCarrier(), EchoCarrier()
    bench.submit("a", carrier=good)
    bench.submit("refuse", carrier=bad)
    bench.submit("b", carrier=good)
    bench.clock.run_soon()

    bench.executor.complete_next()

    assert ["a", "b"] == list(bench.ends.replies)
    assert InvalidRequest is type(bench.ends.errors["refuse"])
    bench.clock.run_soon()
    assert 2 == bench.metrics.figures(bench.keys[0].model).total.count


def test_a_full_queue_refuses_without_calling_back() -> None:
    """Submit raises Overloaded; the entry is not scheduled and not called."""
    bench = Bench(make_key(max_queue_rows=2), devices=0)
    bench.submit("a", 2)

    with pytest.raises(Overloaded):
        bench.submit("b")

    assert [] == bench.ends.ids
    assert 2 == bench.policy.figures.statistics().queued_rows


# -- devices, drain, the end --------------------------------------------------------------------


def test_what_waits_for_a_restarting_worker_runs_when_it_is_back() -> None:
    """device_down fails nothing that was not begun; model_ready lets it run at once."""
    bench = Bench(make_key(max_rows=1))
    for name in ("running", "staged"):
        bench.submit(name)
        bench.clock.run_soon()
    bench.submit("queued")

    bench.scheduler.device_down("d0")
    for _ in range(2):
        bench.executor.fail_next(WorkerLost("gone"))
    bench.clock.run_soon()
    assert [] == bench.executor.pending
    bench.device_up("d0")

    assert [["staged"], ["queued"]] == [ids(batch) for batch in bench.executor.pending]
    bench.run_all()
    assert ({"running"}, {"staged", "queued"}) == (set(bench.ends.errors), set(bench.ends.replies))


def test_what_a_lost_worker_was_to_run_next_runs_on_another() -> None:
    """Its callers never notice."""
    bench = Bench(make_key(max_rows=1), devices=2)
    for name in ("a", "b", "staged"):
        bench.submit(name)
        bench.clock.run_soon()

    bench.scheduler.device_down("d0")
    for _ in range(2):
        bench.executor.fail_next(WorkerLost("gone"), device="d0")
    bench.run_all()

    assert ({"a"}, {"b", "staged"}) == (set(bench.ends.errors), set(bench.ends.replies))


def lose(bench: Bench, device: str, rerun: Literal["never", "whole", "apart"], **more: Any) -> None:
    """Let a device go, with everything that it was at."""
    bench.scheduler.device_down(device)
    lost = WorkerLost("gone", rerun=rerun, suspect=rerun == "apart", **more)
    while any(batch.device == device for batch in bench.executor.pending):
        bench.executor.fail_next(lost, device=device)


def test_a_batch_whose_worker_was_killed_is_run_again_elsewhere() -> None:
    """As it was, at once, and its callers never notice."""
    bench = Bench(make_key(max_rows=4), devices=2)
    for name in "abcd":
        bench.submit(name)
    bench.clock.run_soon()

    lose(bench, bench.executor.pending[0].device, "whole")

    assert [list("abcd")] == [ids(batch) for batch in bench.executor.pending]
    bench.run_all()
    assert (set("abcd"), {}) == (set(bench.ends.replies), bench.ends.errors)


def test_a_batch_waits_for_the_next_worker_as_long_as_its_deadlines_allow() -> None:
    """Whoever could not be answered in time by then is told at once, and may go elsewhere."""
    bench = Bench(make_key(max_rows=4))
    for name, within in (("hasty", 1.0), ("patient", 9.0), ("endless", NO_DEADLINE)):
        bench.submit(name, within=within)
    bench.clock.run_soon()

    lose(bench, "d0", "whole", back_in=3.0)

    assert {"hasty": "gone"} == {name: str(e) for name, e in bench.ends.errors.items()}
    bench.device_up("d0")
    bench.run_all()
    assert {"patient", "endless"} == set(bench.ends.replies)


def test_nobody_loses_more_than_three_workers() -> None:
    """A batch that sees the end of the third, whoever ended them, is run no more."""
    bench = Bench(make_key(max_rows=1))
    bench.submit("unlucky")
    bench.clock.run_soon()
    for runs in (1, 2, 3):
        assert runs == len(bench.executor.started)
        lose(bench, "d0", "whole")
        bench.device_up("d0")
    assert (3, ["unlucky"]) == (len(bench.executor.started), list(bench.ends.errors))


def test_a_request_that_ends_workers_does_so_twice_and_its_neighbours_are_answered() -> None:
    """Of 32 in a batch one is poison: the others are run alone, and it is refused from then on."""
    bench = Bench(make_key(max_rows=32))
    names = [str(i) for i in range(32)]
    for name in names:
        bench.submit(name)
    bench.clock.run_soon()
    ends = 0
    while bench.executor.pending:
        if "13" in ids(bench.executor.pending[0]):
            ends += 1
            lose(bench, "d0", "apart")
            bench.device_up("d0")
        else:
            bench.executor.complete_next()
        bench.clock.run_soon()

    assert (2, {"13": "gone"}) == (ends, {n: str(e) for n, e in bench.ends.errors.items()})
    assert set(names) - {"13"} == set(bench.ends.replies)
    with pytest.raises(InputQuarantined):
        bench.submit("13")
    bench.submit("14")


def test_a_request_that_fails_batch_after_batch_is_refused_for_a_while() -> None:
    """Twice it is found by running parts of its batch; the third time it is not run at all."""
    bench = Bench(make_key(max_rows=4))
    for turn in "12":
        for name in ("bad", *(f"{turn}{i}" for i in range(3))):
            bench.submit(name)
        bench.clock.run_soon()
        bench.run_all(InputRejected("raised"), poison="bad")
    with pytest.raises(InputQuarantined):
        bench.submit("bad")

    bench.clock.advance(60.0)

    bench.submit("bad")


def test_what_was_to_be_run_again_ends_with_its_model() -> None:
    """When no device will have the model any more, nobody waits for it."""
    bench = Bench(make_key(max_rows=2))
    for name in "ab":
        bench.submit(name)
    bench.clock.run_soon()
    lose(bench, "d0", "whole")

    bench.scheduler.abandon(bench.keys[0].model, "the device failed")

    assert {"a", "b"} == set(bench.ends.errors)


def test_whoever_has_to_make_room_is_told_at_once() -> None:
    """A tenant that fills the queue loses its last request to one that has none."""
    bench = Bench(make_key(max_queue_rows=2), devices=0)
    for name in ("first", "last"):
        bench.submit(name, tenant="greedy")

    bench.submit("other", tenant="modest")

    assert {"last": "TENANT_QUOTA"} == {
        name: error.reason for name, error in bench.ends.errors.items()
    }


def test_a_hopeless_request_is_refused_without_calling_back() -> None:
    """Submit raises DeadlineTooShort once it is known how long the model takes."""
    bench = Bench(make_key())
    bench.submit("teaches")
    bench.clock.advance(0.5)
    bench.executor.complete_next(stages=Stages(0.125, 0.125, 0.125))

    with pytest.raises(DeadlineTooShort):
        bench.submit("hopeless", within=0.25)

    assert ["teaches"] == bench.ends.ids


def test_a_model_that_is_gone_from_a_device_is_not_sent_there() -> None:
    """After model_gone its entries wait."""
    bench = Bench(key := make_key())
    bench.scheduler.model_gone("d0", key.model)

    bench.submit("a")
    bench.clock.run_soon()

    assert [] == bench.executor.started


def test_drain_lets_everything_leave_at_once() -> None:
    """A drain does not wait for company."""
    bench = Bench(make_key(max_delay=60.0))
    bench.submit("a")
    bench.clock.run_soon()
    assert [] == bench.executor.started

    bench.scheduler.drain()

    assert [Reason.DRAIN] == [batch.reason for batch in bench.executor.started]
    bench.run_all()
    assert ["a"] == list(bench.ends.replies)


def test_abandon_fails_what_waits_for_one_model() -> None:
    """Its entries get ModelNotReady with the reason, those of another model still wait."""
    mine, other = make_key("mine"), make_key("other")
    bench = Bench(mine, other, devices=0)
    bench.submit("a", key=mine)
    bench.submit("b", key=other)

    bench.scheduler.abandon(mine.model, "its device failed")

    error = bench.ends.errors["a"]
    assert (ModelNotReady, "its device failed") == (type(error), str(error))
    assert ["a"] == bench.ends.ids


def test_refuse_rest_fails_everything_that_waits_and_counts_it() -> None:
    """At the end of a drain what waits gets Draining; what runs is left to the executor."""
    keys = make_key("one", max_rows=1), make_key("two")
    bench = Bench(*keys)
    for name in ("running", "staged", "waiting"):
        bench.submit(name)
        bench.clock.run_soon()
    bench.submit("other", key=keys[1])

    assert 2 == bench.scheduler.refuse_rest()

    assert {Draining} == {type(error) for error in bench.ends.errors.values()}
    assert {"waiting", "other"} == set(bench.ends.errors)
    bench.run_all()
    assert {"running", "staged"} == set(bench.ends.replies)


def test_exactly_once_on_random_histories() -> None:
    """Over 300 random histories each entry ends once, rightly, or was cancelled."""
    for seed in range(300):
        chance = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        play(chance)


def play(chance: random.Random) -> None:
    """Play a random history on a scheduler, then check how every entry ended."""
    key = make_key(max_rows=4, max_delay=chance.choice((0.0, 0.004)))
    bench = Bench(key, devices=2)
    entries: list[Entry] = []
    cancelled: set[str] = set()
    for i in range(60):
        match chance.randrange(8):
            case 0 | 1 | 2:
                within = chance.choice((NO_DEADLINE, 0.002, 0.010, 1.0))
                with contextlib.suppress(DeadlineTooShort, Overloaded):
                    entries.append(bench.submit(str(i), chance.randint(1, 3), within=within))
            case 3:
                bench.clock.advance(chance.choice((0.0, 0.001, 0.004)))
            case 4 | 5 if bench.executor.pending:
                bench.executor.complete_next()
            case 6 if bench.executor.pending:
                lost = WorkerLost("chance", rerun=chance.choice(("never", "whole", "apart")))
                errors = (lost, InputRejected("chance"), OutOfDeviceMemory("chance"))
                bench.executor.fail_next(chance.choice(errors))
            case 7 if entries:
                entry = chance.choice(entries)
                if entry.request.id not in bench.ends.ids:
                    cancelled.add(entry.request.id)
                bench.scheduler.cancel(entry)
    bench.scheduler.drain()
    bench.clock.advance(0)
    bench.run_all()
    bench.clock.advance(2.0)
    assert sorted({e.request.id for e in entries} - cancelled) == sorted(bench.ends.ids)
    for entry, reply, error in bench.ends.all:
        assert (reply is None) != (error is None)
        if reply is not None:
            assert entry.request.data[0] == reply.outputs["y"]
            assert struct.calcsize(f"<{entry.rows}f") == len(reply.outputs["y"])
    assert (0, 0, 0, 0, 0) == (
        bench.policy.figures.statistics().queued_entries,
        bench.policy.figures.statistics().queued_rows,
        bench.policy.figures.statistics().queues,
        bench.policy.figures.statistics().running,
        bench.policy.figures.statistics().staged,
    )
    assert [] == bench.clock.timers
