"""The queue of one key: its two lanes, and the demand it sees."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from profiles import line

from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.queue import KeyQueue
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from jitney.scheduling.batch import Entry


def empty(*, max_rows: int = 8, max_bytes: int = 1 << 20, now: float = 0.0) -> KeyQueue:
    """Return a queue of a model that takes 1 ms a row and 4 ms a batch."""
    key = make_key(max_rows=max_rows, max_bytes=max_bytes)
    return KeyQueue(key, LatencyModel(line(0.001, 0.004), max_rows, least_spread=0.0), now)


def add(queue: KeyQueue, rows: int = 1, *, arrived: float = 0.0, deadline: float) -> Entry:
    """Let an entry wait as the policy does."""
    entry = make_entry(queue.key, rows=rows, arrived=arrived, deadline=deadline)
    entry.position = min(deadline, arrived)  # anything does
    lane = queue.timed if entry.is_timed else queue.background
    lane.push(entry)
    return entry


def arrivals(queue: KeyQueue, *slacks: float, every: float, rows: int = 1) -> None:
    """Let timed entries arrive, with so much time left to each."""
    for i, slack in enumerate(slacks):
        now = i * every
        entry = make_entry(queue.key, rows=rows, arrived=now, deadline=now + slack)
        entry.position = entry.deadline
        queue.note_arrival(entry, now)


def test_the_last_moment_leaves_the_time_of_the_entry_alone() -> None:
    """Of a deadline of 100 ms, two rows take 6 ms and their reply 1; a timeout counts as it is."""
    queue = empty()
    within = [make_entry(queue.key, rows=2, deadline=0.1, start_by=s) for s in (0.05, 0.5)]

    assert [0.05, pytest.approx(0.093, rel=1e-3)] == [queue.last_moment(e, 0.001) for e in within]


def test_sums_are_those_of_both_lanes() -> None:
    """Entries, rows and bytes (4 a row) count wherever they wait."""
    queue = empty()
    add(queue, 2, deadline=1.0)
    add(queue, 3, deadline=float("inf"))

    assert (2, 5, 20) == (len(queue), queue.rows, queue.nbytes)


def test_it_is_full_with_all_its_rows_or_all_its_bytes() -> None:
    """Eight rows are a batch of eight, and 16 bytes one of 16 bytes; one less is not."""
    rows, nbytes = empty(max_rows=8), empty(max_bytes=16)
    add(rows, 7, deadline=1.0)
    add(nbytes, 3, deadline=1.0)
    assert [False, False] == [rows.is_full(), nbytes.is_full()]

    add(rows, 1, deadline=float("inf"))
    add(nbytes, 1, deadline=float("inf"))

    assert [True, True] == [rows.is_full(), nbytes.is_full()]


def test_the_oldest_is_the_head_of_either_lane() -> None:
    """Delay counts from the arrival of whoever leaves first."""
    queue = empty()
    add(queue, arrived=2.0, deadline=9.0)
    assert 2.0 == queue.oldest()

    add(queue, arrived=1.0, deadline=float("inf"))

    assert 1.0 == queue.oldest()


def test_the_rate_settles_on_what_arrives() -> None:
    """Three rows every 10 ms are 300 a second, once a few SLOs have passed."""
    queue = empty()

    arrivals(queue, *[0.1] * 400, every=0.01, rows=3)

    assert pytest.approx(300, rel=0.03) == queue.rate_at(3.99)


def test_the_rate_fades_within_a_few_slos() -> None:
    """Four SLOs after the last arrival it is down to 1/e; one who was never asked has none."""
    queue = empty()
    arrivals(queue, *[0.1] * 400, every=0.01)

    assert pytest.approx(queue.rate_at(3.99) / 2.718282) == queue.rate_at(3.99 + 0.4)
    assert 0.0 == empty().rate_at(5.0)


def test_the_slo_is_what_nine_of_ten_have() -> None:
    """Of slacks spread over 100 to 200 ms, one in ten is below the slo that is found."""
    queue = empty()
    chance = random.Random(0)  # noqa: S311  # a history, not a secret
    slacks = [0.1 + 0.1 * chance.random() for _ in range(4000)]

    arrivals(queue, *slacks, every=0.001)

    assert pytest.approx(0.11, abs=0.01) == queue.slo


def test_the_first_slack_is_the_slo() -> None:
    """Until others come; one who has no time left tells nothing."""
    queue = empty()

    arrivals(queue, -0.1, 0.0, 0.05, every=0.001)

    assert 0.05 == queue.slo


def test_before_anything_is_known_the_best_batch_is_the_largest() -> None:
    """b* begins at the limit, and a device second is worth nothing that could be priced."""
    queue = empty(max_rows=8)

    assert (8, 0.0, False) == (queue.best_rows, queue.worth, queue.defers)


def test_repr_is_a_status_line() -> None:
    """The repr shows the model, the entries and the rows."""
    queue = empty()
    add(queue, 1, deadline=1.0)
    add(queue, 2, deadline=1.0)

    assert "<KeyQueue echo/1 2 entries, 3 rows>" == repr(queue)
