"""The effective configuration: what is in force, as Triton's ModelConfig.

It holds what ``mapping`` can read back, and nothing that is ignored: a client may believe every
field, and a load on request merges its override into it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.repository.manifest import MODEL_FILE
from jitney.repository.triton.mapping import BACKEND, HANDLERS, PLATFORM
from jitney.repository.triton.tensors import type_of
from jitney.scheduling.batch import PRIORITIES
from jitney.sequence import ControlKind, Strategy
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.builtin import BuiltinSpec
    from jitney.repository.handle import ModelVersion
    from jitney.repository.limits import ModelLimits
    from jitney.repository.manifest import ModelManifest, WarmupManifest
    from jitney.sequence import Control, SequenceConfig
    from jitney.signature import Signature

__all__ = ["effective_config"]

_CONTROL: Final = pb.ModelSequenceBatching.Control
KINDS: Final = {
    ControlKind.START: _CONTROL.CONTROL_SEQUENCE_START,
    ControlKind.READY: _CONTROL.CONTROL_SEQUENCE_READY,
    ControlKind.END: _CONTROL.CONTROL_SEQUENCE_END,
    ControlKind.CORRID: _CONTROL.CONTROL_SEQUENCE_CORRID,
}
ACTIONS: Final = {
    "reject": pb.ModelQueuePolicy.REJECT,
    "delay": pb.ModelQueuePolicy.DELAY,
}


def effective_config(version: ModelVersion) -> pb.ModelConfig:
    """Return what is in force for a version; before its load, as far as its files tell."""
    manifest, limits = version.manifest, version.limits
    given = pb.ModelConfig.FromString(manifest.config)  # empty for a model.toml
    config = pb.ModelConfig(name=version.ref.name, max_batch_size=version.max_batch_size)
    _add_backend(config, given, manifest.builtin)
    _add_versions(config, manifest)
    _add_tensors(config, given, version.signature)
    _add_devices(config, sorted(version.reports) or manifest.devices)
    if version.sequence is not None:
        _add_sequences(config, version.sequence, manifest, limits)
    elif (version.shares and version.max_batch_size > 1) or given.HasField("dynamic_batching"):
        # Also where batches have one row: it says what holds for the queue.
        _add_batching(config, manifest, limits)
    _add_parameters(config, given, manifest)
    for warmup in manifest.warmup:
        _add_warmup(config, warmup, version.model_signature)
    config.model_transaction_policy.decoupled = version.decoupled
    config.response_cache.enable = False
    return config


def _add_backend(
    config: pb.ModelConfig, given: pb.ModelConfig, builtin: BuiltinSpec | None
) -> None:
    if builtin is None:
        config.platform, config.backend = PLATFORM, BACKEND
    elif HANDLERS.get(given.backend) == builtin.handler:
        config.backend = given.backend
    else:
        config.backend = builtin.handler


def _add_versions(config: pb.ModelConfig, manifest: ModelManifest) -> None:
    policy, versions = config.version_policy, manifest.versions
    if versions.policy == "all":
        policy.all.SetInParent()
    elif versions.policy == "specific":
        policy.specific.versions.extend(versions.numbers)
    else:
        policy.latest.num_versions = versions.count
    if manifest.builtin is None:
        config.default_model_filename = manifest.runtime.file or MODEL_FILE


def _add_tensors(config: pb.ModelConfig, given: pb.ModelConfig, signature: Signature) -> None:
    formats = {tensor.name: tensor.format for tensor in given.input}
    for spec in signature.inputs:
        field = config.input.add(
            name=spec.name,
            data_type=type_of(spec.datatype),
            dims=spec.dims,
            format=formats.get(spec.name, pb.ModelInput.FORMAT_NONE),
            optional=spec.optional,
        )
        if spec.reshape is not None:
            field.reshape.SetInParent()
            field.reshape.shape.extend(spec.reshape)
    labels = {tensor.name: tensor.label_filename for tensor in given.output}
    for spec in signature.outputs:
        output = config.output.add(
            name=spec.name,
            data_type=type_of(spec.datatype),
            dims=spec.dims,
            label_filename=labels.get(spec.name, ""),
        )
        if spec.reshape is not None:
            output.reshape.SetInParent()
            output.reshape.shape.extend(spec.reshape)


def _add_devices(config: pb.ModelConfig, devices: Iterable[str]) -> None:
    for name in devices:
        kind, _, number = name.partition(":")
        # The device of a built-in model is named after the model already.
        suffix = kind if kind == "builtin" else name
        group = config.instance_group.add(name=f"{config.name}_{suffix}", count=1)
        if kind == "cuda":
            group.kind = pb.ModelInstanceGroup.KIND_GPU
            group.gpus.extend([int(number)] if number else [])
            # Staged in page-locked memory: what Triton shows is true of these.
            config.optimization.input_pinned_memory.enable = True
            config.optimization.output_pinned_memory.enable = True
        else:
            group.kind = pb.ModelInstanceGroup.KIND_CPU


def _add_batching(config: pb.ModelConfig, manifest: ModelManifest, limits: ModelLimits) -> None:
    dynamic, given = config.dynamic_batching, manifest.batching
    dynamic.preferred_batch_size.extend(_buckets(config, manifest))
    dynamic.max_queue_delay_microseconds = _microseconds(limits.max_queue_delay)
    dynamic.priority_levels = limits.priority_levels or PRIORITIES
    dynamic.default_priority_level = limits.default_priority
    policy = dynamic.default_queue_policy
    policy.timeout_action = ACTIONS[given.on_timeout]
    policy.default_timeout_microseconds = _microseconds(limits.default_timeout)
    policy.allow_timeout_override = True
    policy.max_queue_size = limits.max_queue_rows
    for level, said in sorted(given.levels.items()):
        own = dynamic.priority_queue_policy.get_or_create(level)
        own.CopyFrom(policy)
        if said.max_queue_size is not None:
            own.max_queue_size = said.max_queue_size
        if said.default_timeout_ms is not None:
            own.default_timeout_microseconds = round(said.default_timeout_ms * 1000)
        if said.on_timeout is not None:
            own.timeout_action = ACTIONS[said.on_timeout]


def _buckets(config: pb.ModelConfig, manifest: ModelManifest) -> list[int]:
    # The operator's; those that a load added besides would forbid every override of the limit.
    return [rows for rows in manifest.batching.buckets if rows <= config.max_batch_size]


def _add_sequences(
    config: pb.ModelConfig,
    sequence: SequenceConfig,
    manifest: ModelManifest,
    limits: ModelLimits,
) -> None:
    field = config.sequence_batching
    field.max_sequence_idle_microseconds = _microseconds(sequence.max_idle)
    delay = _microseconds(limits.max_queue_delay)
    if sequence.strategy is Strategy.OLDEST:
        field.oldest.max_candidate_sequences = sequence.max_candidates
        field.oldest.max_queue_delay_microseconds = delay
        field.oldest.preferred_batch_size.extend(_buckets(config, manifest))
    else:
        field.direct.SetInParent()
        field.direct.max_queue_delay_microseconds = delay
    for control in sequence.controls:
        _add_control(field, control)


def _add_control(field: pb.ModelSequenceBatching, control: Control) -> None:
    added = field.control_input.add(name=control.name).control.add(kind=KINDS[control.kind])
    no, yes = control.values
    if control.kind is ControlKind.CORRID:
        added.data_type = type_of(control.datatype)
    elif control.datatype is DataType.FP32:
        added.fp32_false_true.extend((no, yes))
    elif control.datatype is DataType.BOOL:
        added.bool_false_true.extend((bool(no), bool(yes)))
    else:
        added.int32_false_true.extend((int(no), int(yes)))


def _add_parameters(config: pb.ModelConfig, given: pb.ModelConfig, manifest: ModelManifest) -> None:
    for key, parameter in given.parameters.items():  # clients may read some that mean nothing here
        config.parameters.get_or_create(key).CopyFrom(parameter)
    if given.ByteSize():
        return
    runtime = manifest.runtime
    switches = {
        "DISABLE_OPTIMIZED_EXECUTION": "true" if runtime.optimise == "off" else "",
        "INFERENCE_MODE": "" if runtime.inference_mode else "false",
        "DISABLE_CUDNN": "" if runtime.cudnn else "true",
    }
    said = dict(manifest.builtin.parameters) if manifest.builtin is not None else switches
    for key, value in said.items():
        if value:
            config.parameters.get_or_create(key).string_value = value


def _add_warmup(config: pb.ModelConfig, warmup: WarmupManifest, signature: Signature) -> None:
    datatypes = {spec.name: spec.datatype for spec in signature.inputs}
    rows = min(warmup.rows, max(config.max_batch_size, 1))
    field = config.model_warmup.add(name=warmup.name, batch_size=rows, count=warmup.count)
    for name, (source, shape) in warmup.inputs.items():
        if name not in datatypes:
            continue  # the load will say so
        sample = field.inputs.get_or_create(name)
        sample.data_type = type_of(datatypes[name])
        sample.dims.extend(shape)
        if source in ("zero", "random"):
            setattr(sample, f"{source}_data", True)
        else:
            sample.input_data_file = source


def _microseconds(seconds: float) -> int:
    """Return a duration as messages have it: 0 where there is no limit."""
    return 0 if seconds == math.inf else round(seconds * 1e6)
