"""What ``jitney status`` prints about a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.cli.table import amount, duration, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney_client.protocol import jitney_v1

__all__ = ["notes_on", "rows_of"]


def rows_of(model: jitney_v1.ModelStatus) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a version in the table of models, one for each of its copies."""
    batch = f"<= {model.max_batch_size}" if model.batched else "no"
    head: tuple[str, ...] = (
        model.name,
        _version(model),
        model.state,
        batch,
        str(model.queued_rows),
    )
    if not model.instances:
        yield (*head, "-", "-", "-", "-")
    for instance in model.instances:
        loaded_in = duration(instance.load_seconds)
        yield (*head, instance.device, instance.form, loaded_in, _planned(instance.latency))
        head = ("",) * len(head)  # the copies of a version share its line's first half


def notes_on(model: jitney_v1.ModelStatus, *, details: bool) -> Iterator[str]:
    """Yield the lines below the table: what is wrong with a version; with ``details``, all else."""
    notes = [*_reasons(model)]
    if details:
        notes += _contract(model)
    for instance in model.instances:
        where = f" ({instance.device})" if len(model.instances) > 1 else ""
        notes += ((f"{title}{where}", text) for title, text in _copy(instance, details=details))
    if notes:
        yield ""
        yield from table((f"{model.name}/{_version(model)}", ""), notes)
    for instance in model.instances if details else ():
        if instance.HasField("latency"):
            yield ""
            yield printable(f"{model.name}/{_version(model)} on {instance.device}")
            yield from (f"  {line}" for line in _latency(instance.latency))


def _version(model: jitney_v1.ModelStatus) -> str:
    """Return the version as people read it; a model without any has -1 on the wire."""
    return "-" if model.version < 0 else str(model.version)


def _reasons(model: jitney_v1.ModelStatus) -> Iterator[tuple[str, str]]:
    # A reason may hold a model.toml to copy, whose lines have to stay lines.
    for number, line in enumerate(model.reason.splitlines()):
        yield "" if number else "reason", line


def _contract(model: jitney_v1.ModelStatus) -> Iterator[tuple[str, str]]:
    """Yield what callers have to send, and what they may expect."""
    for side, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            yield side, f"{tensor.name} {tensor.datatype} [{', '.join(tensor.shape)}]"
    if model.digest_sha256:
        yield "sha256", model.digest_sha256
    if model.mode:  # older servers do not tell
        slo, timeout = (
            f"{1e3 * seconds:g} ms" if seconds else "none"
            for seconds in (model.default_slo_seconds, model.default_timeout_seconds)
        )
        yield (
            "defaults",
            f"SLO {slo}, timeout {timeout}, priority {model.default_priority}, mode {model.mode}",
        )
    if model.HasField("demand"):
        yield "demand", _demand(model.demand)


def _demand(demand: jitney_v1.DemandStatus) -> str:
    shapes = f"{demand.shapes} shape{'s' if demand.shapes > 1 else ''}"
    text = f"{demand.rows_per_second:.1f} rows/s with deadlines in {shapes}"
    if demand.best_rows and demand.worth:
        text += f"; best batch {demand.best_rows} rows, {demand.worth:.0f} rows/s a device"
    return text


def _copy(instance: jitney_v1.InstanceStatus, *, details: bool) -> Iterator[tuple[str, str]]:
    if instance.why:
        yield "form", f"{instance.form}: {instance.why}"
    if details:
        yield "buckets", ", ".join(map(str, instance.buckets))
        yield "memory", amount(instance.memory_bytes)
        error = f"{instance.golden_max_error:.3g}"
        yield "samples", f"{instance.golden_samples}, answered within {error}"
        yield "repeatable", "yes" if instance.deterministic else "no"
    for warning in instance.warnings:
        yield "warning", warning


def _planned(latency: jitney_v1.LatencyStatus) -> str:
    """Return what is planned for the smallest and the largest batch."""
    sizes = list(latency.sizes)
    ends = [sizes[0], sizes[-1]][: len(sizes)] if sizes else []
    return ", ".join(f"{size.rows}: {_ms(size.planned_seconds)}" for size in ends) or "-"


def _latency(latency: jitney_v1.LatencyStatus) -> Iterator[str]:
    """Yield how long batches take, and where that is known from."""
    learnt = f"learnt from {latency.batches} batches" if latency.batches else "as measured at load"
    if latency.shapes > 1:
        learnt += f" of the commonest of {latency.shapes} shapes"
    yield f"{learnt}; drift {latency.drift:.2f}, z {latency.z:.2f}"
    yield f"about {_ms(latency.beta_seconds)} a batch and {_ms(latency.alpha_seconds)} a row"
    yield from table(
        ("ROWS", "MEAN", "PLANNED", "SPREAD", "BATCHES"),
        [
            (
                f"{'<= ' if latency.padded else ''}{size.rows}",
                _ms(size.mean_seconds),
                _ms(size.planned_seconds),
                f"{size.spread:.1%}",
                f"{size.observations:.0f}",
            )
            for size in latency.sizes
        ],
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
