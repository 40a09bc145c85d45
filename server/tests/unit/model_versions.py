"""Versions of models that were never loaded from anywhere, for tests of what is done with them."""

from __future__ import annotations

from jitney.datatypes import DataType
from jitney.latency_profile import LatencyProfile
from jitney.load_report import Golden, LoadReport
from jitney.repository.handle import ModelVersion
from jitney.repository.limits import ModelLimits
from jitney.repository.repository import Repository
from jitney.signature import Signature, TensorSpec
from jitney.types import ModelRef

LIMITS = ModelLimits(max_batch_size=8, max_queue_rows=64, max_queue_delay=0.0, slot_bytes=1 << 16)

ECHO = Signature(
    (TensorSpec("x", DataType.FP32, ("N", -1)),), (TensorSpec("y", DataType.FP32, ("N", -1)),)
)
"""One FP32 input of rows of any length, and its echo."""


def report(max_batch_size: int = 8) -> LoadReport:
    """Return the report of a load that went well."""
    return LoadReport(
        form="plain",
        why="",
        batchable=True,
        batchable_why="",
        max_batch_size=max_batch_size,
        deterministic=True,
        mutated_state=(),
        mutated_inputs=(),
        golden=Golden(0, 0.0),
        latency=LatencyProfile((1, 2, 4, 8), (0.001, 0.002, 0.003, 0.004), (0.0,) * 4),
        memory_bytes=0,
        load_seconds=0.5,
        warnings=(),
    )


def version_of(
    signature: Signature = ECHO,
    limits: ModelLimits = LIMITS,
    *,
    name: str = "echo",
    version: int = 1,
    devices: tuple[str, ...] = ("cpu",),
) -> ModelVersion:
    """Return a version that is ready on the devices."""
    handle = ModelVersion(ModelRef(name, version), signature, limits, "digest")
    for device in devices:
        handle.loaded(device, report(limits.max_batch_size))
    return handle


def repository_of(*versions: ModelVersion) -> Repository:
    """Return a repository that holds the versions."""
    repository = Repository()
    for version in versions:
        repository.add(version.ref.name).wanted = True
        repository.begin(version, visible=True)
    return repository
