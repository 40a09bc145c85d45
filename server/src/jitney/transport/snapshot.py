"""The state of the server, its devices and its models, as a message of our own service."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jitney_client.protocol import jitney_v1 as own

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jitney.execution.pool import DeviceStatistics
    from jitney.load_report import LoadReport
    from jitney.overview import Overview
    from jitney.repository.handle import ModelVersion
    from jitney.repository.repository import Repository
    from jitney.scheduling.demand import Demand
    from jitney.scheduling.model_latency import ModelLatency
    from jitney.scheduling.policy import PolicyStatistics
    from jitney.types import ModelRef

__all__ = ["snapshot"]


def snapshot(
    overview: Overview,
    repository: Repository,
    wanted: Callable[[str], bool] = lambda _: True,
) -> own.ServerStatus:
    """Return the state of the server, with those of its models whose names are wanted."""
    in_flight = overview.in_flight()
    queued, demands = overview.queued_rows(), overview.demands()
    latencies: dict[ModelRef, dict[str, ModelLatency]] = {}
    for known in overview.latencies():
        latencies.setdefault(known.model, {})[known.device] = known
    status = own.ServerStatus(
        uptime_seconds=overview.uptime(),
        transport="grpcio",
        devices=[_device(statistics, ratio) for statistics, ratio in overview.devices()],
        inflight_requests=in_flight.requests,
        inflight_bytes=in_flight.nbytes,
        scheduler=_scheduler(overview.scheduler()),
    )
    for entry in repository.index():
        if not wanted(entry.name):
            continue
        one = status.models.add(
            name=entry.name,
            version=-1 if entry.version is None else entry.version,
            state=entry.state.value,
            reason=entry.reason,
        )
        if entry.version is None:
            continue
        # Those that wait for the load before are among them: they are its clients' as well.
        one.queued_rows = sum(
            rows for ref, rows in queued.items() if ref[:2] == (entry.name, entry.version)
        )
        version = repository.visible(entry.name, entry.version)
        if version is None:
            continue
        if version.ref in demands:
            one.demand.CopyFrom(_demand(demands[version.ref]))
        _fill(one, version)
        one.instances.extend(_instances(version.reports, latencies.get(version.ref, {})))
    return status


def _device(stats: DeviceStatistics, busy_ratio: float) -> own.DeviceStatus:
    return own.DeviceStatus(
        name=stats.name,
        description=stats.description,
        state=stats.state,
        restarts=stats.restarts,
        busy_ratio=busy_ratio,
        memory_bytes=stats.memory_bytes,
        reason=stats.reason,
    )


def _scheduler(figures: PolicyStatistics) -> own.SchedulerStatus:
    return own.SchedulerStatus(
        utilisation=figures.utilisation,
        pressure=figures.pressure,
        tight=figures.tight,
        queued_requests=figures.queued_entries,
        queued_rows=figures.queued_rows,
        running_batches=figures.running,
        staged_batches=figures.staged,
    )


def _demand(asked: Demand) -> own.DemandStatus:
    return own.DemandStatus(
        rows_per_second=asked.rate,
        shapes=asked.shapes,
        slo_seconds=asked.slo,
        best_rows=asked.best_rows,
        worth=asked.worth,
    )


def _fill(status: own.ModelStatus, version: ModelVersion) -> None:
    """Add a version's contract and what its operator allows."""
    limits = version.limits
    status.digest_sha256 = version.digest
    status.max_batch_size = version.max_batch_size
    status.batched = version.signature.batched
    status.mode = limits.mode.value
    status.default_slo_seconds = _or_none(limits.default_slo)
    status.default_timeout_seconds = _or_none(limits.default_timeout)
    status.default_priority = limits.default_priority
    for field, specs in (
        (status.inputs, version.signature.inputs),
        (status.outputs, version.signature.outputs),
    ):
        for spec in specs:
            field.add(name=spec.name, datatype=spec.datatype.value, shape=map(str, spec.shape))


def _or_none(seconds: float) -> float:
    """Return a limit as messages have it: 0 where there is none."""
    return 0.0 if seconds == math.inf else seconds


def _instances(
    reports: Mapping[str, LoadReport], latencies: Mapping[str, ModelLatency]
) -> list[own.InstanceStatus]:
    """Return how a version runs on each device; both by device."""
    instances = []
    for name, report in sorted(reports.items()):
        instance = own.InstanceStatus(
            device=name,
            form=report.form,
            why=report.why,
            buckets=report.buckets,
            load_seconds=report.load_seconds,
            memory_bytes=report.memory_bytes,
            warnings=report.warnings,
            golden_samples=report.golden.samples,
            golden_max_error=report.golden.max_error,
            deterministic=report.deterministic,
        )
        if name in latencies:
            instance.latency.CopyFrom(_latency(latencies[name]))
        instances.append(instance)
    return instances


def _latency(known: ModelLatency) -> own.LatencyStatus:
    learnt = known.latency.statistics()
    status = own.LatencyStatus(
        shapes=known.shapes,
        batches=known.latency.batches,
        padded=learnt.padded,
        alpha_seconds=learnt.alpha,
        beta_seconds=learnt.beta,
        z=learnt.z,
        drift=learnt.g,
    )
    columns = learnt.sizes, learnt.seconds, learnt.planned, learnt.spread, learnt.observations
    for rows, mean, planned, spread, observations in zip(*columns, strict=True):
        status.sizes.add(
            rows=rows,
            mean_seconds=mean,
            planned_seconds=planned,
            spread=spread,
            observations=observations,
        )
    return status
