"""Every metric of the server, defined once. docs/metrics.md describes them; a test compares.

Labels come from the registry of models, never from the wire, or a caller could make as many
time series as there are names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from jitney.clock import wall_seconds
from jitney.telemetry.instruments import Counter, Histogram, HistogramCell
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from jitney.errors import JitneyError
    from jitney.execution.executor import Completion
    from jitney.scheduling.batch import Batch, Entry
    from jitney.telemetry.watcher import BatchWatcher

__all__ = ["UNKNOWN", "WHY", "Metrics", "ModelFigures", "Reading"]

WHY: Final = {
    "QUEUE_FULL": "full",
    "REQUEST_LIMIT": "full",
    "EXPIRED": "expired",
    "DEADLINE_TOO_SHORT": "unreachable",
    "PREDICTED_LATE": "price",
    "SHED": "price",
    "TENANT_QUOTA": "quota",
    "BYTE_BUDGET": "bytes",
}
"""Reasons of errors to words on the metrics page: the few that an operator decides by. Every other
reason is its own word, in lower case."""
MOST_RESPONSES: Final = 1024
"""Replies of one request that are counted by their number; a request may have any number."""
UNKNOWN: Final = "_unknown"
"""The model label of requests that name no model we have."""

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
ROWS: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
OVER_PLAN: Final = (
    *(0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
    *(1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0),
)
"""Closest around 1: there it is decided whether plans are kept."""
RATIOS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MODEL: Final = ("model", "version")


class Reading(NamedTuple):
    """A figure that is read when somebody asks: name, help, labels, and how to read it.

    ``read`` is called on the exposition's thread; it must only take atomic copies. ``counts``
    makes it a counter: it only ever grows.
    """

    name: str
    text: str
    labels: Sequence[str]
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    counts: bool = False


@dataclass(slots=True)
class BatchFigures:
    """How often a batch of some size ran, and the seconds of its stages."""

    count: int = 0
    compute_input: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0


@dataclass(slots=True)
class ResponseFigures:
    """How often a decoupled model gave its n-th reply, and the seconds since the one before."""

    count: int = 0
    seconds: float = 0.0


class DeviceCells(NamedTuple):
    """Where the batches of one version on one device are counted."""

    stages: tuple[HistogramCell, HistogramCell, HistogramCell]
    over_plan: HistogramCell
    labels: tuple[str, str, str]


@dataclass(slots=True)
class ModelFigures:
    """The figures of one version, as ModelStatistics wants them; durations in seconds.

    The stage sums add the full time of a batch for each of its requests, as the protocol says.
    ``first`` and ``responses`` are of decoupled models: the time until the first reply, and all
    replies by their number.
    """

    labels: tuple[str, str]
    total: HistogramCell
    queue: HistogramCell
    batch_rows: HistogramCell
    batch_fill: HistogramCell
    devices: dict[str, DeviceCells] = field(default_factory=dict)
    fail_count: int = 0
    fail_seconds: float = 0.0
    compute_input: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0
    rows: int = 0
    batches: int = 0
    last_inference: float = 0.0
    by_rows: dict[int, BatchFigures] = field(default_factory=dict)
    first: HistogramCell | None = None
    responses: dict[int, ResponseFigures] = field(default_factory=dict)


class Metrics:
    """What happened, counted. One object per server, given to whoever has something to tell."""

    def __init__(self) -> None:
        self.requests = Counter(
            "jitney_requests",
            "Calls by RPC and gRPC status code, each exactly once.",
            (*MODEL, "method", "code"),
        )
        self.rejected = Counter(
            "jitney_rejected",
            "Requests refused or failed, by reason.",
            (*MODEL, "reason"),
        )
        self.cancelled_requests = Counter(
            "jitney_cancelled",
            "Requests whose caller went away, by where they were.",
            (*MODEL, "stage"),
        )
        self.batches = Counter(
            "jitney_batches",
            "Batches by device and by why they left.",
            (*MODEL, "device", "reason"),
        )
        self.failed_batches = Counter(
            "jitney_failed_batches", "Batches that failed.", (*MODEL, "device", "reason")
        )
        self.device_busy = Counter(
            "jitney_device_busy_seconds",
            "Seconds a device spent on batches, copies included.",
            ("device", *MODEL),
        )
        self.device_wasted = Counter(
            "jitney_device_wasted_seconds",
            "The part of them that went into rows which nobody awaited any more at the end.",
            ("device", *MODEL),
        )
        self._total = Histogram(
            "jitney_request_duration_seconds",
            "From arrival to reply, of requests that were answered.",
            MODEL,
            SECONDS,
        )
        self._queue = Histogram(
            "jitney_queue_duration_seconds",
            "From arrival until a worker took the batch up.",
            MODEL,
            SECONDS,
        )
        stages = (
            ("input", "From there until the rows were on the device."),
            ("infer", "From there until the model returned."),
            ("output", "From there until the outputs were back on the host."),
        )
        self._stages = [
            Histogram(f"jitney_compute_{stage}_duration_seconds", text, (*MODEL, "device"), SECONDS)
            for stage, text in stages
        ]
        self._rows = Histogram("jitney_batch_rows", "Rows of a batch.", MODEL, ROWS)
        self._fill = Histogram(
            "jitney_batch_fill_ratio", "Rows of a batch over the batch limit.", MODEL, RATIOS
        )
        self._over_plan = Histogram(
            "jitney_batch_duration_over_plan_ratio",
            "Seconds that a batch took of its device over those that were planned for it.",
            (*MODEL, "device"),
            OVER_PLAN,
        )
        self.loop_lag = Histogram(
            "jitney_event_loop_lag_seconds",
            "How late the event loop ran a call that was due.",
            (),
            SECONDS,
        )
        self.loads = Counter(
            "jitney_model_loads",
            "Loads of a version, by how they ended.",
            (*MODEL, "outcome"),
        )
        self.access_denied = Counter(
            "jitney_access_denied",
            "Calls and requests that their caller may not make, by RPC and reason.",
            ("method", "reason"),
        )
        self.access_reloads = Counter(
            "jitney_access_reloads",
            "Times that the file of tokens was found changed, by how reading it ended.",
            ("outcome",),
        )
        # By what clients see: a version that is loaded again goes on with its figures. By load is
        # only what saves the hot path a second key.
        self._versions: dict[tuple[str, int], ModelFigures] = {}
        self._models: dict[ModelRef, ModelFigures] = {}
        self._readings: list[Reading] = []
        self.watcher: BatchWatcher | None = None

    # -- what is told ---------------------------------------------------------------------------

    def add_reading(self, reading: Reading) -> None:
        """Add a figure whose owner can be asked."""
        self._readings.append(reading)

    def request_ended(self, model: ModelRef | None, method: str, code: str) -> None:
        """Count a call."""
        labels = labels_of(None) if model is None else self.figures(model).labels
        self.requests.add((*labels, method, code))

    def request_failed(self, entry: Entry, error: JitneyError, seconds: float) -> None:
        """Count an accepted request that ended with an error."""
        figures = self.figures(entry.key.model)
        figures.fail_count += 1
        figures.fail_seconds += seconds
        self.rejected.add((*labels_of(entry.key.model), why(error)))

    def request_refused(self, model: ModelRef | None, error: JitneyError) -> None:
        """Count a request that was not accepted."""
        if model is not None:
            self.figures(model).fail_count += 1
        self.rejected.add((*labels_of(model), why(error)))

    def cancelled(self, model: ModelRef, stage: str, seconds: float) -> None:
        """Count a request whose caller went away, so many seconds after it had come."""
        figures = self.figures(model)
        figures.fail_count += 1
        figures.fail_seconds += seconds
        self.cancelled_requests.add((*labels_of(model), stage))

    def batch_started(self, batch: Batch) -> None:
        """Count a batch that leaves."""
        figures = self.figures(batch.key.model)
        self.batches.add((*figures.labels, batch.device, batch.reason.value))
        figures.batch_rows.observe(batch.rows)
        figures.batch_fill.observe(batch.rows / max(1, batch.key.max_rows))
        if self.watcher is not None:
            self.watcher.batch_started(batch)

    def batch_done(self, batch: Batch, completion: Completion, awaited: int) -> None:
        """Count a batch that ran, and the requests in it that were answered.

        :param awaited: rows whose callers still waited for them, and not in vain, when it ended.
            A timing does not tell it: of a request in parts only the last one keeps its.
        """
        figures = self.figures(batch.key.model)
        cells = figures.devices.get(batch.device)
        if cells is None:
            cells = figures.devices[batch.device] = self._device_cells(figures, batch.device)
        copied_in, inferred, copied_out = completion.stages
        answered = 0
        observe_total, observe_queue = figures.total.observe, figures.queue.observe
        for entry in batch.entries:
            timing = entry.timing
            if timing is not None:
                answered += 1
                observe_queue(timing.queue)
                observe_total(timing.total)
        first, second, third = cells.stages
        first.observe(copied_in, answered)
        second.observe(inferred, answered)
        third.observe(copied_out, answered)
        figures.compute_input += copied_in * answered
        figures.compute_infer += inferred * answered
        figures.compute_output += copied_out * answered
        # Not the rows without entry that a batch of sequences may have: nobody asked for them.
        figures.rows += sum(e.rows for e in batch.entries) if batch.key.fill else batch.rows
        figures.batches += 1
        figures.last_inference = wall_seconds()
        by_rows = figures.by_rows.get(batch.rows)
        if by_rows is None:
            by_rows = figures.by_rows[batch.rows] = BatchFigures()
        by_rows.count += 1
        by_rows.compute_input += copied_in
        by_rows.compute_infer += inferred
        by_rows.compute_output += copied_out
        worked = completion.copied_out - completion.started
        self.device_busy.add(cells.labels, worked)
        self.device_wasted.add(cells.labels, worked * (1 - awaited / batch.rows))
        if batch.planned:
            cells.over_plan.observe(worked / batch.planned)
        if self.watcher is not None:
            self.watcher.batch_done(batch, completion)

    def produced(self, model: ModelRef, number: int, seconds: float) -> None:
        """Count one reply of a decoupled request.

        :param number: of the reply, from 0.
        :param seconds: since the reply before, since the arrival for the first.
        """
        figures = self.figures(model)
        if not number:
            if figures.first is None:
                figures.first = HistogramCell(SECONDS)
            figures.first.observe(seconds)
        if number < MOST_RESPONSES:
            response = figures.responses.setdefault(number, ResponseFigures())
            response.count += 1
            response.seconds += seconds

    def _device_cells(self, figures: ModelFigures, device: str) -> DeviceCells:
        labels = (*figures.labels, device)
        first, second, third = (histogram.cell(labels) for histogram in self._stages)
        over_plan = self._over_plan.cell(labels)
        return DeviceCells((first, second, third), over_plan, (device, *figures.labels))

    def batch_failed(self, batch: Batch, error: JitneyError) -> None:
        """Count a batch that failed."""
        self.failed_batches.add((*labels_of(batch.key.model), batch.device, error.reason))
        if self.watcher is not None:
            self.watcher.batch_failed(batch, error)

    # -- what is read ---------------------------------------------------------------------------

    def figures(self, model: ModelRef) -> ModelFigures:
        """Return the figures of a version, made when first asked for, whichever load it is of."""
        figures = self._models.get(model)
        if figures is None:
            figures = self._models[model] = self._figures_of(model)
        return figures

    def figures_named(self, name: str, version: str) -> ModelFigures:
        """Return the same by the labels of a version."""
        return self._figures_of(ModelRef(name, int(version)))

    def _figures_of(self, model: ModelRef) -> ModelFigures:
        version = (model.name, model.version)
        figures = self._versions.get(version)
        if figures is None:
            labels = labels_of(model)
            figures = self._versions[version] = ModelFigures(
                labels,
                self._total.cell(labels),
                self._queue.cell(labels),
                self._rows.cell(labels),
                self._fill.cell(labels),
            )
        return figures

    def model_loaded(self, model: ModelRef, outcome: str) -> None:
        """Count a load that ended: ``loaded``, ``failed``, or ``unchanged`` and left as it was."""
        self.loads.add((*labels_of(model), outcome))

    def model_gone(self, model: ModelRef) -> None:
        """Forget a load that nothing will be told of any more; its version's figures stay."""
        self._models.pop(model, None)

    def busy_seconds(self) -> dict[str, float]:
        """Return how long each device that ran a batch has been busy, over all models."""
        busy: dict[str, float] = {}
        for (device, *_), seconds in self.device_busy.items():
            busy[device] = busy.get(device, 0.0) + seconds
        return busy

    def collect(self) -> Iterator[Metric]:
        """Yield every family; prometheus_client calls this on the exposition's thread."""
        instruments: list[Counter | Histogram] = [
            self.requests,
            self.rejected,
            self.cancelled_requests,
            self.batches,
            self.failed_batches,
            self.device_busy,
            self.device_wasted,
            self._total,
            self._queue,
            *self._stages,
            self._rows,
            self._fill,
            self._over_plan,
            self.loop_lag,
            self.loads,
            self.access_denied,
            self.access_reloads,
        ]
        for instrument in instruments:
            yield instrument.collect()
        for reading in list(self._readings):
            kind = CounterMetricFamily if reading.counts else GaugeMetricFamily
            family = kind(reading.name, reading.text, labels=reading.labels)
            for labels, value in reading.read():
                family.add_metric(labels, value)
            yield family


def why(error: JitneyError) -> str:
    """Return the word under which a refusal or failure is counted."""
    return WHY.get(error.reason) or error.reason.lower()


def labels_of(model: ModelRef | None) -> tuple[str, str]:
    """Return the labels of a version, or of requests that name none that we have."""
    return (UNKNOWN, "") if model is None else (model.name, str(model.version))
