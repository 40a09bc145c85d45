"""What leaves, when and with whom: plain claims first, then all invariants on random schedules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_model import KINDS, Step, World

from jitney.errors import Overloaded
from jitney.scheduling.batch import Batch, BatchKey, Entry, Reason, State
from jitney.scheduling.policy import LONGEST_REST, Policy
from jitney.testing import make_entry, make_key

STEPS = st.tuples(
    st.sampled_from(KINDS), st.integers(0, 63), st.integers(0, 63), st.integers(0, 63)
)


def policy_for(*keys: BatchKey, devices: int = 1) -> Policy:
    """Return a policy whose devices d0, d1, … may run the models of all keys."""
    policy = Policy()
    for i in range(devices):
        policy.device_up(f"d{i}")
        for key in keys:
            policy.model_ready(f"d{i}", key.model)
    return policy


def offer(
    policy: Policy, key: BatchKey, rows: int = 1, at: float = 0.0, deadline: float | None = None
) -> Entry:
    """Offer an entry and return it."""
    entry = make_entry(key, rows=rows, arrived=at, deadline=deadline)
    policy.offer(entry)
    return entry


def take(policy: Policy, now: float = 0.0) -> Batch:
    """Take a batch that must be there."""
    batch = policy.take(now)
    assert batch is not None
    return batch


def part_of(batch: Batch, *entries: Entry) -> Batch:
    """Return part of a failed batch."""
    rows = sum(entry.rows for entry in entries)
    return Batch(batch.key, list(entries), rows, Reason.RETRY, "", batch.formed_at)


# -- timing -------------------------------------------------------------------------------------


def test_without_delay_an_entry_leaves_at_once() -> None:
    """With a device free and max_delay 0, what is there leaves in the same moment."""
    policy = policy_for(key := make_key())
    first, second = offer(policy, key), offer(policy, key, rows=2)

    batch = take(policy)

    assert ([first, second], 3, Reason.IDLE, "d0") == (
        batch.entries,
        batch.rows,
        batch.reason,
        batch.device,
    )
    assert policy.take(0.0) is None


def test_a_delay_ends_at_its_moment_and_not_before() -> None:
    """With a delay of 5 ms nothing leaves at 4.999 ms, and a batch of 3 leaves at 5.000 ms."""
    policy = policy_for(key := make_key(max_rows=8, max_delay=0.005))
    for at in (0.0, 0.002, 0.004):
        offer(policy, key, at=at)

    assert policy.take(0.004999) is None
    assert policy.next_due(0.004999) == 0.005
    batch = take(policy, 0.005)
    assert (3, Reason.DELAY) == (batch.rows, batch.reason)


def test_a_full_batch_does_not_wait_for_its_delay() -> None:
    """The last row that fits ends the waiting."""
    policy = policy_for(key := make_key(max_rows=4, max_delay=0.005))
    offer(policy, key, rows=3)
    assert policy.take(0.001) is None

    offer(policy, key, rows=1, at=0.001)

    assert Reason.FULL is take(policy, 0.001).reason


def test_draining_ends_the_waiting() -> None:
    """While the server drains, nothing waits for company."""
    policy = policy_for(key := make_key(max_delay=0.005))
    offer(policy, key)
    assert policy.take(0.001) is None

    policy.drain()

    assert Reason.DRAIN is take(policy, 0.001).reason


def test_a_deadline_expires_at_its_moment() -> None:
    """An entry with a deadline at 10 ms is there at 9.999 ms and gone at 10.000 ms."""
    policy = policy_for(key := make_key(max_delay=1.0))
    entry = offer(policy, key, deadline=0.010)

    assert policy.expire(0.009999) == []
    assert policy.next_due(0.009999) == 0.010
    assert [entry] == policy.expire(0.010)
    assert (State.DONE, None) == (entry.state, policy.next_due(0.010))


def test_nothing_is_due_while_every_device_is_busy() -> None:
    """Only a completion can change anything then, so there is nothing to wake up for."""
    policy = policy_for(key := make_key(max_rows=2, max_delay=0.005))
    offer(policy, key, rows=2)
    take(policy)
    offer(policy, key, at=0.001)

    assert policy.next_due(0.001) is None
    assert policy.take(1.0) is None


# -- late binding, staging, order ---------------------------------------------------------------


def test_a_batch_grows_while_the_device_is_busy() -> None:
    """Five entries that came during a batch leave as one when it ends."""
    policy = policy_for(key := make_key(max_rows=8))
    offer(policy, key)
    running = take(policy)
    for at in range(5):
        offer(policy, key, at=at / 1000)
        assert policy.take(at / 1000) is None

    policy.completed(running)

    assert 5 == take(policy, 0.005).rows


def test_only_a_full_batch_is_staged_and_only_one() -> None:
    """Behind a running batch waits at most one other, and it has no room left."""
    policy = policy_for(key := make_key(max_rows=4))
    offer(policy, key)
    running = take(policy)
    for _ in range(9):
        offer(policy, key)

    staged = take(policy)

    assert (4, Reason.FULL) == (staged.rows, staged.reason)
    assert policy.take(0.0) is None
    policy.completed(running)
    second = take(policy)
    assert 4 == second.rows
    policy.completed(staged)
    assert policy.take(0.0) is None
    policy.completed(second)
    assert 1 == take(policy).rows


def test_the_queue_with_the_oldest_head_goes_first() -> None:
    """A busy model does not starve a quiet one."""
    busy, quiet = make_key("busy", max_rows=2), make_key("quiet")
    policy = policy_for(busy, quiet)
    offer(policy, busy, rows=2, at=0.0)
    running = take(policy, 0.0)
    offer(policy, quiet, at=0.001)
    offer(policy, busy, rows=1, at=0.002)

    policy.completed(running)

    assert quiet is take(policy, 0.003).key


def test_an_idle_device_is_preferred_to_staging() -> None:
    """While a device is idle, nothing is staged behind another."""
    policy = policy_for(key := make_key(max_rows=2), devices=2)
    for _ in range(3):
        offer(policy, key, rows=2)

    assert ["d0", "d1", "d0"] == [take(policy).device for _ in range(3)]
    assert (2, 1) == (policy.statistics().running, policy.statistics().staged)


def test_a_device_gets_only_models_that_are_ready_on_it() -> None:
    """An entry waits until its model is ready somewhere, and again once it is gone."""
    key = make_key()
    policy = policy_for()
    policy.device_up("d0")
    offer(policy, key)
    assert policy.take(0.0) is None

    policy.model_ready("d0", key.model)
    policy.model_gone("d0", key.model)
    assert policy.take(0.0) is None

    policy.model_ready("d0", key.model)
    assert 1 == take(policy).rows


def test_a_device_that_is_down_gets_nothing() -> None:
    """After device_down the entries wait, and the models must become ready anew."""
    policy = policy_for(key := make_key())
    policy.device_down("d0")
    policy.model_ready("d0", key.model)
    offer(policy, key)
    assert policy.take(0.0) is None

    policy.device_up("d0")
    assert policy.take(0.0) is None
    policy.model_ready("d0", key.model)

    assert 1 == take(policy).rows


def test_the_end_of_a_batch_of_a_lost_worker_frees_nobody() -> None:
    """A completion from before a restart does not free the batch that runs now."""
    policy = policy_for(key := make_key())
    offer(policy, key)
    lost = take(policy)
    policy.device_down("d0")
    policy.device_up("d0")
    policy.model_ready("d0", key.model)
    offer(policy, key)
    take(policy)
    offer(policy, key)

    policy.completed(lost)

    assert policy.take(0.0) is None
    assert 1 == policy.statistics().running


# -- rest ---------------------------------------------------------------------------------------


def learnt(max_overhead: float, overhead: float, key: BatchKey) -> Policy:
    """Return a policy that has seen the same overhead many times, at times before 0."""
    policy = Policy(max_overhead)
    policy.device_up("d0")
    policy.model_ready("d0", key.model)
    for i in range(-200, 0):
        offer(policy, key, rows=key.max_rows, at=float(i))
        policy.completed(take(policy, float(i)), overhead)
    return policy


def test_small_batches_start_so_far_apart_that_their_overhead_has_its_share() -> None:
    """With 0.2 ms of overhead and a share of a quarter, they start 0.8 ms apart, and not before."""
    key = make_key()
    policy = learnt(0.25, 0.0002, key)
    for at in (0.0, 0.0):
        offer(policy, key, at=at)
    policy.completed(take(policy, 0.0), 0.0002)
    offer(policy, key, at=0.0003)

    assert policy.take(0.00079) is None
    assert 0.0008 == pytest.approx(policy.next_due(0.0003))
    assert 1 == take(policy, 0.00081).rows


def test_a_full_batch_and_a_drain_do_not_rest() -> None:
    """The rest is for company, so it ends when the batch is full or nobody will come."""
    key = make_key(max_rows=4)
    for full in (True, False):
        policy = learnt(0.25, 0.0002, key)
        offer(policy, key)
        offer(policy, key)
        policy.completed(take(policy), 0.0002)
        offer(policy, key, at=0.0001)
        assert policy.take(0.0001) is None
        if full:
            offer(policy, key, rows=3, at=0.0002)
        else:
            policy.drain()

        assert (Reason.FULL if full else Reason.DRAIN) is take(policy, 0.0002).reason


def test_a_caller_who_is_alone_never_waits() -> None:
    """One request after the other leaves at once, whatever the overhead."""
    key = make_key(max_rows=4)
    policy = Policy(0.01)
    policy.device_up("d0")
    policy.model_ready("d0", key.model)
    for i in range(100):
        offer(policy, key, at=i / 1000)
        policy.completed(take(policy, i / 1000), 0.0009)


def test_the_rest_is_bounded() -> None:
    """Even an overhead of seconds delays nobody by more than LONGEST_REST."""
    key = make_key()
    policy = learnt(0.01, 5.0, key)
    offer(policy, key)
    offer(policy, key)
    policy.completed(take(policy), 5.0)
    offer(policy, key, at=0.0001)

    assert LONGEST_REST == policy.next_due(0.0001)
    assert 1 == take(policy, LONGEST_REST).rows


def test_a_share_of_1_switches_the_rest_off() -> None:
    """Without a bound of the overhead nothing waits for company."""
    key = make_key()
    policy = learnt(1.0, 0.0002, key)
    offer(policy, key)
    offer(policy, key)
    policy.completed(take(policy), 0.0002)
    offer(policy, key, at=0.0001)

    assert 1 == take(policy, 0.0001).rows


def test_one_late_wake_up_hardly_moves_the_rest() -> None:
    """A single overhead of a second counts like four usual ones, by an eighth."""
    key = make_key()
    policy = learnt(0.5, 0.0002, key)
    offer(policy, key)
    offer(policy, key)

    policy.completed(take(policy), 1.0)

    assert policy._overhead == pytest.approx(0.0002 + 0.0006 / 8)


def test_a_staged_batch_may_end_before_the_running_one() -> None:
    """One that could not be sent makes room for the next full batch; the running one goes on."""
    policy = policy_for(key := make_key(max_rows=2))
    for _ in range(3):
        offer(policy, key, rows=2)
    running, staged = take(policy), take(policy)

    policy.completed(staged)
    again = take(policy)

    assert (1, 1) == (policy.statistics().running, policy.statistics().staged)
    policy.completed(running)
    policy.completed(again)
    assert (0, 0) == (policy.statistics().running, policy.statistics().staged)


# -- limits, cancelling, retries ----------------------------------------------------------------


def test_the_queue_limit_counts_rows_of_a_model_over_all_shapes() -> None:
    """The row that exceeds max_queue_rows is refused, and the text has both numbers."""
    one, two = (make_key("m", dims=(n,), max_queue_rows=4) for n in (1, 2))
    policy = Policy()
    offer(policy, one, rows=3)

    with pytest.raises(Overloaded) as caught:
        offer(policy, two, rows=2)
    offer(policy, two, rows=1)

    assert (
        "Exceeds maximum queue size: 3 rows of model 'm' are waiting, the limit is 4",
        "QUEUE_FULL",
    ) == (str(caught.value), caught.value.reason)
    assert {one.model: 4} == policy.queued_rows()


def test_cancelling_frees_the_room_and_says_where_the_entry_was() -> None:
    """Cancel is true for a waiting entry, false for a running or finished one, and idempotent."""
    policy = policy_for(key := make_key(max_queue_rows=4))
    waiting, other = offer(policy, key, rows=3), offer(policy, key)

    assert [True, False] == [policy.cancel(waiting), policy.cancel(waiting)]
    assert 1 == policy.statistics().queued_rows
    batch = take(policy)
    assert [other] == batch.entries
    assert [False, False] == [policy.cancel(other), policy.cancel(other)]


def test_parts_of_a_failed_batch_go_before_what_waits() -> None:
    """Halves of a failed batch run again first, in order, and are not mixed with newcomers."""
    policy = policy_for(key := make_key(max_rows=2))
    first, second = offer(policy, key), offer(policy, key)
    failed = take(policy)
    offer(policy, key)
    policy.completed(failed)
    policy.retry(part_of(failed, first))
    policy.retry(part_of(failed, second))

    again = take(policy)
    policy.completed(again)
    then = take(policy)

    assert [([first], Reason.RETRY), ([second], Reason.RETRY)] == [
        (b.entries, b.reason) for b in (again, then)
    ]


def test_a_retry_leaves_out_who_was_cancelled() -> None:
    """A part of which half was cancelled runs with the rest; one of which all were, never."""
    policy = policy_for(key := make_key())
    entries = [offer(policy, key) for _ in range(4)]
    failed = take(policy)
    policy.completed(failed)
    policy.retry(part_of(failed, *entries[:2]))
    policy.retry(part_of(failed, *entries[2:]))
    for i in (0, 1, 2):
        policy.cancel(entries[i])

    again = take(policy)

    assert ([entries[3]], 1, 4) == (again.entries, again.rows, again.nbytes)
    assert set() == policy.waiting_models()


def test_thousands_of_cancelled_retries_are_stepped_over() -> None:
    """The parts of a large failed batch whose callers all went away do not exhaust the stack."""
    policy = policy_for(key := make_key(max_rows=5000, max_queue_rows=5000))
    entries = [offer(policy, key) for _ in range(5000)]
    failed = take(policy)
    policy.completed(failed)
    for entry in entries:
        policy.retry(part_of(failed, entry))
        policy.cancel(entry)

    assert policy.take(0.0) is None


def test_a_retry_that_nobody_awaits_any_more_expires() -> None:
    """The deadline of an entry counts between its batch's first run and the second as well."""
    policy = policy_for(key := make_key())
    late, other = offer(policy, key, deadline=0.010), offer(policy, key)
    failed = take(policy)
    policy.model_gone("d0", key.model)
    policy.completed(failed)
    policy.retry(part_of(failed, late, other))

    assert policy.next_due(0.0) == 0.010
    assert [late] == policy.expire(0.010)
    policy.model_ready("d0", key.model)
    assert [other] == take(policy, 0.010).entries


def test_abandoning_a_model_returns_what_waits_and_leaves_other_models() -> None:
    """Queued entries and parts of failed batches of the model are given back, once."""
    mine, other = make_key("mine"), make_key("other")
    policy = policy_for(mine)
    again = offer(policy, mine)
    failed = take(policy)
    policy.completed(failed)
    policy.retry(part_of(failed, again))
    queued, kept = offer(policy, mine), offer(policy, other)

    assert [queued, again] == policy.abandon(mine.model)
    assert [] == policy.abandon(mine.model)
    assert {other.model} == policy.waiting_models()
    assert (State.DONE, State.DONE, State.QUEUED) == (again.state, queued.state, kept.state)


def test_deadlines_of_entries_that_left_are_forgotten() -> None:
    """Ten thousand requests with far deadlines that were served leave no list behind."""
    policy = policy_for(key := make_key())
    for _ in range(10_000):
        offer(policy, key, deadline=1e9)
        policy.completed(take(policy))

    assert len(policy._deadlines) <= 66


def test_repr_is_a_status_line() -> None:
    """The repr shows what waits, runs and is staged."""
    policy = policy_for(key := make_key())
    offer(policy, key)
    take(policy)
    offer(policy, key, rows=2)

    assert "<Policy 1 queued (2 rows) in 1 queues, 1 running, 0 staged>" == repr(policy)


# -- random schedules ---------------------------------------------------------------------------


def play(steps: list[Step], start: float = 0.0, max_overhead: float = 1.0) -> World:
    """Play a schedule to its end; every event is checked."""
    world = World(start, max_overhead)
    world.step(("device_up", 2, 0, 0))
    for step in steps:
        world.step(step)
    world.finish()
    return world


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=80), st.sampled_from([0.1, 0.5, 1.0]))
def test_every_schedule_keeps_the_invariants(steps: list[Step], max_overhead: float) -> None:
    """Whatever happens in whatever order, the contract of Policy holds after every event."""
    play(steps, max_overhead=max_overhead)


def test_thousands_of_random_schedules_keep_the_invariants() -> None:
    """The same on 1,000 schedules of 60 events; a failure names its seed."""
    for seed in range(1000):
        chance = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        steps: list[Step] = [
            (chance.choice(KINDS), chance.randrange(64), chance.randrange(64), chance.randrange(64))
            for _ in range(60)
        ]
        try:
            play(steps, max_overhead=chance.choice((0.1, 0.5, 1.0)))
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


@settings(max_examples=50)
@given(st.lists(STEPS, max_size=80))
def test_decisions_depend_on_the_events_alone(steps: list[Step]) -> None:
    """The same events give the same decisions, also when they happen a million seconds later."""
    log = play(steps).log

    assert log == play(steps).log
    assert log == play(steps, start=float(1 << 20)).log
