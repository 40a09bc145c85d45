"""What operators set for classes of priority: bounds of their queues, and who may be late."""

from __future__ import annotations

import pytest
from policies import offer, policy_for, refused, started, take
from profiles import line

from jitney.errors import Overloaded
from jitney.scheduling.batch import NO_DEADLINE, State
from jitney.testing import make_key

MS = 0.001
PROFILE = line(1 * MS, 4 * MS)
"""A batch of n rows takes n + 4 ms."""
LATE = (False, True, False)
"""Requests of the middle class wait on when they did not start in time."""


def test_a_class_may_have_a_bound_of_its_own_over_all_shapes() -> None:
    """The other classes are not bounded by it, and a bound of 0 is none."""
    one, two = (make_key("m", dims=(n,), class_queue_rows=(1, 3, 0)) for n in (1, 2))
    policy = policy_for()
    offer(policy, one, rows=2)

    with pytest.raises(Overloaded, match="Exceeds maximum queue size") as caught:
        offer(policy, two, rows=2)
    offer(policy, two)
    offer(policy, one, priority=0)
    for _ in range(10):
        offer(policy, one, priority=2)

    assert "QUEUE_FULL" == caught.value.reason
    assert (
        "Exceeds maximum queue size: 2 rows of model 'm' with the priority of this request are "
        "waiting, the limit is 3"
    ) == str(caught.value)


def test_a_request_that_is_larger_than_its_class_may_have_is_taken_alone() -> None:
    """It could never be served otherwise; the next one is refused."""
    policy = policy_for(key := make_key(class_queue_rows=(2, 2, 2)))

    offer(policy, key, rows=4)

    with pytest.raises(Overloaded):
        offer(policy, key)


def test_whoever_leaves_makes_room_in_the_class() -> None:
    """By starting, by being cancelled, and by expiring."""
    policy = policy_for(key := make_key(max_rows=1, class_queue_rows=(1, 1, 1)))
    offer(policy, key)
    running = take(policy)
    policy.cancel(offer(policy, key))
    offer(policy, key, start_by=1.0)
    assert 1 == len(refused(policy, 2.0))
    offer(policy, key, at=2.0)
    policy.completed(running, 2.0)

    take(policy, 2.0)

    offer(policy, key, at=2.0)


def test_an_entry_of_a_class_that_may_be_late_waits_on_behind_the_others() -> None:
    """It starts after those that came later, and is not refused."""
    policy = policy_for(key := make_key(max_rows=1, delays_late=LATE), profile=PROFILE)
    policy.device_loading("d0", loading=True)
    late = offer(policy, key, start_by=1.0)
    others = [offer(policy, key, at=0.5) for _ in range(2)]
    assert [] == started(policy, 1.1)
    assert (False, 2, NO_DEADLINE) == (late.is_timed, late.priority, late.start_by)
    timed = offer(policy, key, at=1.2, deadline=1.4)
    policy.device_loading("d0", loading=False)

    batches = started(policy, 1.2)
    for i in range(4):
        policy.completed(batches[i], 1.2 + i * 5 * MS)
        batches += started(policy, 1.2 + i * 5 * MS)

    assert [[timed], *([other] for other in others), [late]] == [b.entries for b in batches]


def test_an_entry_of_a_class_that_may_not_be_late_is_refused() -> None:
    """With the text that says so."""
    policy = policy_for(key := make_key(max_rows=1, delays_late=LATE))
    offer(policy, key)
    take(policy)
    entry = offer(policy, key, start_by=1.0, priority=0)

    [(ended, error)] = policy.turn(1.1).refused

    assert (entry, "Request timeout expired") == (ended, str(error))


def test_a_deadline_holds_for_an_entry_that_was_put_last() -> None:
    """It is kept if that is possible, and told when it cannot be any more."""
    policy = policy_for(key := make_key(max_rows=1, delays_late=LATE), profile=PROFILE)
    policy.device_loading("d0", loading=True)
    entry = offer(policy, key, start_by=1.0, deadline=2.0)
    assert [] == started(policy, 1.1)
    assert (True, 2, 2.0) == (entry.is_timed, entry.priority, entry.position)

    [(ended, error)] = policy.turn(1.999).refused

    assert (entry, "Deadline Exceeded") == (ended, str(error)[:17])


def test_a_deadline_that_ends_with_the_timeout_is_what_is_told() -> None:
    """Whoever may be late and has no time for that either is refused for the deadline."""
    policy = policy_for(key := make_key(max_rows=1, delays_late=LATE), profile=PROFILE)
    offer(policy, key)
    take(policy)
    entry = offer(policy, key, start_by=1.0, deadline=1.01)

    [(ended, error)] = policy.turn(1.009).refused

    assert (entry, "Deadline Exceeded", State.DONE) == (ended, str(error)[:17], entry.state)
    assert 0 == policy.figures.statistics().queued_rows


def test_an_entry_that_waits_again_after_a_lost_device_is_put_last_once() -> None:
    """Its old moment comes up a second time, when it has none any more."""
    policy = policy_for(key := make_key(max_rows=1, delays_late=LATE), profile=PROFILE)
    offer(policy, key)
    running = take(policy)
    entry = offer(policy, key, start_by=1.0)
    [staged] = started(policy)
    policy.device_down("d0")
    assert (False, True) == (policy.requeue(running, 0.1), policy.requeue(staged, 0.1))

    assert [[], []] == [policy.turn(now).refused for now in (1.1, 1.2)]

    assert (State.QUEUED, 2) == (entry.state, entry.priority)
    assert policy.cancel(entry)
    assert 0 == policy.figures.statistics().queued_rows
    assert policy.next_due(1.3) is None
