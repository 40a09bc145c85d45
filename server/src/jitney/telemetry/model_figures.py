"""The figures of each version: what ModelStatistics tells of it, and its histograms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.clock import wall_seconds
from jitney.telemetry.instruments import Histogram, HistogramCell
from jitney.telemetry.labels import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.execution.executor import Completion
    from jitney.scheduling.batch import Batch

__all__ = ["SECONDS", "ModelFigures", "ModelHistograms"]

MOST_RESPONSES: Final = 1024
"""Replies of one request that are counted by their number; a request may have any number."""

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

    def failed(self, seconds: float = 0.0) -> None:
        """Count a request that was not answered, so many seconds after it had come."""
        self.fail_count += 1
        self.fail_seconds += seconds

    def ran(self, batch: Batch, completion: Completion) -> int:
        """Count a batch that ran; return how many requests in it were answered."""
        answered = 0
        observe_total, observe_queue = self.total.observe, self.queue.observe
        for entry in batch.entries:
            timing = entry.timing
            if timing is not None:
                answered += 1
                observe_queue(timing.queue)
                observe_total(timing.total)
        copied_in, inferred, copied_out = completion.stages
        self.compute_input += copied_in * answered
        self.compute_infer += inferred * answered
        self.compute_output += copied_out * answered
        # Not the rows without entry that a batch of sequences may have: nobody asked for them.
        self.rows += sum(e.rows for e in batch.entries) if batch.key.fill else batch.rows
        self.batches += 1
        self.last_inference = wall_seconds()
        by_rows = self.by_rows.get(batch.rows)
        if by_rows is None:
            by_rows = self.by_rows[batch.rows] = BatchFigures()
        by_rows.count += 1
        by_rows.compute_input += copied_in
        by_rows.compute_infer += inferred
        by_rows.compute_output += copied_out
        return answered

    def produced(self, number: int, seconds: float) -> None:
        """Count one reply of a decoupled request, as ``Metrics.produced``."""
        if not number:
            if self.first is None:
                self.first = HistogramCell(SECONDS)
            self.first.observe(seconds)
        if number < MOST_RESPONSES:
            response = self.responses.setdefault(number, ResponseFigures())
            response.count += 1
            response.seconds += seconds


class ModelHistograms:
    """The histograms that are labelled by version, and some of them by device."""

    def __init__(self) -> None:
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

    def __iter__(self) -> Iterator[Histogram]:
        """Yield them all."""
        yield from (self._total, self._queue, *self._stages)
        yield from (self._rows, self._fill, self._over_plan)

    def figures(self, labels: tuple[str, str]) -> ModelFigures:
        """Make the figures of a version."""
        return ModelFigures(
            labels,
            self._total.cell(labels),
            self._queue.cell(labels),
            self._rows.cell(labels),
            self._fill.cell(labels),
        )

    def device_cells(self, figures: ModelFigures, device: str) -> DeviceCells:
        """Make what a version's batches on a device are counted in, and note it in its figures."""
        labels = (*figures.labels, device)
        first, second, third = (histogram.cell(labels) for histogram in self._stages)
        over_plan = self._over_plan.cell(labels)
        cells = DeviceCells((first, second, third), over_plan, (device, *figures.labels))
        figures.devices[device] = cells
        return cells
