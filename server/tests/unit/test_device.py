"""A device, as the policy sees it."""

from __future__ import annotations

import pytest
from profiles import line

from jitney.scheduling import device as module
from jitney.scheduling.batch import Batch, BatchKey, Reason
from jitney.scheduling.device import DeviceState
from jitney.testing import make_key
from jitney.types import ModelRef

PROFILE = line(0.001, 0.004)


def batch(planned: float) -> Batch:
    """Return a batch that should take so long."""
    return Batch(make_key(), [], 1, Reason.FULL, "d0", 0.0, planned=planned)


def taught(key: BatchKey, seconds: float) -> DeviceState:
    """Return a device that has run a batch of one row of an unknown model."""
    device = DeviceState("d0")
    device.add(key.model, None)
    device.latency(key, 0.0).observe(1, seconds)
    return device


def test_it_is_free_when_what_it_was_given_has_ended() -> None:
    """A staged batch counts, and starts when the running one has ended, early or late."""
    device, running, staged = DeviceState("d0"), batch(5.0), batch(2.0)

    device.start(running, 100.0)
    device.stage(staged)
    both = device.free_at
    device.end(running, 103.0)

    assert (107.0, 105.0, staged, None) == (both, device.free_at, device.running, device.staged)
    device.end(staged, 106.0)
    assert (106.0, None) == (device.free_at, device.running)


def test_a_staged_batch_that_never_starts_gives_its_time_back() -> None:
    """The running one goes on."""
    device, running, staged = DeviceState("d0"), batch(5.0), batch(2.0)
    device.start(running, 100.0)
    device.stage(staged)

    device.end(staged, 101.0)

    assert (105.0, running, None) == (device.free_at, device.running, device.staged)


def test_the_end_of_a_batch_it_does_not_have_changes_nothing() -> None:
    """It may be from before the worker was replaced."""
    device, running = DeviceState("d0"), batch(5.0)
    device.start(running, 100.0)

    device.end(batch(1.0), 103.0)

    assert (105.0, running) == (device.free_at, device.running)


def test_latencies_are_kept_by_shape() -> None:
    """A key that is made anew knows what batches of its shape took; another shape does not."""
    device = taught(make_key("m"), 0.020)

    again, other = (device.latency(make_key("m", dims=(n,)), 0.0) for n in (1, 2))

    assert (pytest.approx(0.020), 0.0) == (again.mean(1), other.mean(1))


def test_a_model_that_comes_back_is_not_the_one_that_left() -> None:
    """What was learnt of the old copy is forgotten; what its sweep measured counts."""
    key = make_key("m")
    device = taught(key, 0.020)

    device.discard(key.model)
    assert key.model not in device.models
    device.add(key.model, PROFILE)

    assert pytest.approx(0.005) == device.latency(key, 0.0).mean(1)


def test_models_do_not_know_each_other() -> None:
    """Discarding one leaves the other's latencies."""
    key = make_key("m")
    device = taught(key, 0.020)

    device.discard(ModelRef("other", 1))

    assert pytest.approx(0.020) == device.latency(key, 0.0).mean(1)


def test_the_shape_that_ran_most_stands_for_a_model() -> None:
    """There is one figure per model, however many shapes callers send."""
    device = taught(key := make_key("m"), 0.020)
    for _ in range(2):
        device.latency(often := make_key("m", dims=(2,)), 0.0).observe(1, 0.010)
    device.latency(make_key("m", dims=(3,)), 0.0)

    [(name, model, shapes, latency)] = device.latencies(0.0)

    assert ("d0", key.model, 3) == (name, model, shapes)
    assert device.latency(often, 0.0) is latency


def test_before_the_first_request_the_sweep_is_known() -> None:
    """A model that nobody asked for shows what was measured; without a sweep, nothing is known."""
    device = DeviceState("d0")
    swept, other = ModelRef("swept", 1), ModelRef("other", 1)
    device.add(swept, PROFILE)
    device.add(other, None)

    [(_, model, shapes, latency)] = device.latencies(0.0)

    assert (swept, 0, PROFILE.seconds) == (model, shapes, latency.statistics().seconds)


def test_what_is_remembered_of_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes come from the wire."""
    monkeypatch.setattr(module, "REMEMBERED", 8)
    device = DeviceState("d0")

    for n in range(100):
        device.latency(make_key(dims=(n,)), 0.0)

    [(_, _, shapes, _)] = device.latencies(0.0)
    assert shapes <= 9
