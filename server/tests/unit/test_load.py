"""What is asked of the devices, and the price that follows."""

from __future__ import annotations

import itertools

import pytest
from profiles import line

from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.load import FULL_AT, LEAST_PRESSURE, RISES_FROM, Load
from jitney.scheduling.queue import KeyQueue
from jitney.testing import make_entry, make_key

ALPHA, BETA, SLO = 0.001, 0.004, 0.030
NOW = 100.0


def asked(
    rate: float,
    *,
    waiting: int = 0,
    slo: float = SLO,
    max_rows: int = 64,
    since: float = NOW - 100,
) -> KeyQueue:
    """Return a queue that sees ``rate`` rows a second, for long, with so many waiting."""
    key = make_key(max_rows=max_rows)
    queue = KeyQueue(key, LatencyModel(line(ALPHA, BETA), max_rows, least_spread=0.0), since)
    queue.slo, queue.rate, queue.rated_at = slo, rate, NOW
    for _ in range(waiting):
        entry = make_entry(key, deadline=NOW + slo)
        entry.position = entry.deadline
        queue.timed.push(entry)
    return queue


def load_of(*queues: KeyQueue, devices: int = 1) -> Load:
    """Return the load that these queues make."""
    load = Load()
    load.update(queues, devices, NOW)
    return load


def test_nothing_asked_is_no_load() -> None:
    """Without queues, or before the first arrival, the price is the least."""
    fresh = asked(0.0, slo=0.0)

    for load in (load_of(), load_of(fresh), load_of(fresh, devices=0)):
        assert (0.0, LEAST_PRESSURE, False) == (load.utilisation, load.pressure, load.tight)


@pytest.mark.parametrize(
    ("queues", "devices", "rows"),
    [
        (1, 1, 11),  # 30 ms / 2 = 15 ms: 11 rows take 15
        (1, 2, 16),  # 30 ms / 1.5 = 20 ms
        (2, 2, 11),  # 30 ms / 2
        (2, 1, 6),  # 30 ms / 3 = 10 ms
    ],
)
def test_the_best_batch_lets_all_queues_take_their_turn(
    queues: int, devices: int, rows: int
) -> None:
    """b* is the largest with (1 + M / N) l(b) <= SLO (scheduling theory's staggered capacity)."""
    busy = [asked(1000.0, slo=SLO + 1e-9) for _ in range(queues)]

    load_of(*busy, devices=devices)

    assert {rows} == {queue.best_rows for queue in busy}
    assert pytest.approx(rows / (ALPHA * rows + BETA)) == busy[0].worth


def test_a_queue_that_is_hardly_used_takes_no_turn() -> None:
    """One row in ten SLOs leaves the busy queue nearly all of the cycle."""
    busy = asked(1000.0, slo=SLO + 1e-9)

    load = load_of(busy, asked(0.1 / SLO))

    assert pytest.approx(1.1) == load.active
    assert 10 == busy.best_rows  # 30 ms / 2.1


def test_the_best_batch_is_at_least_one_row_and_at_most_the_limit() -> None:
    """A slack that not even one row fits into, and one that hundreds would."""
    short, long = asked(1000.0, slo=0.001), asked(1000.0, slo=10.0, max_rows=16)

    load_of(short)
    load_of(long)

    assert (1, 16) == (short.best_rows, long.best_rows)


def test_utilisation_is_demand_over_capacity() -> None:
    """Half of what one device yields at b* is a load of a half, and of a quarter on two."""
    queue = asked(0.5 * 11 / 0.015, slo=SLO + 1e-9)

    assert pytest.approx(0.5) == load_of(queue).utilisation


def test_it_is_tight_when_more_is_asked_for_than_there_is() -> None:
    """From the capacity on; two devices have twice of it."""
    capacity = 11 / 0.015

    loads = [load_of(asked(f * capacity, slo=SLO + 1e-9)).tight for f in (0.99, 1.01)]

    assert [False, True] == loads
    assert not load_of(asked(1.01 * capacity), devices=2).tight


def test_what_waits_counts_as_load() -> None:
    """Near capacity, rates react too late: a queue of more than a SLO's work is overload."""
    idle = load_of(asked(10.0))
    backlog = load_of(asked(10.0, waiting=30))

    assert LEAST_PRESSURE == idle.pressure
    assert 1.0 == backlog.pressure
    assert not backlog.tight


def test_pressure_rises_from_its_least_to_one_and_never_falls_with_load() -> None:
    """It is least up to RISES_FROM and 1 from FULL_AT on; half-way it is half-way."""
    capacity = 11 / 0.015
    shares = [f / 100 for f in range(50, 151)]
    loads = [load_of(asked(share * capacity, slo=SLO + 1e-9)) for share in shares]

    pressures = [load.pressure for load in loads]

    assert all(a <= b for a, b in itertools.pairwise(pressures))
    at = dict(zip(shares, pressures, strict=True))
    assert LEAST_PRESSURE == at[round(RISES_FROM - 0.01, 2)]
    assert 1.0 == at[round(FULL_AT + 0.01, 2)]
    half = load_of(asked((RISES_FROM + FULL_AT) / 2 * capacity, slo=SLO + 1e-9))
    assert pytest.approx((1 + LEAST_PRESSURE) / 2, abs=0.01) == half.pressure


def test_a_first_burst_is_believed_only_when_it_is_far_too_much() -> None:
    """A smoothed rate begins at 0: 0.7 of the capacity within a SLO of the first is 1.8, really.

    From 0.5 would follow 1.3, which may as well be noise: it counts as it was seen.
    """
    capacity = 11 / 0.015
    loads = [
        load_of(asked(share * capacity, slo=SLO + 1e-9, since=since))
        for share, since in ((0.5, NOW - SLO), (0.7, NOW - SLO), (0.7, NOW - 100))
    ]

    assert [False, True, False] == [load.tight for load in loads]


def test_waiting_for_larger_batches_pays_only_when_devices_are_busy() -> None:
    """At a tenth of the load nobody waits, near the capacity of many devices batches do.

    Their fixed cost is then saved more often than a device idles.
    """
    capacity = 16 * 26 / (0.026 + 0.004)
    quiet, busy = asked(0.1 * capacity), asked(0.9 * capacity)

    load_of(quiet, devices=16)
    load_of(busy, devices=16)

    assert [False, True] == [quiet.defers, busy.defers]


def test_where_nothing_is_known_nothing_is_priced() -> None:
    """A model without latencies has batches of any size, no worth, and makes no load."""
    queue = asked(1000.0)
    queue.latency = LatencyModel.unknown(64)

    load = load_of(queue)

    assert (64, 0.0, 0.0) == (queue.best_rows, queue.worth, load.utilisation)


def test_what_was_known_of_a_lost_device_is_not_needed() -> None:
    """A queue that was priced by its latencies is looked at again when none are known any more."""
    queue = asked(100.0)
    load_of(queue)
    queue.latency = LatencyModel.unknown(64)

    assert pytest.approx(1.0) == load_of(queue).active
    assert 0.0 == queue.worth
