"""How much is asked of a model, and the batch size that suits it."""

from __future__ import annotations

import pytest
from profiles import line

from jitney.scheduling.demand import demands
from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.load import Load
from jitney.scheduling.queue import KeyQueue
from jitney.testing import make_entry, make_key


def queue_of(model: str, count: int, *, dims: tuple[int, ...] = (1,), slo: float = 0.1) -> KeyQueue:
    """Return a queue that saw so many requests of one row, one each millisecond from 0 on."""
    key = make_key(model, dims=dims, max_rows=64)
    queue = KeyQueue(key, LatencyModel(line(0.001, 0.004), 64, least_spread=0.0), 0.0)
    for number in range(count):
        now = number / 1000
        entry = make_entry(key, arrived=now, deadline=now + slo)
        entry.position = entry.deadline
        queue.note_arrival(entry, now)
    return queue


def test_the_busiest_shape_tells_the_batch_size() -> None:
    """Rates add up over the shapes of a model; the rest is of the shape with the highest rate."""
    busy, rare, other = queue_of("m", 100), queue_of("m", 10, dims=(2,)), queue_of("o", 1)
    Load().update([busy, rare, other], 1, 0.1)

    found = demands([rare, busy, other], 0.1)

    assert {busy.key.model, other.key.model} == set(found)
    one = found[busy.key.model]
    assert (2, busy.slo, busy.best_rows, busy.worth) == (
        one.shapes,
        one.slo,
        one.best_rows,
        one.worth,
    )
    assert pytest.approx(busy.rate_at(0.1) + rare.rate_at(0.1)) == one.rate


def test_without_deadlines_there_is_no_best_size() -> None:
    """What waits for no moment has no slack to keep, so no size is the best."""
    idle = queue_of("m", 0)
    Load().update([idle], 1, 0.0)

    one = demands([idle], 0.0)[idle.key.model]

    assert (0.0, 1, 0.0, 0, 0.0) == (one.rate, one.shapes, one.slo, one.best_rows, one.worth)


def test_who_is_not_asked_for_has_no_demand() -> None:
    """Only models that have a queue are there."""
    assert {} == demands([], 0.0)
