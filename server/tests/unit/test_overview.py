"""What the scheduler knows, as gauges and as messages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import pytest
from model_versions import LIMITS, report, repository_of, version_of

from jitney.admission import Admission
from jitney.config import LimitSettings
from jitney.execution.pool import DeviceStatistics
from jitney.overview import Overview
from jitney.scheduling.batch import Mode
from jitney.scheduling.policy import Policy
from jitney.testing import FakeClock, make_entry, make_key
from jitney.transport.describe import config
from jitney.transport.snapshot import snapshot
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from jitney.repository.handle import ModelVersion
    from jitney.types import ModelRef

KEY = make_key(max_rows=8)
PROFILE = report().latency


class Pool:
    """Devices that have nothing to say."""

    def statistics(self) -> list[DeviceStatistics]:
        """Return one that is up."""
        return [DeviceStatistics("d0", "up", "", "a device", 0, pinned=False, memory_bytes={})]


class Waiting:
    """An engine with nothing in sequences."""

    def waiting_in_sequences(self) -> dict[ModelRef, int]:
        """Return nothing."""
        return {}


class Pulse:
    """A pulse of nobody."""

    def busy_ratio(self, _: str) -> float:
        """Return that nothing ran."""
        return 0.0


class Bench:
    """A policy with one device that has ``echo``, and who reads it."""

    def __init__(self, *versions: ModelVersion) -> None:
        self.clock = FakeClock()
        self.policy = Policy()
        self.policy.device_up("d0")
        self.policy.model_ready("d0", KEY.model, PROFILE)
        self.repository = repository_of(*(versions or (version_of(devices=("d0",)),)))
        self.overview = Overview(
            self.repository,
            cast("Any", Pool()),
            cast("Any", Waiting()),
            self.policy,
            Admission(LimitSettings()),
            cast("Any", Pulse()),
            self.clock,
            strict_readiness=True,
        )

    def run(self, *, dims: tuple[int, ...] = (1,), within: float = 1.0) -> None:
        """Let a batch of one row run for 1 ms."""
        now = self.clock.now()
        key = make_key(max_rows=8, dims=dims)
        self.policy.offer(make_entry(key, arrived=now, deadline=now + within), now)
        [batch] = self.policy.turn(now).batches
        self.clock.advance(0.001)
        self.policy.completed(batch, self.clock.now(), 0.001)

    def page(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a gauge by their labels."""
        [reading] = [r for r in self.overview.readings() if r.name == name]
        return dict(reading.read())


# -- gauges ---------------------------------------------------------------------------------------


def test_plans_are_shown_before_the_first_request() -> None:
    """What the load measured is what the first batches are planned with."""
    bench = Bench()

    planned = bench.page("jitney_planned_batch_seconds")

    assert [("echo", "1", "d0", str(rows)) for rows in PROFILE.sizes] == list(planned)
    # A spread of 0.01 at least, of which a plan adds two.
    assert [pytest.approx(1.02 * s) for s in PROFILE.seconds] == list(planned.values())


def test_shapes_from_the_wire_make_no_time_series() -> None:
    """However many shapes callers send, there is one series per size."""
    bench = Bench()
    before = set(bench.page("jitney_planned_batch_seconds"))
    for n in range(1, 20):
        bench.run(dims=(n,))

    assert before == set(bench.page("jitney_planned_batch_seconds"))
    assert [("echo", "1", "d0")] == list(bench.page("jitney_latency_margin"))
    assert [("d0",)] == list(bench.page("jitney_latency_drift_ratio"))


def test_the_load_is_shown_and_falls_when_nobody_comes() -> None:
    """A refresh brings the utilisation down; without one it would stay as it was."""
    bench = Bench()
    for _ in range(50):
        bench.run(within=0.05)
    busy = bench.page("jitney_scheduler_utilisation_ratio")[()]

    bench.clock.advance(60.0)
    bench.policy.refresh(bench.clock.now())

    assert busy > 0.05
    assert bench.page("jitney_scheduler_utilisation_ratio")[()] < 1e-6
    assert bench.overview.scheduler().pressure == bench.page("jitney_scheduler_pressure_ratio")[()]


# -- status ---------------------------------------------------------------------------------------


def test_status_has_what_batches_are_planned_by() -> None:
    """Rows, means, plans, spreads and counts of the shape that ran most, and how many there are."""
    bench = Bench()
    for _ in range(3):
        bench.run()
    bench.run(dims=(2,))

    [model] = snapshot(bench.overview, bench.repository).models
    [instance] = model.instances

    latency, [(_, _, shapes, known)] = instance.latency, bench.policy.figures.latencies()
    assert (2, 3, False, 1.0) == (latency.shapes, latency.batches, latency.padded, latency.drift)
    assert (shapes, known.z, known.alpha, known.beta) == (
        latency.shapes,
        latency.z,
        latency.alpha_seconds,
        latency.beta_seconds,
    )
    assert [(n, known.mean(n), known.planned(n)) for n in PROFILE.sizes] == [
        (size.rows, size.mean_seconds, size.planned_seconds) for size in latency.sizes
    ]
    assert [3, 0, 0, 0] == [size.observations for size in latency.sizes]


def test_status_has_the_demand_for_a_model() -> None:
    """The best batch size and its worth are there once somebody asked with a deadline."""
    bench = Bench()
    assert not snapshot(bench.overview, bench.repository).models[0].HasField("demand")
    for _ in range(20):
        bench.run(within=0.05)
    bench.policy.refresh(bench.clock.now())

    [model] = snapshot(bench.overview, bench.repository, "echo".__eq__).models

    asked = bench.overview.demands()[KEY.model]
    assert (1, asked.rate, asked.slo, asked.best_rows, asked.worth) == (
        model.demand.shapes,
        model.demand.rows_per_second,
        model.demand.slo_seconds,
        model.demand.best_rows,
        model.demand.worth,
    )
    assert asked.worth == asked.best_rows / bench.policy.figures.latencies()[0].latency.planned(
        asked.best_rows
    )


def test_status_has_the_load_and_what_waits() -> None:
    """Requests and rows that wait, and batches that run."""
    bench = Bench()
    now = bench.clock.now()
    for _ in range(3):
        bench.policy.offer(make_entry(KEY, rows=4, arrived=now), now)
    bench.policy.turn(now)

    scheduler = snapshot(bench.overview, bench.repository).scheduler

    figures = bench.policy.figures.statistics()
    assert (1, 4, 1, 0, figures.utilisation, figures.pressure, figures.tight) == (
        scheduler.queued_requests,
        scheduler.queued_rows,
        scheduler.running_batches,
        scheduler.staged_batches,
        scheduler.utilisation,
        scheduler.pressure,
        scheduler.tight,
    )


def test_status_has_what_the_operator_set() -> None:
    """Mode, default SLO, timeout and priority; a limit that there is not is 0."""
    limits = LIMITS._replace(mode=Mode.EFFICIENCY, default_slo=0.25, default_priority=1)
    bench = Bench(version_of(limits=limits))

    [model] = snapshot(bench.overview, bench.repository).models

    assert ("efficiency", 0.25, 0.0, 1) == (
        model.mode,
        model.default_slo_seconds,
        model.default_timeout_seconds,
        model.default_priority,
    )


# -- the protocol's configuration -----------------------------------------------------------------


def test_config_has_the_queue_that_clients_of_triton_look_for() -> None:
    """Delay, size, timeout and priorities; a request's own timeout always counts."""
    limits = LIMITS._replace(max_queue_delay=0.002, default_timeout=0.5, default_priority=3)

    batching = config(version_of(limits=limits)).dynamic_batching

    assert (2000, 3, 3) == (
        batching.max_queue_delay_microseconds,
        batching.priority_levels,
        batching.default_priority_level,
    )
    policy = batching.default_queue_policy
    assert (500_000, True, 64, pb.ModelQueuePolicy.REJECT) == (
        policy.default_timeout_microseconds,
        policy.allow_timeout_override,
        policy.max_queue_size,
        policy.timeout_action,
    )


def test_without_a_default_timeout_the_config_has_0() -> None:
    """0 is the protocol's word for none."""
    limits = LIMITS._replace(default_timeout=math.inf)

    policy = config(version_of(limits=limits)).dynamic_batching.default_queue_policy

    assert 0 == policy.default_timeout_microseconds
