"""Which device runs what: late binding, staging, faults, rest; plain claims."""

from __future__ import annotations

import pytest
from policies import bring_up, offer, policy_for, refused, started, take
from profiles import line

from jitney.errors import DeadlineTooShort
from jitney.scheduling.batch import NO_DEADLINE, BatchKey, Reason, State
from jitney.scheduling.policy import LONGEST_REST, Policy
from jitney.testing import make_key

MS = 0.001
PROFILE = line(1 * MS, 4 * MS)
"""A batch of n rows takes n + 4 ms."""

# -- late binding, staging, queues ----------------------------------------------------------------


def test_a_batch_grows_while_the_device_is_busy() -> None:
    """Five entries that came during a batch leave as one when it ends."""
    policy = policy_for(key := make_key(max_rows=8))
    offer(policy, key)
    running = take(policy)
    for at in range(5):
        offer(policy, key, at=at * MS)
        assert [] == started(policy, at * MS)

    policy.completed(running, 5 * MS)

    assert 5 == take(policy, 5 * MS).rows


def test_only_a_full_batch_is_staged_and_only_one() -> None:
    """Behind a running batch waits at most one other, and it has no room left."""
    policy = policy_for(key := make_key(max_rows=4))
    offer(policy, key)
    running = take(policy)
    for _ in range(9):
        offer(policy, key)

    staged = take(policy)

    assert (4, Reason.FULL, True) == (staged.rows, staged.reason, staged.staged)
    assert [] == started(policy)
    policy.completed(running, 1.0)
    second = take(policy, 1.0)
    assert 4 == second.rows
    policy.completed(staged, 2.0)
    assert [] == started(policy, 2.0)
    policy.completed(second, 3.0)
    assert 1 == take(policy, 3.0).rows


def test_nothing_is_staged_that_would_be_late_behind_the_running_batch() -> None:
    """Four rows of 8 ms behind another 8 ms are staged if they have 16 ms, and not for 15."""
    for deadline, expected in ((15 * MS, [4]), (16.1 * MS, [4, 4])):
        policy = policy_for(key := make_key(max_rows=4), profile=PROFILE)
        offer(policy, key, rows=4, deadline=9 * MS)
        offer(policy, key, rows=4, deadline=deadline)

        assert expected == [batch.rows for batch in started(policy)]


def test_nothing_is_staged_whose_timeout_ends_before_the_running_batch() -> None:
    """Being handed to a busy device is not being started."""
    for start_by, expected in ((7 * MS, []), (8.1 * MS, [4])):
        policy = policy_for(key := make_key(max_rows=4), profile=PROFILE)
        offer(policy, key, rows=4)
        take(policy)
        offer(policy, key, rows=4, start_by=start_by)

        assert expected == [batch.rows for batch in started(policy)]


def test_a_batch_that_was_cut_back_to_a_bucket_is_not_full() -> None:
    """Of five rows that would be padded to 16, four are worth their time; there is room for one."""
    profile = line(1 * MS, 0.0, sizes=(1, 4, 16), padded=True)
    policy = policy_for(key := make_key(max_rows=5), profile=profile)
    offer(policy, key, rows=5, deadline=0.050)
    take(policy)
    for _ in range(7):
        offer(policy, key, deadline=0.050)

    assert [] == started(policy)


def test_the_queue_whose_batch_must_start_first_goes_first() -> None:
    """Not the one whose deadline is first: the other one takes longer."""
    short, long = make_key("short", max_rows=2), make_key("long", max_rows=2)
    policy = policy_for(short, profile=line(0.0, 5 * MS))
    policy.model_ready("d0", long.model, line(0.0, 60 * MS))
    offer(policy, short, rows=2, deadline=0.050)
    offer(policy, long, rows=2, deadline=0.080)

    running = policy.turn(0.0).batches[0]

    assert long is running.key


def test_a_model_that_fills_batches_does_not_starve_one_that_never_does() -> None:
    """The device does not go on with what is full while something else is more urgent."""
    busy, quiet = make_key("busy", max_rows=2), make_key("quiet")
    policy = policy_for(busy, quiet, profile=PROFILE)
    offer(policy, busy, rows=2, deadline=0.100)
    running = take(policy)
    offer(policy, quiet, deadline=0.050)
    offer(policy, busy, rows=2, deadline=0.100)
    assert [] == started(policy)

    policy.completed(running, 6 * MS, 6 * MS)

    assert [quiet, busy] == [batch.key for batch in started(policy, 6 * MS)]


def test_an_idle_device_is_preferred_to_staging() -> None:
    """While a device is idle, nothing is staged behind another."""
    policy = policy_for(key := make_key(max_rows=2), devices=2)
    for _ in range(3):
        offer(policy, key, rows=2)

    batches = started(policy)

    assert [("d0", False), ("d1", False), ("d0", True)] == [(b.device, b.staged) for b in batches]
    assert (2, 1) == (policy.figures.statistics().running, policy.figures.statistics().staged)


def test_a_full_batch_without_deadline_does_not_wait_behind_a_delayed_one() -> None:
    """The timed entries of its queue may wait for company; the device beside them need not idle."""
    key = make_key(max_rows=8, max_delay=2 * MS)
    policy = policy_for(key, devices=2, profile=PROFILE)
    offer(policy, key, rows=2, deadline=1.0)
    full = offer(policy, key, rows=8)

    assert [[full]] == [batch.entries for batch in started(policy)]


def test_many_waiting_queues_of_one_device_do_not_keep_another_idle() -> None:
    """A hundred shapes that wait for a busy device are no reason not to run the other model."""
    shapes = [make_key("many", dims=(n,), max_rows=1) for n in range(1, 101)]
    other = make_key("other")
    policy = policy_for(*shapes, profile=PROFILE)
    bring_up(policy, "d1", other, profile=PROFILE)
    for key in shapes:
        offer(policy, key, deadline=10.0)
    started(policy)

    entry = offer(policy, other, deadline=20.0)

    assert [[entry]] == [batch.entries for batch in started(policy)]


def test_a_staged_batch_may_end_before_the_running_one() -> None:
    """One that could not be sent makes room for the next full batch; the running one goes on."""
    policy = policy_for(key := make_key(max_rows=2))
    for _ in range(3):
        offer(policy, key, rows=2)
    running, staged = started(policy)

    policy.completed(staged, 0.0)
    again = take(policy)

    assert (1, 1) == (policy.figures.statistics().running, policy.figures.statistics().staged)
    policy.completed(running, 1.0)
    policy.completed(again, 2.0)
    assert (0, 0) == (policy.figures.statistics().running, policy.figures.statistics().staged)


# -- devices --------------------------------------------------------------------------------------


def test_a_device_gets_only_models_that_are_ready_on_it() -> None:
    """An entry waits until its model is ready somewhere, and again once it is gone."""
    key = make_key()
    policy = policy_for()
    policy.device_up("d0")
    offer(policy, key)
    assert [] == started(policy)

    policy.model_ready("d0", key.model)
    policy.model_gone("d0", key.model)
    assert [] == started(policy)

    policy.model_ready("d0", key.model)
    assert 1 == take(policy).rows


def test_a_device_that_is_down_gets_nothing() -> None:
    """After device_down the entries wait, and the models must become ready anew."""
    policy = policy_for(key := make_key())
    policy.device_down("d0")
    policy.model_ready("d0", key.model)
    offer(policy, key)
    assert [] == started(policy)

    policy.device_up("d0")
    assert [] == started(policy)
    policy.model_ready("d0", key.model)

    assert 1 == take(policy).rows


def test_the_end_of_a_batch_of_a_lost_worker_frees_nobody() -> None:
    """A completion from before a restart does not free the batch that runs now."""
    policy = policy_for(key := make_key())
    offer(policy, key)
    lost = take(policy)
    policy.device_down("d0")
    bring_up(policy, "d0", key)
    offer(policy, key)
    take(policy)
    offer(policy, key)

    policy.completed(lost, 1.0)

    assert [] == started(policy, 1.0)
    assert 1 == policy.figures.statistics().running


def test_what_a_lost_device_was_to_run_next_waits_again_in_its_place() -> None:
    """A staged batch was never begun: its entries go back, and before those that came later."""
    policy = policy_for(key := make_key(max_rows=2), profile=PROFILE)
    offer(policy, key, rows=2, deadline=1.0)
    first = [offer(policy, key, deadline=1.0) for _ in range(2)]
    running, staged = started(policy)
    later = offer(policy, key, deadline=1.5)
    policy.cancel(first[1])
    policy.device_down("d0")

    assert [False, True, False] == [
        policy.requeue(batch, 1 * MS) for batch in (running, staged, staged)
    ]
    policy.completed(running, 1 * MS)

    assert [State.QUEUED, State.DONE] == [entry.state for entry in first]
    bring_up(policy, "d1", key, profile=PROFILE)
    assert [first[0], later] == take(policy, 2 * MS).entries


def test_what_waits_again_expires_once() -> None:
    """An entry that was staged, and put back, is refused at its last moment like any other."""
    policy = policy_for(key := make_key(max_rows=1), profile=PROFILE)
    offer(policy, key, deadline=0.050)
    entry = offer(policy, key, deadline=0.100)
    running, staged = started(policy)
    policy.device_down("d0")
    policy.completed(running, 0.0)
    policy.requeue(staged, 0.0)

    assert [] == started(policy, 0.050)
    assert [(entry, "EXPIRED")] == refused(policy, 0.101)
    assert (0, None) == (policy.figures.statistics().queued_rows, policy.next_due(0.101))


def test_batches_teach_how_long_they_take() -> None:
    """Nothing is known of a model at first; after a batch of 20 ms, 10 ms are too little."""
    policy = policy_for(key := make_key())
    offer(policy, key, deadline=1 * MS)
    policy.completed(take(policy), 0.020, 0.020)

    with pytest.raises(DeadlineTooShort):
        offer(policy, key, at=0.020, deadline=0.030)

    [known] = policy.figures.latencies()
    assert ("d0", key.model, 1, 1) == (
        known.device,
        known.model,
        known.shapes,
        known.latency.batches,
    )


def test_a_failed_batch_teaches_nothing() -> None:
    """Of a batch that failed nobody knows how long its device was at it."""
    policy = policy_for(key := make_key())
    offer(policy, key)

    policy.completed(take(policy), 5.0, None)

    offer(policy, key, at=5.0, deadline=5.0 + 1 * MS)


# -- rest -----------------------------------------------------------------------------------------


def learnt(max_overhead: float, overhead: float, key: BatchKey) -> Policy:
    """Return a policy that has seen the same overhead many times, at times before 0."""
    policy = policy_for(key, max_overhead=max_overhead)
    for i in range(-200, 0):
        offer(policy, key, rows=key.max_rows, at=float(i))
        policy.completed(take(policy, float(i)), float(i), 0.0, overhead)
    return policy


def test_small_batches_start_so_far_apart_that_their_overhead_has_its_share() -> None:
    """With 0.2 ms of overhead and a share of a quarter, they start 0.8 ms apart, and not before."""
    key = make_key()
    policy = learnt(0.25, 0.2 * MS, key)
    for at in (0.0, 0.0):
        offer(policy, key, at=at)
    policy.completed(take(policy, 0.0), 0.2 * MS, 0.0, 0.2 * MS)
    offer(policy, key, at=0.3 * MS)

    assert [] == started(policy, 0.79 * MS)
    assert pytest.approx(0.8 * MS) == policy.next_due(0.79 * MS)
    assert 1 == take(policy, 0.81 * MS).rows


@pytest.mark.parametrize("beside", [0, 1])
def test_a_clock_that_has_run_for_long_rests_as_well(beside: int) -> None:
    """Entries without deadline have a turn and no moment: it is not compared with the clock."""
    now, key = 1000.0, make_key(max_rows=4)
    policy = learnt(0.25, 0.2 * MS, key)
    offer(policy, key, at=now)
    offer(policy, key, at=now)
    policy.completed(take(policy, now), now + 0.1 * MS, 0.0, 0.2 * MS)
    offer(policy, key, at=now + 0.1 * MS)
    for _ in range(beside):  # one with so little time that all queues are looked at
        offer(policy, make_key("other"), at=now + 0.1 * MS, deadline=now + 3 * MS)

    assert [] == started(policy, now + 0.1 * MS)


def test_a_full_batch_and_a_drain_do_not_rest() -> None:
    """The rest is for company, so it ends when the batch is full or nobody will come."""
    key = make_key(max_rows=4)
    for full in (True, False):
        policy = learnt(0.25, 0.2 * MS, key)
        offer(policy, key)
        offer(policy, key)
        policy.completed(take(policy), 0.1 * MS, 0.0, 0.2 * MS)
        offer(policy, key, at=0.1 * MS)
        assert [] == started(policy, 0.1 * MS)
        if full:
            offer(policy, key, rows=3, at=0.2 * MS)
        else:
            policy.drain()

        assert (Reason.FULL if full else Reason.DRAIN) is take(policy, 0.2 * MS).reason


def test_nobody_is_late_by_resting() -> None:
    """An entry that must start before the rest is over starts at once."""
    key = make_key(max_rows=4)
    soon = 0.5 * MS
    for deadline, start_by in ((soon, NO_DEADLINE), (NO_DEADLINE, soon)):
        policy = learnt(0.25, 0.2 * MS, key)
        offer(policy, key)
        offer(policy, key)
        policy.completed(take(policy), 0.1 * MS, 0.0, 0.2 * MS)

        offer(policy, key, at=0.1 * MS, deadline=deadline, start_by=start_by)

        assert 1 == take(policy, 0.1 * MS).rows


def test_a_caller_who_is_alone_never_waits() -> None:
    """One request after the other leaves at once, whatever the overhead."""
    policy = policy_for(key := make_key(max_rows=4), max_overhead=0.01)
    for i in range(100):
        offer(policy, key, at=i * MS)
        policy.completed(take(policy, i * MS), i * MS, 0.0, 0.9 * MS)


def test_the_rest_is_bounded() -> None:
    """Even an overhead of seconds delays nobody by more than LONGEST_REST."""
    key = make_key()
    policy = learnt(0.01, 5.0, key)
    offer(policy, key)
    offer(policy, key)
    policy.completed(take(policy), 0.0, 0.0, 5.0)
    offer(policy, key, at=0.1 * MS)

    assert [] == started(policy, 0.1 * MS)
    assert LONGEST_REST == policy.next_due(0.1 * MS)
    assert 1 == take(policy, LONGEST_REST).rows


def test_a_share_of_1_switches_the_rest_off() -> None:
    """Without a bound of the overhead nothing waits for company."""
    key = make_key()
    policy = learnt(1.0, 0.2 * MS, key)
    offer(policy, key)
    offer(policy, key)
    policy.completed(take(policy), 0.0, 0.0, 0.2 * MS)
    offer(policy, key, at=0.1 * MS)

    assert 1 == take(policy, 0.1 * MS).rows


def test_the_host_s_own_time_counts_against_deadlines() -> None:
    """With 1 ms of overhead a batch, and 0.5 ms until a reply has left, 6 ms are too little."""
    policy = policy_for(key := make_key(max_rows=4), profile=PROFILE)
    for i in range(100):
        offer(policy, key, at=float(i))
        batch = take(policy, float(i))
        policy.completed(batch, i + 6 * MS, 5 * MS, 1 * MS)
        policy.replied(batch, 0.5 * MS)

    with pytest.raises(DeadlineTooShort):
        offer(policy, key, at=100.0, deadline=100 + 6.4 * MS)
    entry = offer(policy, key, at=100.0, deadline=100 + 6.6 * MS)

    assert [entry] == take(policy, 100.0).entries
