"""What is said to whoever is refused."""

from __future__ import annotations

import pytest
from profiles import line

from jitney.scheduling import refusals
from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.queue import KeyQueue
from jitney.testing import make_entry, make_key


def queue() -> KeyQueue:
    """Return a queue of a model whose best batch takes 12 ms."""
    key = make_key("m", max_rows=8, max_queue_rows=16)
    return KeyQueue(key, LatencyModel(line(0.001, 0.004), 8, least_spread=0.0), 0.0)


@pytest.mark.parametrize("reason", ["PREDICTED_LATE", "SHED", "TENANT_QUOTA"])
def test_overload_says_when_to_come_back(reason: str) -> None:
    """After the time that is missing, or a batch's; the text names the model."""
    there = queue()
    entry = make_entry(there.key)

    errors = [refusals.overloaded(there, entry, reason, seconds) for seconds in (0.0, 0.5)]

    assert [pytest.approx(0.012), 0.5] == [error.retry_after for error in errors]
    assert {reason} == {error.reason for error in errors}
    assert "'m'" in str(errors[0])


def test_advice_is_never_to_come_back_at_once() -> None:
    """Where nothing is known of a model, a millisecond is the least."""
    there = queue()
    there.latency = LatencyModel.unknown(8)

    assert 0.001 == refusals.queue_full(there, make_entry(there.key), 16).retry_after


def test_a_full_queue_is_told_in_the_protocol_s_words() -> None:
    """With both numbers."""
    there = queue()

    error = refusals.queue_full(there, make_entry(there.key), 15)

    assert (
        "Exceeds maximum queue size: 15 rows of model 'm' are waiting, the limit is 16",
        "QUEUE_FULL",
    ) == (str(error), error.reason)


def test_a_full_class_is_told_apart_from_a_full_queue() -> None:
    """In the same words, with the limit of the class."""
    key = make_key("m", class_queue_rows=(2, 3, 4))
    there = KeyQueue(key, LatencyModel.unknown(4), 0.0)

    error = refusals.class_full(there, make_entry(key, priority=2), 4)

    assert "Exceeds maximum queue size: 4 rows" == str(error)[:34]
    assert ("the limit is 4", "QUEUE_FULL", 0.001) == (
        str(error)[-14:],
        error.reason,
        error.retry_after,
    )


def test_a_timeout_and_a_deadline_end_in_their_own_words() -> None:
    """Who had to be started by now timed out; who had until later could not be in time."""
    timeout = make_entry(start_by=1.0, deadline=9.0)
    deadline = make_entry(deadline=2.5)

    assert "Request timeout expired" == str(refusals.expired(timeout, 2.0))
    assert "Deadline Exceeded" in str(refusals.expired(deadline, 2.0))


def test_too_short_a_deadline_is_told_with_both_figures() -> None:
    """What is left, and what the model takes; what is past counts as nothing left."""
    entry = make_entry(make_key("m"), deadline=1.0)

    assert (
        "Deadline Exceeded: 5.0 ms are left for the request, and model 'm' takes about 12.0 ms "
        "for it alone"
    ) == str(refusals.too_short(entry, 0.995, 0.012))
    assert "0.0 ms are left" in str(refusals.too_short(entry, 2.0, 0.012))
