"""What the server says about its models, as messages of the Open Inference Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.repository.handle import VersionState
from jitney.repository.triton.effective import effective_config
from jitney.repository.triton.mapping import PLATFORM
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.repository.handle import ModelVersion
    from jitney.repository.repository import IndexEntry
    from jitney.telemetry.model_figures import ModelFigures

__all__ = [
    "config",
    "extensions",
    "index",
    "metadata",
    "statistics",
]


def extensions(*, control: bool, shared_memory: bool) -> list[str]:
    """Return Triton's names, in its order, of what works beyond the base protocol.

    :param control: whether models are loaded and unloaded on request.
    :param shared_memory: whether clients may have tensors in memory shared with the server.
    """
    return [
        *("classification", "sequence"),
        *(("model_repository", "model_repository(unload_dependents)") if control else ()),
        *("schedule_policy", "model_configuration"),
        *(("system_shared_memory",) if shared_memory else ()),
        *("binary_tensor_data", "parameters", "statistics", "trace", "logging"),
    ]


def metadata(version: ModelVersion, versions: Iterable[int]) -> pb.ModelMetadataResponse:
    """Return a model's inputs and outputs; -1 stands for the batch and for what varies."""
    response = pb.ModelMetadataResponse(
        name=version.ref.name,
        versions=[str(v) for v in versions],
        platform=PLATFORM if version.manifest.builtin is None else version.manifest.builtin.handler,
    )
    for field, specs in (
        (response.inputs, version.signature.inputs),
        (response.outputs, version.signature.outputs),
    ):
        for spec in specs:
            field.add(name=spec.name, datatype=spec.datatype.value, shape=spec.wire_shape)
    return response


def config(version: ModelVersion) -> pb.ModelConfig:
    """Return the effective configuration: what is in force, not what was written somewhere."""
    return effective_config(version)


def statistics(version: ModelVersion, figures: ModelFigures) -> pb.ModelStatistics:
    """Return a version's figures; the sums add a batch's full time for each of its requests."""
    count = figures.total.count
    response = pb.ModelStatistics(
        name=version.ref.name,
        version=str(version.ref.version),
        last_inference=round(figures.last_inference * 1000),
        inference_count=figures.rows,
        execution_count=figures.batches,
    )
    stats = response.inference_stats
    for field, number, seconds in (
        (stats.success, count, figures.total.sum),
        (stats.fail, figures.fail_count, figures.fail_seconds),
        (stats.queue, count, figures.queue.sum),
        (stats.compute_input, count, figures.compute_input),
        (stats.compute_infer, count, figures.compute_infer),
        (stats.compute_output, count, figures.compute_output),
    ):
        field.count, field.ns = number, _ns(seconds)
    for rows, batches in sorted(figures.by_rows.items()):
        entry = response.batch_stats.add(batch_size=rows)
        for field, seconds in (
            (entry.compute_input, batches.compute_input),
            (entry.compute_infer, batches.compute_infer),
            (entry.compute_output, batches.compute_output),
        ):
            field.count, field.ns = batches.count, _ns(seconds)
    for name, report in sorted(version.reports.items()):
        gpu = name.startswith("cuda:")
        response.memory_usage.add(
            type="GPU" if gpu else "CPU",
            id=int(name.removeprefix("cuda:")) if gpu else 0,
            byte_size=report.memory_bytes,
        )
    for number, reply in sorted(dict(figures.responses).items()):
        response_stats = response.response_stats[str(number)]
        for field in (response_stats.compute_infer, response_stats.success):
            field.count, field.ns = reply.count, _ns(reply.seconds)
    return response


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def index(entries: Iterable[IndexEntry], *, ready: bool) -> pb.RepositoryIndexResponse:
    """Return the repository's index, or only what is ready in it."""
    response = pb.RepositoryIndexResponse()
    for entry in entries:
        if ready and entry.state is not VersionState.READY:
            continue
        response.models.add(
            name=entry.name,
            version="" if entry.version is None else str(entry.version),
            # Of a model that was never loaded the protocol shows the name and nothing else.
            state="" if entry.state is VersionState.UNKNOWN else entry.state.value,
            reason=entry.reason,
        )
    return response
