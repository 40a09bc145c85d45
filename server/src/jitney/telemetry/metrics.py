"""Everything that the server counts, told in one place. docs/metrics.md has it; a test compares.

Each figure is defined once: here, in ``model_figures`` what is counted by version, and as a
``reading`` what an owner can be asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.telemetry.instruments import Counter, Histogram
from jitney.telemetry.labels import MODEL, labels_of, why
from jitney.telemetry.model_figures import SECONDS, ModelHistograms
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from jitney.errors import JitneyError
    from jitney.execution.executor import Completion
    from jitney.scheduling.batch import Batch, Entry
    from jitney.telemetry.model_figures import ModelFigures
    from jitney.telemetry.reading import Reading
    from jitney.telemetry.watcher import BatchWatcher

__all__ = ["Metrics"]


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
        self._of_models = ModelHistograms()
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
        self.figures(entry.key.model).failed(seconds)
        self.rejected.add((*labels_of(entry.key.model), why(error)))

    def request_refused(self, model: ModelRef | None, error: JitneyError) -> None:
        """Count a request that was not accepted."""
        if model is not None:
            self.figures(model).failed()
        self.rejected.add((*labels_of(model), why(error)))

    def cancelled(self, model: ModelRef, stage: str, seconds: float) -> None:
        """Count a request whose caller went away, so many seconds after it had come."""
        self.figures(model).failed(seconds)
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
            cells = self._of_models.device_cells(figures, batch.device)
        answered = figures.ran(batch, completion)
        copied_in, inferred, copied_out = completion.stages
        first, second, third = cells.stages
        first.observe(copied_in, answered)
        second.observe(inferred, answered)
        third.observe(copied_out, answered)
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
        self.figures(model).produced(number, seconds)

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
            figures = self._of_models.figures(labels_of(model))
            self._versions[version] = figures
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
            *self._of_models,
            self.loop_lag,
            self.loads,
            self.access_denied,
            self.access_reloads,
        ]
        for instrument in instruments:
            yield instrument.collect()
        for reading in list(self._readings):
            yield reading.collect()
