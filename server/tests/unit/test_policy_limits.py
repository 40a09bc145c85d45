"""Limits, cancelling, retries, and who goes first when there is too much; plain claims."""

from __future__ import annotations

from collections import Counter

import pytest
from policies import offer, part_of, policy_for, refused, simulate, started, take
from profiles import line

from jitney.errors import Overloaded
from jitney.scheduling.batch import Reason, State
from jitney.scheduling.policy import SOON
from jitney.testing import make_entry, make_key

MS = 0.001
PROFILE = line(1 * MS, 4 * MS)
"""A batch of n rows takes n + 4 ms."""

# -- limits ---------------------------------------------------------------------------------------


def test_the_queue_limit_counts_rows_of_a_model_over_all_shapes() -> None:
    """The row that exceeds max_queue_rows is refused, and the text has both numbers."""
    one, two = (make_key("m", dims=(n,), max_queue_rows=4) for n in (1, 2))
    policy = policy_for()
    offer(policy, one, rows=3)

    with pytest.raises(Overloaded) as caught:
        offer(policy, two, rows=2)
    offer(policy, two, rows=1)

    assert (
        "Exceeds maximum queue size: 3 rows of model 'm' are waiting, the limit is 4",
        "QUEUE_FULL",
    ) == (str(caught.value), caught.value.reason)
    assert {one.model: 4} == policy.figures.queued_rows()


def test_a_tenant_that_fills_the_queue_makes_room_for_one_that_has_less() -> None:
    """The last of the greedy one is evicted, until both have the same."""
    policy = policy_for(key := make_key(max_queue_rows=4))
    greedy = [offer(policy, key, tenant="greedy") for _ in range(4)]
    newcomers = [key, make_key("echo", dims=(2,), max_queue_rows=4)]

    for newcomer, victim in zip(newcomers, (greedy[3], greedy[2]), strict=True):
        offer(policy, newcomer, tenant="modest")
        assert State.DONE is victim.state
    with pytest.raises(Overloaded) as caught:
        offer(policy, key, tenant="modest")

    assert "QUEUE_FULL" == caught.value.reason
    assert [State.QUEUED, State.QUEUED] == [entry.state for entry in greedy[:2]]
    assert {key.model: 4} == policy.figures.queued_rows()


def test_whoever_is_evicted_is_returned_with_a_reason() -> None:
    """Its caller is told at once, not at the next turn."""
    policy = policy_for(key := make_key(max_queue_rows=2))
    greedy = [offer(policy, key, tenant="greedy") for _ in range(2)]

    evicted = policy.offer(modest := make_entry(key, tenant="modest"), 0.0)

    assert [(greedy[1], "TENANT_QUOTA")] == [(entry, error.reason) for entry, error in evicted]
    assert State.QUEUED is modest.state


def test_nobody_is_evicted_for_a_newcomer_that_is_refused_all_the_same() -> None:
    """Neither for one that takes more than its share, nor for one that would be late."""
    policy = policy_for(key := make_key(max_rows=4, max_queue_rows=4), profile=PROFILE)
    offer(policy, key, rows=4, deadline=1.0)
    take(policy)
    greedy = [offer(policy, key, tenant="greedy", deadline=1.0) for _ in range(4)]

    for rows, deadline in ((4, 1.0), (1, 12 * MS)):
        with pytest.raises(Overloaded):
            offer(policy, key, rows=rows, tenant="modest", deadline=deadline)

    assert {State.QUEUED} == {entry.state for entry in greedy}


# -- cancelling, retries, the end -----------------------------------------------------------------


def test_cancelling_frees_the_room_and_says_where_the_entry_was() -> None:
    """Cancel is true for a waiting entry, false for a running or finished one, and idempotent."""
    policy = policy_for(key := make_key(max_queue_rows=4))
    waiting, other = offer(policy, key, rows=3), offer(policy, key)

    assert [True, False] == [policy.cancel(waiting), policy.cancel(waiting)]
    assert 1 == policy.figures.statistics().queued_rows
    batch = take(policy)
    assert [other] == batch.entries
    assert [False, False] == [policy.cancel(other), policy.cancel(other)]


def test_parts_of_a_failed_batch_go_before_what_waits() -> None:
    """Halves of a failed batch run again first, in order, and are not mixed with newcomers."""
    policy = policy_for(key := make_key(max_rows=2))
    first, second = offer(policy, key), offer(policy, key)
    failed = take(policy)
    offer(policy, key)
    policy.completed(failed, 1.0)
    policy.retry(part_of(failed, first))
    policy.retry(part_of(failed, second))

    again = take(policy, 1.0)
    policy.completed(again, 2.0)
    then = take(policy, 2.0)

    assert [([first], Reason.RETRY), ([second], Reason.RETRY)] == [
        (b.entries, b.reason) for b in (again, then)
    ]


def test_a_retry_occupies_its_device_like_any_batch() -> None:
    """Whoever has not the time to wait for its end is refused at once."""
    policy = policy_for(key := make_key(max_rows=4), profile=PROFILE)
    entry = offer(policy, key, rows=4, deadline=1.0)
    failed = take(policy)
    policy.completed(failed, 0.0)
    policy.retry(part_of(failed, entry))
    assert pytest.approx(8 * MS) == take(policy).planned

    with pytest.raises(Overloaded):
        offer(policy, key, rows=4, deadline=10 * MS)


def test_a_retry_leaves_out_who_was_cancelled() -> None:
    """A part of which half was cancelled runs with the rest; one of which all were, never."""
    policy = policy_for(key := make_key())
    entries = [offer(policy, key) for _ in range(4)]
    failed = take(policy)
    policy.completed(failed, 1.0)
    policy.retry(part_of(failed, *entries[:2]))
    policy.retry(part_of(failed, *entries[2:]))
    for i in (0, 1, 2):
        policy.cancel(entries[i])

    again = take(policy, 1.0)

    assert ([entries[3]], 1, 4) == (again.entries, again.rows, again.nbytes)
    assert set() == policy.figures.waiting_models()


def test_thousands_of_cancelled_retries_are_stepped_over() -> None:
    """The parts of a large failed batch whose callers all went away do not exhaust the stack."""
    policy = policy_for(key := make_key(max_rows=5000, max_queue_rows=5000))
    entries = [offer(policy, key) for _ in range(5000)]
    failed = take(policy)
    policy.completed(failed, 1.0)
    for entry in entries:
        policy.retry(part_of(failed, entry))
        policy.cancel(entry)

    assert [] == started(policy, 1.0)


def test_a_retry_that_nobody_awaits_any_more_expires() -> None:
    """The deadline of an entry counts between its batch's first run and the second as well."""
    policy = policy_for(key := make_key())
    late, other = offer(policy, key, deadline=10 * MS), offer(policy, key)
    failed = take(policy)
    policy.model_gone("d0", key.model)
    policy.completed(failed, 1 * MS)
    policy.retry(part_of(failed, late, other))

    assert [] == started(policy, 10 * MS)
    assert 10 * MS + SOON == policy.next_due(10 * MS)
    assert [(late, "EXPIRED")] == refused(policy, 10 * MS + SOON)
    policy.model_ready("d0", key.model)
    assert [other] == take(policy, 11 * MS).entries


def test_a_retry_that_cannot_be_in_time_is_not_run() -> None:
    """A half that takes 5 ms is given up with 4 ms left; whoever has time is run."""
    policy = policy_for(key := make_key(), profile=PROFILE)
    late, other = offer(policy, key, deadline=10 * MS), offer(policy, key)
    failed = take(policy)
    policy.completed(failed, 6 * MS)
    policy.retry(part_of(failed, late, other))

    turn = policy.turn(6 * MS)

    assert [(late, "EXPIRED")] == [(entry, error.reason) for entry, error in turn.refused]
    assert [[other]] == [batch.entries for batch in turn.batches]


def test_abandoning_a_model_returns_what_waits_and_leaves_other_models() -> None:
    """Queued entries and parts of failed batches of the model are given back, once."""
    mine, other = make_key("mine"), make_key("other")
    policy = policy_for(mine)
    again = offer(policy, mine)
    failed = take(policy)
    policy.completed(failed, 1.0)
    policy.retry(part_of(failed, again))
    queued, kept = offer(policy, mine), offer(policy, other)

    assert [queued, again] == policy.abandon(mine.model)
    assert [] == policy.abandon(mine.model)
    assert {other.model} == policy.figures.waiting_models()
    assert (State.DONE, State.DONE, State.QUEUED) == (again.state, queued.state, kept.state)


def test_queues_of_shapes_that_are_not_asked_for_any_more_are_forgotten() -> None:
    """Shapes come from the wire: of two thousand, few are remembered once they are idle."""
    policy = policy_for(*(keys := [make_key("m", dims=(n,)) for n in range(1, 2001)]))
    for i, key in enumerate(keys):
        offer(policy, key, at=float(i))
        policy.completed(take(policy, float(i)), float(i))

    assert len(policy._backlog.queues) <= 270


# -- priorities and tenants, when there is too much -----------------------------------------------


def overload(
    *, classes: int = 1, weights: dict[str, float] | None = None
) -> Counter[tuple[int, str]]:
    """Ask one device for eight times what it can do; return how many were answered of whom.

    The classes take turns; of four requests, three are of tenant a and one of b.
    """
    policy = policy_for(
        key := make_key(max_rows=4, max_queue_rows=10_000), profile=PROFILE, weights=weights
    )
    entries = []
    for i in range(8000):
        at = i * MS / 4
        tenant = "b" if i % 4 == 0 else "a"
        entries.append(
            make_entry(key, arrived=at, deadline=at + 0.040, priority=i % classes, tenant=tenant)
        )
    answered = simulate(policy, entries, seconds=8 * MS, until=2.0)
    return Counter((entry.priority, entry.tenant) for entry in answered)


def test_when_there_is_too_much_a_higher_class_is_answered_first() -> None:
    """High priority gets nearly everything; the others one batch in twenty, and some padding."""
    answered = overload(classes=3)

    by_class = [sum(n for (p, _), n in answered.items() if p == wanted) for wanted in range(3)]
    assert by_class[0] > 0.7 * sum(by_class)
    assert by_class[2] > 0


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (3.0, 0.75)])
def test_when_there_is_too_much_tenants_share_it_by_weight(weight: float, share: float) -> None:
    """Both ask for more than there is, one three times as often; weights decide nevertheless."""
    answered = overload(weights={"b": weight})

    assert pytest.approx(share, abs=0.05) == answered[0, "b"] / answered.total()


def test_while_there_is_room_priorities_change_nothing() -> None:
    """The earliest deadline goes first, of whatever class."""
    policy = policy_for(key := make_key(max_rows=1), profile=PROFILE)
    low = offer(policy, key, deadline=0.100, priority=2)
    offer(policy, key, deadline=0.200, priority=0)

    assert [low] == policy.turn(0.0).batches[0].entries
