"""The figures that dashboards and load generators of Triton read, under its names.

Our own page says more, and says it better (docs/metrics.md); this one exists so that nothing has to
be changed around a server that took Triton's place. It has a formatter of its own, because what
reads it is no parser of Prometheus: perf_analyzer looks for a name at the beginning of a line, for
``gpu_uuid`` as the only label, and for digits, so an exponent or a second label is not a number to
it; and test programs compare whole samples.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jitney.telemetry.gpu import GpuFigures
    from jitney.telemetry.host import HostFigures
    from jitney.telemetry.instruments import HistogramCell
    from jitney.telemetry.metrics import Metrics
    from jitney.telemetry.model_figures import ModelFigures

    Read = Callable[["VersionFigures", ModelFigures], Iterable["Sample"]]

__all__ = ["PinnedMemory", "Sources", "TritonPage", "VersionFigures"]

REFUSED: Final = ("full", "expired", "unreachable", "price", "quota", "bytes", "draining")
"""Our words for requests that waited too long, or were not let in (``metrics.WHY``)."""
EXECUTION: Final = ("model_error", "worker_lost", "device_oom", "output_too_large")
"""Our words for requests that failed while they ran."""
FIRST_RESPONSE_MS: Final = (100, 500, 2000, 5000)
"""Buckets of Triton's histogram; each is a bucket of ours as well."""


class VersionFigures(NamedTuple):
    """What is known of a version beside what was counted; ``pending`` are requests."""

    name: str
    version: str
    load_seconds: float
    pending: int


class PinnedMemory(NamedTuple):
    """Page-locked batch buffers, in bytes."""

    total: int
    used: int


class Sources(Protocol):
    """Who is asked when the page is; on the exposition's thread, so everything is a copy."""

    def versions(self) -> Iterable[VersionFigures]:
        """Return every version that is ready."""

    def pinned(self) -> PinnedMemory:
        """Return the batch buffers of devices that copy by themselves."""

    def host(self) -> HostFigures:
        """Return the figures of the machine."""

    def gpus(self) -> Sequence[GpuFigures]:
        """Return the figures of every NVIDIA device."""


class Sample(NamedTuple):
    """A line: labels in the order in which they are printed, and a value."""

    labels: Sequence[tuple[str, str]]
    value: float
    suffix: str = ""


class TritonPage:
    """Renders the page, in the text format of Prometheus."""

    def __init__(self, metrics: Metrics, sources: Sources) -> None:
        self._metrics = metrics
        self._sources = sources

    def render(self) -> str:
        """Return the whole page."""
        versions = sorted(self._sources.versions())
        lines: list[str] = []
        for name, kind, text, read in self._per_version():
            samples = itertools.chain.from_iterable(
                read(version, self._metrics.figures_named(version.name, version.version))
                for version in versions
            )
            lines += _family(name, kind, text, samples)
        for name, kind, text, machine in self._machine():
            lines += _family(name, kind, text, machine)
        return "\n".join(lines) + "\n"

    def _per_version(
        self,
    ) -> list[tuple[str, str, str, Read]]:
        def counted(read: Callable[[ModelFigures], float]) -> Read:
            return lambda version, figures: [Sample(_labels(version), read(figures))]

        def known(read: Callable[[VersionFigures], float]) -> Read:
            return lambda version, _: [Sample(_labels(version), read(version))]

        micros = 1e6
        return [
            (
                "nv_inference_request_success",
                "counter",
                "Requests that were answered",
                counted(lambda f: f.total.count),
            ),
            (
                "nv_inference_request_failure",
                "counter",
                "Requests that were not, by why",
                self._failures,
            ),
            ("nv_inference_count", "counter", "Rows that ran", counted(lambda f: f.rows)),
            (
                "nv_inference_exec_count",
                "counter",
                "Batches that ran",
                counted(lambda f: f.batches),
            ),
            (
                "nv_inference_request_duration_us",
                "counter",
                "Microseconds from arrival to reply, summed over requests",
                counted(lambda f: round(f.total.sum * micros)),
            ),
            (
                "nv_inference_queue_duration_us",
                "counter",
                "Microseconds of waiting, summed over requests",
                counted(lambda f: round(f.queue.sum * micros)),
            ),
            (
                "nv_inference_compute_input_duration_us",
                "counter",
                "Microseconds of copying in, summed over requests",
                counted(lambda f: round(f.compute_input * micros)),
            ),
            (
                "nv_inference_compute_infer_duration_us",
                "counter",
                "Microseconds of the model, summed over requests",
                counted(lambda f: round(f.compute_infer * micros)),
            ),
            (
                "nv_inference_compute_output_duration_us",
                "counter",
                "Microseconds of copying out, summed over requests",
                counted(lambda f: round(f.compute_output * micros)),
            ),
            (
                "nv_inference_first_response_histogram_ms",
                "histogram",
                "Milliseconds from arrival to the first reply",
                _first_responses,
            ),
            (
                "nv_inference_pending_request_count",
                "gauge",
                "Requests that wait for a device",
                known(lambda v: v.pending),
            ),
            (
                "nv_model_load_duration_secs",
                "gauge",
                "Seconds of the last load, its checks and warm-up included",
                known(lambda v: v.load_seconds),
            ),
        ]

    def _failures(self, version: VersionFigures, _: ModelFigures) -> Iterable[Sample]:
        counts = dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0.0)
        for (name, number, word), count in self._metrics.rejected.items():
            if (name, number) != version[:2]:
                continue
            if word in REFUSED:
                counts["REJECTED"] += count
            elif word in EXECUTION:
                counts["BACKEND"] += count
            else:
                counts["OTHER"] += count
        for (name, number, _stage), count in self._metrics.cancelled_requests.items():
            if (name, number) == version[:2]:
                counts["CANCELED"] += count
        for reason, count in counts.items():
            yield Sample(_labels(version, reason=reason), count)

    def _machine(self) -> Iterable[tuple[str, str, str, list[Sample]]]:
        host, pinned = self._sources.host(), self._sources.pinned()
        for name, text, value in (
            ("nv_cpu_utilization", "Share of all cores that was busy", host.utilisation),
            ("nv_cpu_memory_total_bytes", "Memory of the machine", host.memory_total),
            ("nv_cpu_memory_used_bytes", "Memory that is not available", host.memory_used),
            ("nv_pinned_memory_pool_total_bytes", "Page-locked batch buffers", pinned.total),
            ("nv_pinned_memory_pool_used_bytes", "Those that hold a batch", pinned.used),
        ):
            yield name, "gauge", text, [Sample((), value)]
        gpus = self._sources.gpus()
        for name, kind, text, figure in (
            ("nv_gpu_utilization", "gauge", "Share of time with a kernel running", "utilisation"),
            ("nv_gpu_memory_total_bytes", "gauge", "Memory of the device", "memory_total"),
            ("nv_gpu_memory_used_bytes", "gauge", "Memory in use, by anybody", "memory_used"),
            ("nv_gpu_power_usage", "gauge", "Watts", "watts"),
            ("nv_gpu_power_limit", "gauge", "Watts, at most", "watts_limit"),
            ("nv_energy_consumption", "counter", "Joules since the start", "joules"),
        ):
            samples = [
                Sample((("gpu_uuid", gpu.uuid),), value)
                for gpu in gpus
                if (value := getattr(gpu, figure)) is not None
            ]
            if samples:
                yield name, kind, text, samples


def _labels(version: VersionFigures, **more: str) -> list[tuple[str, str]]:
    return sorted({"model": version.name, "version": version.version, **more}.items())


def _first_responses(version: VersionFigures, figures: ModelFigures) -> Iterable[Sample]:
    cell: HistogramCell = figures.first or figures.total
    counts = list(cell.counts)  # one copy, so that the buckets agree with the count
    running = list(itertools.accumulate(counts))
    labels = _labels(version)
    for edge in FIRST_RESPONSE_MS:
        # Labels in alphabetical order: le stands before model.
        at = cell.edges.index(edge / 1000)
        yield Sample([("le", str(edge)), *labels], running[at], "_bucket")
    yield Sample([("le", "+Inf"), *labels], running[-1], "_bucket")
    yield Sample(labels, round(cell.sum * 1000, 3), "_sum")
    yield Sample(labels, running[-1], "_count")


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value, suffix in samples:
        shown = ",".join(f'{key}="{_escaped(content)}"' for key, content in labels)
        lines.append(
            f"{name}{suffix}{{{shown}}} {number(value)}"
            if shown
            else f"{name}{suffix} {number(value)}"
        )
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """Return a value in digits: whole numbers in full, others with a point, never an exponent."""
    if not math.isfinite(value):
        return "0"
    if value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")
