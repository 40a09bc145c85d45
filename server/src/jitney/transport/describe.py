"""What the server says about its models, as messages of the Open Inference Protocol."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from jitney.repository.handle import VersionState
from jitney.scheduling.batch import PRIORITIES
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.repository.handle import ModelVersion
    from jitney.repository.repository import IndexEntry
    from jitney.signature import TensorSpec
    from jitney.telemetry.metrics import ModelFigures

__all__ = [
    "EXTENSIONS",
    "PLATFORM",
    "config",
    "index",
    "metadata",
    "statistics",
]

PLATFORM: Final = "pytorch_libtorch"
EXTENSIONS: Final = ("model_configuration", "binary_tensor_data", "parameters", "statistics")
"""Triton's names of what works beyond the base protocol."""


def metadata(version: ModelVersion, versions: Iterable[int]) -> pb.ModelMetadataResponse:
    """Return a model's inputs and outputs; -1 stands for the batch and for what varies."""
    response = pb.ModelMetadataResponse(
        name=version.ref.name, versions=[str(v) for v in versions], platform=PLATFORM
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
    response = pb.ModelConfig(
        name=version.ref.name,
        platform=PLATFORM,
        backend="pytorch",
        max_batch_size=version.max_batch_size,
        default_model_filename="model.pt",
    )
    response.version_policy.specific.versions.append(version.ref.version)
    for name in sorted(version.reports):
        group = response.instance_group.add(name=f"{version.ref.name}_{name}", count=1)
        if name.startswith("cuda:"):
            group.kind = pb.ModelInstanceGroup.KIND_GPU
            group.gpus.append(int(name.removeprefix("cuda:")))
        else:
            group.kind = pb.ModelInstanceGroup.KIND_CPU
    for field, specs in (
        (response.input, version.signature.inputs),
        (response.output, version.signature.outputs),
    ):
        for spec in specs:
            field.add(name=spec.name, data_type=_data_type(spec), dims=spec.dims)
    if version.max_batch_size > 1:
        batching, limits = response.dynamic_batching, version.limits
        batching.max_queue_delay_microseconds = round(limits.max_queue_delay * 1e6)
        batching.priority_levels = PRIORITIES
        batching.default_priority_level = limits.default_priority
        policy = batching.default_queue_policy
        policy.timeout_action = pb.ModelQueuePolicy.REJECT
        if limits.default_timeout != math.inf:
            policy.default_timeout_microseconds = round(limits.default_timeout * 1e6)
        policy.allow_timeout_override = True
        policy.max_queue_size = limits.max_queue_rows
        buckets = {bucket for report in version.reports.values() for bucket in report.buckets}
        batching.preferred_batch_size.extend(sorted(buckets))
    response.response_cache.enable = False
    response.model_transaction_policy.decoupled = False
    return response


def _data_type(spec: TensorSpec) -> int:
    name = "STRING" if spec.datatype.value == "BYTES" else spec.datatype.value
    return pb.DataType.Value(f"TYPE_{name}")


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
            state=entry.state.value,
            reason=entry.reason,
        )
    return response
