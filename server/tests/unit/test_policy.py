"""When a batch leaves and with whom, and who is too late: plain claims with exact times."""

from __future__ import annotations

import pytest
from policies import bring_up, offer, policy_for, refused, simulate, started, take
from profiles import line

from jitney.errors import DeadlineTooShort, Overloaded
from jitney.latency_profile import LatencyProfile
from jitney.scheduling.batch import BatchKey, Mode, Reason, State
from jitney.scheduling.policy import SOON
from jitney.testing import make_entry, make_key

MS = 0.001
PROFILE = line(1 * MS, 4 * MS)
"""A batch of n rows takes n + 4 ms."""

# -- when a batch leaves --------------------------------------------------------------------------


def test_without_delay_an_entry_leaves_at_once() -> None:
    """With a device free and max_delay 0, what is there leaves in the same moment."""
    policy = policy_for(key := make_key())
    first, second = offer(policy, key), offer(policy, key, rows=2)

    batch = take(policy)

    assert ([first, second], 3, 12, Reason.IDLE, "d0", False) == (
        batch.entries,
        batch.rows,
        batch.nbytes,
        batch.reason,
        batch.device,
        batch.staged,
    )
    assert [] == started(policy)


def test_a_delay_ends_at_its_moment_and_not_before() -> None:
    """With a delay of 5 ms nothing leaves at 4.999 ms, and a batch of 3 leaves at 5.000 ms."""
    policy = policy_for(key := make_key(max_rows=8, max_delay=5 * MS))
    for at in (0.0, 2 * MS, 4 * MS):
        offer(policy, key, at=at)

    assert [] == started(policy, 4.999 * MS)
    assert 5 * MS == policy.next_due(4.999 * MS)
    batch = take(policy, 5 * MS)
    assert (3, Reason.DELAY) == (batch.rows, batch.reason)


def test_a_full_batch_does_not_wait_for_its_delay() -> None:
    """The last row that fits ends the waiting, whether or not there are deadlines."""
    for deadline in (float("inf"), 1.0):
        policy = policy_for(key := make_key(max_rows=4, max_delay=5 * MS), profile=PROFILE)
        offer(policy, key, rows=3, deadline=deadline)
        assert [] == started(policy, 1 * MS)

        offer(policy, key, rows=1, at=1 * MS, deadline=deadline)

        assert Reason.FULL is take(policy, 1 * MS).reason


def test_a_batch_is_no_larger_than_does_good() -> None:
    """Where 8 rows take longer than twice 4, those without deadline leave four at a time."""
    sizes = (1, 2, 4, 8)
    profile = LatencyProfile(sizes, (3 * MS, 4 * MS, 6 * MS, 14 * MS), (0.0,) * 4, padded=False)
    policy = policy_for(key := make_key(max_rows=8), profile=profile)
    entries = [offer(policy, key) for _ in range(8)]

    first = take(policy)
    policy.completed(first, 6 * MS, 6 * MS)
    second = take(policy, 6 * MS)

    assert ([entries[:4], entries[4:]], [Reason.FULL] * 2) == (
        [first.entries, second.entries],
        [first.reason, second.reason],
    )


def test_bytes_limit_a_batch_as_rows_do() -> None:
    """An entry whose bytes do not fit waits for the next batch; all its bytes make a batch full."""
    for deadline in (float("inf"), 1.0):
        policy = policy_for(key := make_key(max_rows=8, max_bytes=12, max_delay=1.0), devices=2)
        first = [offer(policy, key, rows=n, deadline=deadline) for n in (1, 2)]
        second = offer(policy, key, rows=3, deadline=deadline)

        batches = started(policy)

        assert [(first, 12, Reason.FULL), ([second], 12, Reason.FULL)] == [
            (batch.entries, batch.nbytes, batch.reason) for batch in batches
        ]


def test_a_deadline_ends_the_delay() -> None:
    """An entry that would be late leaves before its delay is over, with time for the wake-up."""
    policy = policy_for(key := make_key(max_rows=8, max_delay=1.0), profile=PROFILE)
    offer(policy, key, deadline=0.100)
    assert [] == started(policy, 0.0)

    due = policy.next_due(0.0)

    assert due is not None
    assert 0.090 < due < 0.095
    assert [1] == [batch.rows for batch in started(policy, due)]


def test_a_timeout_ends_the_delay() -> None:
    """A request that must have started within 50 ms is not kept waiting for company until then."""
    policy = policy_for(key := make_key(max_rows=8, max_delay=1.0), profile=PROFILE)
    offer(policy, key, start_by=0.050)
    assert [] == started(policy, 0.0)

    due = policy.next_due(0.0)

    assert due is not None
    assert 0.045 < due < 0.050
    assert [1] == [batch.rows for batch in started(policy, due)]


def test_draining_ends_the_waiting() -> None:
    """While the server drains, nothing waits for company."""
    policy = policy_for(key := make_key(max_delay=5 * MS))
    offer(policy, key)
    assert [] == started(policy, 1 * MS)

    policy.drain()

    assert Reason.DRAIN is take(policy, 1 * MS).reason


def test_nothing_is_due_while_every_device_is_busy() -> None:
    """Only a completion can change anything then, so there is nothing to wake up for."""
    policy = policy_for(key := make_key(max_rows=2, max_delay=5 * MS))
    offer(policy, key, rows=2)
    take(policy)
    offer(policy, key, at=1 * MS)

    assert [] == started(policy, 1 * MS)
    assert None is policy.next_due(1 * MS)
    assert [] == started(policy, 1.0)


# -- deadlines ------------------------------------------------------------------------------------


def test_a_batch_takes_as_many_as_its_earliest_deadline_allows() -> None:
    """11 ms are 7 rows; the eighth goes when the device is free again."""
    policy = policy_for(key := make_key(max_rows=8), profile=PROFILE)
    entries = [offer(policy, key, deadline=11.5 * MS)]
    entries += [offer(policy, key, deadline=1.0) for _ in range(7)]

    batch = take(policy)

    assert (entries[:7], Reason.DEADLINE, pytest.approx(11 * MS)) == (
        batch.entries,
        batch.reason,
        batch.planned,
    )
    policy.completed(batch, 11 * MS, 11 * MS)
    assert entries[7:] == take(policy, 11 * MS).entries


def test_the_earliest_deadline_goes_first_and_equal_ones_by_arrival() -> None:
    """A later arrival overtakes only with an earlier deadline."""
    policy = policy_for(key := make_key(max_rows=1), profile=PROFILE)
    late, first, early, second = (offer(policy, key, deadline=d) for d in (3.0, 2.0, 1.0, 2.0))

    batches = started(policy)
    for i in (1, 2):
        policy.completed(batches[i - 1], i * 5 * MS, 5 * MS)
        batches += started(policy, i * 5 * MS)

    assert [[early], [first], [second], [late]] == [batch.entries for batch in batches]


def test_what_is_hopeless_even_alone_is_refused_at_once() -> None:
    """4.9 ms are too little for a row that takes 5 ms, and the text has both figures."""
    policy = policy_for(key := make_key(), profile=PROFILE)

    with pytest.raises(DeadlineTooShort) as caught:
        offer(policy, key, at=1.0, deadline=1.0 + 4.9 * MS)
    offer(policy, key, at=1.0, deadline=1.0 + 5.1 * MS)

    assert (
        "Deadline Exceeded: 4.9 ms are left for the request, and model 'echo' takes about 5.0 ms "
        "for it alone"
    ) == str(caught.value)


def test_what_waits_is_told_as_soon_as_it_is_hopeless() -> None:
    """Behind a long batch, an entry for 100 ms of 5 is there at 95 ms and refused just after."""
    policy = policy_for(key := make_key(max_rows=1), profile=PROFILE)
    offer(policy, key, deadline=10.0)
    take(policy)
    entry = offer(policy, key, deadline=0.100)
    started(policy)
    other = offer(policy, key, deadline=0.050)

    assert [] == started(policy, 0.040)
    assert pytest.approx(0.045 + SOON) == policy.next_due(0.040)
    assert [(other, "EXPIRED")] == refused(policy, 0.045 + SOON)
    assert State.RUNNING is entry.state  # staged, and expected in time


def test_a_timeout_is_when_a_batch_must_have_started() -> None:
    """Without a deadline, start_by alone ends the waiting, in the protocol's words."""
    policy = policy_for(key := make_key(max_rows=2), profile=PROFILE)
    offer(policy, key)
    take(policy)
    entry = offer(policy, key, start_by=0.020)

    assert [] == started(policy, 0.020)
    [(ended, error)] = policy.turn(0.0200011).refused

    assert (entry, "Request timeout expired", "EXPIRED") == (ended, str(error), error.reason)


def test_what_stands_before_an_entry_can_make_it_late_already() -> None:
    """A device is busy for 5 ms; within 30 ms it can begin with 20 rows of 1 ms and then one more.

    Batches' fixed costs are left out of the forecast, so the refusal is certain to be right.
    """
    policy = policy_for(key := make_key(max_rows=4), profile=PROFILE)
    offer(policy, key, deadline=1.0)
    take(policy)
    for _ in range(21):
        offer(policy, key, deadline=30.05 * MS)

    with pytest.raises(Overloaded) as caught:
        offer(policy, key, deadline=30.05 * MS)

    text = "what waits for model 'echo' already would make this request late"
    assert ("PREDICTED_LATE", text) == (caught.value.reason, str(caught.value))
    assert 0 < caught.value.retry_after < 0.1


def test_nobody_is_refused_while_a_device_is_idle_and_nothing_waits() -> None:
    """What fits in time is taken on."""
    policy = policy_for(key := make_key(max_rows=4), devices=2, profile=PROFILE)
    offer(policy, key, rows=4, deadline=1.0)
    take(policy)

    entry = offer(policy, key, rows=4, deadline=8.1 * MS)

    assert [entry] == take(policy).entries


def test_what_other_devices_have_to_do_makes_nobody_late() -> None:
    """A long queue for a model of one device is no reason to refuse what an idle one would run."""
    busy, idle = make_key("busy", max_rows=1), make_key("idle")
    policy = policy_for(busy, profile=PROFILE)
    bring_up(policy, "d1", idle, profile=line(0.0, 0.150))
    for _ in range(100):
        offer(policy, busy, deadline=0.200)

    entry = offer(policy, idle, deadline=0.201)

    assert [entry] in [batch.entries for batch in started(policy)]


def test_many_shapes_that_other_devices_have_to_do_make_nobody_late_either() -> None:
    """The work of a hundred queues that wait for a busy device is not an idle one's."""
    shapes = [make_key("busy", dims=(n,), max_rows=1) for n in range(1, 101)]
    policy = policy_for(*shapes, profile=PROFILE)
    bring_up(policy, "d1", idle := make_key("idle"), profile=PROFILE)
    for key in shapes:
        offer(policy, key, deadline=10.0)
    started(policy)
    assert [] == started(policy, 0.5)

    entry = offer(policy, idle, at=0.5, deadline=0.510)

    assert [[entry]] == [batch.entries for batch in started(policy, 0.5)]


def test_heads_are_given_up_for_a_clearly_larger_batch() -> None:
    """One that has time for itself alone bars ten others: it is told to come back later."""
    policy = policy_for(key := make_key(max_rows=16), profile=PROFILE)
    head = offer(policy, key, deadline=5.5 * MS)
    others = [offer(policy, key, deadline=20 * MS) for _ in range(10)]

    turn = policy.turn(0.0)

    [(given_up, error)] = turn.refused
    assert (head, "SHED", State.DONE) == (given_up, error.reason, head.state)
    assert isinstance(error, Overloaded)
    assert error.retry_after > 0
    assert [others] == [batch.entries for batch in turn.batches]


def test_nobody_is_given_up_while_another_device_is_idle() -> None:
    """The head goes alone, and the ten others on the second device, in the same turn."""
    policy = policy_for(key := make_key(max_rows=16), devices=2, profile=PROFILE)
    head = offer(policy, key, deadline=5.5 * MS)
    others = [offer(policy, key, deadline=20 * MS) for _ in range(10)]

    assert [[head], others] == [batch.entries for batch in started(policy)]


def test_what_a_slow_device_cannot_do_waits_for_the_fast_one() -> None:
    """Tight entries are neither started on it nor given up by it, and do not bar others."""
    key = make_key(max_rows=1)
    policy = policy_for(key, profile=PROFILE)
    offer(policy, key, deadline=1.0)
    take(policy)
    bring_up(policy, "slow", key, profile=line(0.0, 50 * MS))
    tight = [offer(policy, key, deadline=20 * MS) for _ in range(2)]
    patient = offer(policy, key, deadline=1.0)

    batches = {batch.device: batch.entries for batch in started(policy)}

    assert {"d0": [tight[0]], "slow": [patient]} == batches
    assert State.QUEUED is tight[1].state


# -- entries without deadline ---------------------------------------------------------------------


def test_entries_without_deadline_ride_along_without_making_anybody_late() -> None:
    """With 10 ms for one entry there is room for five more rows, and no sixth."""
    policy = policy_for(key := make_key(max_rows=16), profile=PROFILE)
    riders = [offer(policy, key) for _ in range(8)]
    timed = offer(policy, key, deadline=10.5 * MS)

    assert [timed, *riders[:5]] == take(policy).entries


def test_entries_without_deadline_take_turns_by_tenant() -> None:
    """A tenant that sends many does not keep another one's request waiting behind them."""
    policy = policy_for(key := make_key(max_rows=2), profile=PROFILE)
    greedy = [offer(policy, key, tenant="greedy") for _ in range(6)]
    modest = offer(policy, key, tenant="modest")

    assert {greedy[0], modest} == set(started(policy)[0].entries)


def test_entries_without_deadline_have_a_twentieth_of_a_busy_device() -> None:
    """Beside deadlines that never leave the device idle, the reserve is theirs after a second."""
    urgent, patient = make_key("urgent", max_rows=4), make_key("patient", max_rows=4)
    policy = policy_for(urgent, patient, profile=PROFILE)
    background = [make_entry(patient, rows=4) for _ in range(100)]
    stream = [
        make_entry(urgent, rows=4, arrived=i * 8 * MS, deadline=i * 8 * MS + 0.100)
        for i in range(500)
    ]

    answered = simulate(policy, [*background, *stream], seconds=8 * MS, until=4.0)

    served = sum(entry.key is patient for entry in answered)
    batches = 4.0 / (8 * MS)
    assert 0.04 * batches <= served <= 0.06 * batches


# -- efficiency -----------------------------------------------------------------------------------


def efficient(max_rows: int = 8) -> BatchKey:
    """Return a key whose batches are deferred."""
    return make_key(max_rows=max_rows, mode=Mode.EFFICIENCY)


def test_in_efficiency_mode_a_batch_waits_for_its_last_moment() -> None:
    """Two rows of 6 ms with 100 ms leave a little before a third could not join them any more."""
    policy = policy_for(key := efficient(), profile=PROFILE)
    offer(policy, key, deadline=0.100)
    offer(policy, key, deadline=0.200)
    assert [] == started(policy)

    due = policy.next_due(0.0)

    assert due is not None
    assert 0.090 < due <= 0.093
    assert [] == started(policy, due - 1e-6)
    assert (2, Reason.DELAY) == ((batch := take(policy, due)).rows, batch.reason)


@pytest.mark.parametrize("padded", [False, True])
def test_a_deferred_entry_survives_a_timer_that_is_late(padded: bool) -> None:  # noqa: FBT001
    """A wake-up 0.3 ms after its moment still finds the entry in time, whatever the ladder."""
    policy = policy_for(key := efficient(), profile=line(0.0, 5 * MS, sizes=(8,), padded=padded))
    entry = offer(policy, key, deadline=0.100)
    started(policy)
    due = policy.next_due(0.0)
    assert due is not None

    assert [entry] == take(policy, due + 0.3 * MS).entries


def test_in_efficiency_mode_a_full_batch_leaves_at_once() -> None:
    """There is nothing left to wait for."""
    policy = policy_for(key := efficient(), profile=PROFILE)
    for _ in range(8):
        offer(policy, key, deadline=1.0)

    assert (8, Reason.FULL) == ((batch := take(policy)).rows, batch.reason)


def test_in_efficiency_mode_entries_without_deadline_wait_as_long_as_a_full_batch_runs() -> None:
    """Eight rows take 12 ms, so that long is a fair time to wait for them."""
    policy = policy_for(key := efficient(), profile=PROFILE)
    offer(policy, key)

    assert [] == started(policy, 11.9 * MS)
    assert pytest.approx(12 * MS) == policy.next_due(11.9 * MS)
    assert 1 == take(policy, 12.001 * MS).rows


def test_repr_is_a_status_line() -> None:
    """The repr shows what waits, runs and is staged, and the load."""
    policy = policy_for(key := make_key())
    offer(policy, key)
    take(policy)
    offer(policy, key, rows=2)

    assert "<Policy 1 queued (2 rows) in 1 queues, 1 running, 0 staged, load 0.00>" == repr(policy)
