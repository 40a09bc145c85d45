"""Entries that each have their own row of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from policies import policy_for, refused, started, take
from profiles import line

from jitney.errors import DeadlineTooShort, InferenceFailed, WorkerLost
from jitney.scheduling.batch import NO_DEADLINE, NORMAL, Reason
from jitney.scheduling.policy import Policy
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.metrics import Metrics
from jitney.testing import Ends, FakeClock, PuppetExecutor, make_entry, make_key

if TYPE_CHECKING:
    from jitney.scheduling.batch import Batch, BatchKey, Entry

KEY = make_key("seq", max_rows=8, stateful=True, fill=(b"",))
PROFILE = line(0.001, 0.004)
"""Rows of 1 ms each, 4 ms for the batch."""


def offer(
    policy: Policy,
    row: int,
    key: BatchKey = KEY,
    *,
    at: float = 0.0,
    deadline: float = NO_DEADLINE,
    priority: int = NORMAL,
) -> Entry:
    """Offer an entry for a row."""
    entry = make_entry(key, id=str(row), row=row, arrived=at, deadline=deadline, priority=priority)
    policy.offer(entry, at)
    return entry


def rows(batch: Batch) -> list[int]:
    """Return the rows that are taken."""
    return sorted(entry.row for entry in batch.entries)


def test_a_batch_has_as_many_rows_as_its_last_one_needs() -> None:
    """Of rows 1 and 4 it has five; it is planned and learnt from as one of five."""
    policy = policy_for(KEY, profile=PROFILE)
    offer(policy, 4)
    offer(policy, 1)

    batch = take(policy)

    assert ([1, 4], 5) == (rows(batch), batch.rows)
    assert pytest.approx(0.009) == batch.planned


def test_a_high_row_is_not_started_when_it_would_be_late() -> None:
    """Row 0 takes 5 ms and row 7 takes 12: within 8 ms only the first is possible."""
    policy = policy_for(KEY, profile=PROFILE)
    low = offer(policy, 0, deadline=0.008)
    high = offer(policy, 7, deadline=0.1)

    batch = take(policy)

    assert [low] == batch.entries
    assert Reason.DEADLINE is batch.reason
    policy.completed(batch, 0.005)
    assert [high] == take(policy, 0.005).entries


def test_a_row_that_is_too_high_for_its_deadline_is_refused_at_once() -> None:
    """It is known on arrival that row 7 takes 12 ms."""
    policy = policy_for(KEY, profile=PROFILE)

    with pytest.raises(DeadlineTooShort, match=r"takes about 12\.0 ms for it alone"):
        offer(policy, 7, deadline=0.011)


def test_one_that_is_given_too_little_time_meanwhile_expires() -> None:
    """Its last moment is that of its row, not that of a batch of one row."""
    policy = policy_for(KEY, make_key("other"), profile=PROFILE)
    policy.offer(make_entry(make_key("other")), 0.0)
    take(policy)
    high = offer(policy, 7, deadline=0.020)

    assert [] == refused(policy, 0.007)
    assert [(high, "EXPIRED")] == refused(policy, 0.009)


def test_all_rows_taken_is_a_full_batch() -> None:
    """And only that: seven of eight rows with the last one among them are not."""
    policy = policy_for(KEY, profile=PROFILE)
    for row in (7, 0, 1, 2, 3, 4, 5):
        offer(policy, row)
    first = take(policy)
    policy.completed(first, 0.1)
    for row in range(8):
        offer(policy, row, at=0.1)
    second = take(policy, 0.1)

    assert (Reason.IDLE, Reason.FULL) == (first.reason, second.reason)
    assert (7, 8) == (len(first.entries), len(second.entries))


def test_two_entries_of_a_row_are_never_in_one_batch() -> None:
    """The second waits for the next, with a deadline or without."""
    policy = policy_for(KEY, profile=PROFILE)
    entries = [offer(policy, 3, deadline=1.0), offer(policy, 3), offer(policy, 3, deadline=2.0)]

    batches = []
    for turn in range(3):
        now = 0.1 * turn
        batches.append(take(policy, now))
        policy.completed(batches[-1], now + 0.01)

    assert [[entries[0]], [entries[2]], [entries[1]]] == [batch.entries for batch in batches]


def test_entries_without_deadline_ride_where_they_make_nobody_late() -> None:
    """Rows below that of the urgent one are free, those above must leave it the time."""
    policy = policy_for(KEY, profile=PROFILE)
    for row in (0, 5, 7):
        offer(policy, row)
    offer(policy, 2, deadline=0.0105)

    batch = take(policy)

    assert ([0, 2, 5], 6) == (rows(batch), batch.rows)


def test_a_batch_with_texts_counts_the_bytes_of_its_gaps() -> None:
    """A row that nobody takes is filled, and so takes room in the slot."""
    key = make_key("seq", max_rows=8, max_bytes=16, fill=(b"four",))
    policy = policy_for(key, profile=PROFILE)
    for row in (0, 1, 5):
        offer(policy, row, key)

    assert [[0, 1]] == [rows(batch) for batch in started(policy)]


def test_a_device_that_runs_some_is_given_all_the_others_to_go_on_with() -> None:
    """Sequences differ, so their requests may be staged behind each other."""
    key = make_key("seq", max_rows=2, stateful=True, fill=(b"",))
    policy = policy_for(key, profile=PROFILE)
    offer(policy, 0, key)
    first = take(policy)
    offer(policy, 1, key, at=0.001)
    assert [] == started(policy, 0.001)
    offer(policy, 0, key, at=0.002)

    second = take(policy, 0.002)

    assert (False, True, [0, 1]) == (first.staged, second.staged, rows(second))


# -- the loop ------------------------------------------------------------------------------------


class Bench:
    """A scheduler over a puppet with a device."""

    def __init__(self, key: BatchKey) -> None:
        self.clock = FakeClock()
        self.executor = PuppetExecutor(self.clock)
        self.scheduler = Scheduler(Policy(), self.executor, self.clock, Metrics())
        self.executor.listener = self.scheduler
        self.ends = Ends()
        self.key = key
        self.scheduler.device_up("d0")
        self.scheduler.model_ready("d0", key.model)

    def submit(self, *rows: int) -> list[Entry]:
        """Submit entries for some rows."""
        entries = [
            make_entry(self.key, id=str(row), row=row, arrived=self.clock.now(), done=self.ends)
            for row in rows
        ]
        for entry in entries:
            self.scheduler.submit(entry)
        self.clock.run_soon()
        return entries


def test_every_caller_gets_the_row_it_stands_in() -> None:
    """Whatever the order of arrival, with rows in between that nobody took."""
    bench = Bench(make_key(max_rows=8, fill=(b"gaps",)))
    entries = bench.submit(6, 0, 3)

    batch = bench.executor.complete_next()

    assert 7 == batch.rows
    for entry in entries:
        assert {"y": entry.request.data[0]} == bench.ends.replies[entry.request.id].outputs


@pytest.mark.parametrize("stateful", [False, True])
def test_a_batch_whose_state_has_moved_is_not_run_again(stateful: bool) -> None:  # noqa: FBT001
    """All of a stateful model's batch fail together; another is looked through in parts."""
    bench = Bench(make_key(max_rows=8, fill=(b"",), stateful=stateful))
    bench.submit(5, 2)
    bench.executor.fail_next(error := InferenceFailed("broken"))

    if stateful:
        assert {"5": error, "2": error} == bench.ends.errors
        assert 1 == len(bench.executor.started)
    else:
        assert [([5, 2], 6), ([5], 6)] == [
            ([entry.row for entry in batch.entries], batch.rows) for batch in bench.executor.started
        ]


@pytest.mark.parametrize("stateful", [False, True])
def test_what_was_never_begun_is_lost_with_the_state_that_it_continues(stateful: bool) -> None:  # noqa: FBT001
    """A staged batch waits again when its worker is lost, unless its model is stateful."""
    bench = Bench(make_key(max_rows=1, stateful=stateful))
    bench.submit(-1)
    bench.submit(-1)
    running, staged = bench.executor.pending
    bench.scheduler.device_down("d0")
    for batch in (running, staged):
        bench.executor.finish(batch, WorkerLost("gone"))

    assert (2 if stateful else 1) == sum(error is not None for _, _, error in bench.ends.all)
