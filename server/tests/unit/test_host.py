"""What batches and replies cost the host."""

from __future__ import annotations

import math

import pytest

from jitney.scheduling.host import DOUBT_SECONDS, FIRST_BATCH, FIRST_REPLY, MOST, HostCost

NOW = 1000.0


def margin(host: HostCost, replies: int = 1) -> float:
    """Return what is allowed for a batch of requests that have all the time in the world."""
    return host.margin(replies, math.inf)


def settled(batch: float, reply: float = 0.0) -> HostCost:
    """Return the cost of a host on which it was always the same: so much a batch, and a reply."""
    host = HostCost()
    for _ in range(200):
        host.note_batch(batch, NOW)
        if reply:
            host.note_replies(8 * reply, 8)
    return host


def test_nothing_is_allowed_for_before_anything_was_seen() -> None:
    """A fresh host costs nothing."""
    assert 0.0 == margin(HostCost(), 8)


def test_a_batch_costs_the_same_whatever_its_replies() -> None:
    """As long as replies cost nothing."""
    host = HostCost()

    host.note_batch(0.001, NOW)

    assert [0.001, 0.001] == [margin(host, 1), margin(host, 100)]


def test_replies_cost_by_their_number() -> None:
    """Eight replies within 0.4 ms are 50 us each."""
    host = HostCost()

    host.note_replies(0.0004, 8)

    assert [pytest.approx(0.00005), pytest.approx(0.0002)] == [margin(host, 1), margin(host, 4)]


def test_replies_are_averaged_by_reply_and_not_by_batch() -> None:
    """A lone slow reply between batches of 64 hardly counts."""
    host = HostCost()
    for _ in range(100):
        host.note_replies(0.00032, 64)
        host.note_replies(0.0001, 1)

    assert pytest.approx(0.00042 / 65, rel=0.2) == host.reply


def test_no_more_is_allowed_for_replies_than_they_ever_took_lately() -> None:
    """Batches of 8 took 0.4 ms; one of 1000 is not said to take 50."""
    host = settled(0.0, 0.00005)

    assert pytest.approx(0.0004, rel=0.05) == margin(host, 1000)


def test_the_usual_value_follows_and_its_deviation_is_allowed_for_twice() -> None:
    """A batch of 1.5 ms after one of 1 ms moves the mean by an eighth, and adds two deviations."""
    host = HostCost()
    host.note_batch(0.001, NOW)

    host.note_batch(0.0015, NOW)

    assert pytest.approx(0.001 + 0.0005 / 8 + 2 * 0.0005 / 8) == margin(host)


def test_it_settles_on_what_is_always_seen() -> None:
    """After many equal batches and replies the margin is their cost."""
    assert pytest.approx(0.001 + 3 * 0.0001, rel=0.01) == margin(settled(0.001, 0.0001), 3)


def test_the_very_first_values_count_for_a_few_milliseconds_at_most() -> None:
    """They are those of a process that has done nothing before."""
    host = HostCost()

    host.note_batch(1.0, NOW)
    host.note_replies(1.0, 1)

    assert FIRST_BATCH == host.batch
    assert pytest.approx(4 * FIRST_REPLY) == host.reply


def test_one_late_wake_up_hardly_counts() -> None:
    """A second of delay counts for four times what is usual: by an eighth of three times that."""
    host = settled(0.001)

    host.note_batch(1.0, NOW)

    assert pytest.approx(0.001 + 0.003 / 8) == host.batch


def test_a_host_that_stands_still_does_not_make_everything_impossible() -> None:
    """Never more than a fifth of the time that requests bring is allowed for it."""
    host = settled(0.002)
    for _ in range(100):
        host.note_batch(5.0, NOW)

    assert MOST * 0.050 == host.margin(1, 0.050)
    assert margin(host) > 1.0


def test_what_cannot_be_observed_is_doubted() -> None:
    """After DOUBT_SECONDS without a batch, all of it counts 1/e."""
    host = settled(0.001, 0.0001)
    before = margin(host, 4)

    host.doubt(NOW + DOUBT_SECONDS)

    assert pytest.approx(before / math.e) == margin(host, 4)


def test_what_was_seen_a_moment_ago_is_not_doubted() -> None:
    """Only time without any batch counts, and each of it once."""
    host = settled(0.001)

    host.doubt(NOW)
    assert pytest.approx(0.001, rel=0.01) == margin(host)
    for _ in range(5):
        host.doubt(NOW + DOUBT_SECONDS)

    assert pytest.approx(0.001 / math.e, rel=0.01) == margin(host)


def test_repr_is_a_status_line() -> None:
    """The repr shows both costs."""
    host = HostCost()
    host.note_batch(0.002, NOW)
    host.note_replies(0.00005, 1)

    assert "<HostCost 2.000 ms a batch, 50 us a reply>" == repr(host)
