"""The state of the whole server, for whoever asks: readiness, status, gauges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jitney.builtin import DEVICE_PREFIX
from jitney.repository.handle import VersionState
from jitney.telemetry.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.admission import Admission, AdmissionStatistics
    from jitney.clock import Clock
    from jitney.engine import Engine
    from jitney.execution.executors import Executors
    from jitney.execution.pool import DeviceStatistics
    from jitney.repository.repository import Repository
    from jitney.scheduling.demand import Demand
    from jitney.scheduling.model_latency import ModelLatency
    from jitney.scheduling.policy import Policy, PolicyStatistics
    from jitney.telemetry.pulse import Pulse
    from jitney.types import ModelRef

__all__ = ["Overview"]

Values = Iterable[tuple[tuple[str, ...], float]]


class Overview:
    """Reads everybody's figures and owns none.

    ``is_ready`` is the truth about serving, not about processes: a device must be up, and under
    strict readiness every version that should be served must be loaded.
    """

    def __init__(
        self,
        repository: Repository,
        executors: Executors,
        engine: Engine,
        policy: Policy,
        admission: Admission,
        pulse: Pulse,
        clock: Clock,
        *,
        strict_readiness: bool,
    ) -> None:
        self._repository = repository
        self._executors = executors
        self._engine = engine
        self._policy = policy
        self._admission = admission
        self._pulse = pulse
        self._clock = clock
        self._strict = strict_readiness
        self._started_at = clock.now()
        self.serving = False
        """Whether the start is over and the stop has not begun."""

    def is_ready(self) -> bool:
        """Whether the server can serve what it should."""
        # Built-in models have devices of their own, which never fail: they prove nothing.
        devices = [d for d in self._executors.statistics() if not d.name.startswith(DEVICE_PREFIX)]
        if not self.serving or not any(device.state == "up" for device in devices):
            return False
        return not self._strict or self._repository.all_ready()

    def models_ready(self) -> dict[str, bool]:
        """Return, for each model, whether any version of it is ready."""
        return {
            name: self.serving
            and any(v.state is VersionState.READY for v in self._repository.versions(name))
            for name in self._repository.names()
        }

    def uptime(self) -> float:
        """Return seconds since the start."""
        return self._clock.now() - self._started_at

    def in_flight(self) -> AdmissionStatistics:
        """Return what was accepted and is not yet answered."""
        return self._admission.statistics()

    def queued_rows(self) -> dict[ModelRef, int]:
        """Return the rows that wait, by version."""
        waiting = self._policy.figures.queued_rows()
        for model, rows in self._engine.waiting_in_sequences().items():
            waiting[model] = waiting.get(model, 0) + rows
        return waiting

    def queued_requests(self) -> dict[tuple[str, int], int]:
        """Return the requests that wait, by name and version."""
        waiting: dict[tuple[str, int], int] = {}
        for source in (self._policy.figures.queued_entries(), self._engine.waiting_in_sequences()):
            for model, count in source.items():
                waiting[model[:2]] = waiting.get(model[:2], 0) + count
        return waiting

    def scheduler(self) -> PolicyStatistics:
        """Return how loaded the devices are, and how much waits."""
        return self._policy.figures.statistics()

    def demands(self) -> dict[ModelRef, Demand]:
        """Return how much is asked of each model; those that nobody asks for are not there."""
        return self._policy.figures.demands(self._clock.now())

    def latencies(self) -> list[ModelLatency]:
        """Return what is known of how long batches take, by device and model."""
        return self._policy.figures.latencies()

    def devices(self) -> Iterator[tuple[DeviceStatistics, float]]:
        """Yield every device with the share of the last second that it was busy."""
        for statistics in self._executors.statistics():
            yield statistics, self._pulse.busy_ratio(statistics.name)

    # -- readings, taken on the exposition's thread, so they only copy ------------------------

    def readings(self) -> list[Reading]:
        """Return every figure of the server that is read when somebody asks."""
        model, device = ("model", "version"), ("device",)
        return [
            Reading(
                "jitney_queue_depth", "Rows waiting, not yet in a batch.", model, self._queue_depth
            ),
            Reading(
                "jitney_inflight_requests",
                "Requests accepted and not yet answered.",
                (),
                lambda: [((), self._admission.requests)],
            ),
            Reading(
                "jitney_inflight_bytes",
                "Bytes of their tensors.",
                (),
                lambda: [((), self._admission.nbytes)],
            ),
            Reading(
                "jitney_device_busy_ratio",
                "Share of the last second that a device spent on batches.",
                device,
                lambda: [((s.name,), ratio) for s, ratio in self.devices()],
            ),
            Reading(
                "jitney_device_memory_bytes",
                "Memory of a device's worker: allocated, reserved, total.",
                (*device, "kind"),
                self._memory,
            ),
            Reading(
                "jitney_scheduler_utilisation_ratio",
                "Demand over capacity, in device seconds at the best batch sizes.",
                (),
                lambda: [((), self.scheduler().utilisation)],
            ),
            Reading(
                "jitney_scheduler_pressure_ratio",
                "The part of its full price that device time is worth.",
                (),
                lambda: [((), self.scheduler().pressure)],
            ),
            Reading(
                "jitney_planned_batch_seconds",
                "What schedules count with for a batch, of the shape that ran most.",
                (*model, *device, "rows"),
                self._planned_seconds,
            ),
            Reading(
                "jitney_latency_margin",
                "How many spreads a plan adds to the mean.",
                (*model, *device),
                lambda: [(_labels(one), one.latency.z) for one in self.latencies()],
            ),
            Reading(
                "jitney_latency_drift_ratio",
                "How much slower a device runs than when its models were measured.",
                device,
                self._drifts,
            ),
            Reading(
                "jitney_worker_restarts",
                "How often a device's worker was replaced.",
                device,
                lambda: [((s.name,), s.restarts) for s, _ in self.devices()],
                counts=True,
            ),
            Reading(
                "jitney_worker_state",
                "1 for the state that a device's worker is in.",
                (*device, "state"),
                lambda: [((s.name, s.state), 1) for s, _ in self.devices()],
            ),
            Reading(
                "jitney_model_state",
                "1 for the state that a version is in.",
                (*model, "state"),
                self._model_states,
            ),
            Reading(
                "jitney_model_load_seconds",
                "Duration of the last load, warm-up and proofs included.",
                (*model, *device),
                self._load_seconds,
            ),
        ]

    def _queue_depth(self) -> Values:
        # By what clients see: a version that is being replaced may have rows waiting in two loads.
        waiting: dict[tuple[str, int], int] = {}
        for ref, rows in self.queued_rows().items():
            waiting[ref[:2]] = waiting.get(ref[:2], 0) + rows
        for entry in self._repository.index():
            if entry.version is not None:
                version = (entry.name, entry.version)
                yield (entry.name, str(entry.version)), waiting.get(version, 0)

    def _planned_seconds(self) -> Values:
        for one in self.latencies():
            learnt = one.latency.statistics()
            for rows, seconds in zip(learnt.sizes, learnt.planned, strict=False):
                yield (*_labels(one), str(rows)), seconds

    def _drifts(self) -> Values:
        # All models of a device have the same.
        return {(one.device,): one.latency.drift.g for one in self.latencies()}.items()

    def _memory(self) -> Values:
        for statistics, _ in self.devices():
            for kind, size in list(statistics.memory_bytes.items()):
                yield (statistics.name, kind), size

    def _model_states(self) -> Values:
        for entry in self._repository.index():
            version = "" if entry.version is None else str(entry.version)
            yield (entry.name, version, entry.state.value), 1

    def _load_seconds(self) -> Values:
        for version in list(self._repository.versions()):
            for device, report in list(version.reports.items()):
                labels = (version.ref.name, str(version.ref.version), device)
                yield labels, report.load_seconds


def _labels(one: ModelLatency) -> tuple[str, str, str]:
    return (one.model.name, str(one.model.version), one.device)
