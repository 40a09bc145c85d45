"""The effective configuration: what is in force, read back, and overridden."""

from __future__ import annotations

import dataclasses
import json

import pytest
from google.protobuf import json_format
from model_versions import report
from test_triton_mapping import FULL, SEQUENCE, read_labels

from jitney.builtin import BuiltinSpec
from jitney.config import BatchingSettings
from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.repository.handle import ModelVersion
from jitney.repository.limits import limits_of
from jitney.repository.manifest import (
    BatchingManifest,
    LevelManifest,
    ModelManifest,
    RuntimeManifest,
    VersionPolicy,
    WarmupManifest,
    resolve_signature,
)
from jitney.repository.triton.effective import effective_config
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.override import overridden
from jitney.repository.triton.text import parse_config
from jitney.sequence import Control, ControlKind, SequenceConfig, Strategy
from jitney.signature import Signature, TensorSpec
from jitney.types import ModelRef
from jitney_client.protocol import inference as pb

PACKED = Signature(
    (TensorSpec("ids", DataType.INT64, ("N", "L"), low=0, high=9),),
    (TensorSpec("scores", DataType.FP32, ("N", 2), labels=("no", "yes")),),
)
TOML = ModelManifest(
    description="as its author wrote it",
    max_batch_size=16,
    batching=BatchingManifest(
        max_queue_delay_ms=0.0,
        default_timeout_ms=5,
        buckets=(3, 5),
        priority_levels=4,
        levels={1: LevelManifest(2), 4: LevelManifest(on_timeout="delay")},
    ),
    runtime=RuntimeManifest("off", cudnn=False),
    versions=VersionPolicy("all"),
    warmup=(WarmupManifest("w", 2, 3, {"ids": ("zero", (7,))}),),
)
SEQUENCES = SequenceConfig(
    Strategy.DIRECT,
    (
        Control("START", ControlKind.START, DataType.INT32, (0, 1)),
        Control("READY", ControlKind.READY, DataType.FP32, (-0.5, 1)),
        Control("END", ControlKind.END, DataType.BOOL),
        Control("ID", ControlKind.CORRID, DataType.BYTES),
    ),
    max_idle=0.25,
)
ECHO = ModelManifest(builtin=BuiltinSpec("echo"))
DELAYED = ModelManifest(
    max_batch_size=8, builtin=BuiltinSpec("identity", {"execute_delay_ms": "3"})
)
MANIFESTS = {
    "nothing said": ModelManifest(),
    "toml": TOML,
    "not batched": ModelManifest(batching=BatchingManifest(enabled=False)),
    "sequences": ModelManifest(sequence=SEQUENCES),
    "oldest": ModelManifest(sequence=SequenceConfig(Strategy.OLDEST, max_candidates=3)),
    "echo": ECHO,
    "delayed": DELAYED,
    "one device": ModelManifest(devices=("cuda:1",)),
}


def version_of(
    manifest: ModelManifest, packed: Signature = PACKED, *, loaded: str = "cpu"
) -> ModelVersion:
    """Return a version of a model, loaded where it is said."""
    signature = resolve_signature(manifest, None if manifest.outputs else packed)
    assert signature is not None
    limits = limits_of(manifest, BatchingSettings(), 1 << 20)
    version = ModelVersion(ModelRef("m", 1), signature, limits, "", manifest=manifest)
    if loaded:
        version.loaded(loaded, report(limits.max_batch_size))
    return version


def from_pbtxt(text: str) -> ModelManifest:
    """Return what a config.pbtxt says."""
    return manifest_of(parse_config(text), "m", read_file=read_labels)[0]


def merged(base: ModelManifest, override: object) -> ModelManifest:
    """Return what is left of a model's manifest when a load brings an override."""
    config = effective_config(version_of(base))
    manifest, warnings = overridden(
        base, config, json.dumps(override), name="m", read_file=read_labels
    )
    assert [] == warnings
    return dataclasses.replace(manifest, config=base.config)


@pytest.mark.parametrize("loaded", ["", "cpu", "cuda:0", "builtin:m/1"])
@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_every_effective_configuration_can_be_read_back(
    manifest: ModelManifest, loaded: str
) -> None:
    """What a server shows of a model is a configuration that it accepts without a warning."""
    config = effective_config(version_of(manifest, loaded=loaded))
    again, warnings = manifest_of(config, "m")
    assert [] == warnings
    assert (again.max_batch_size, again.versions) == (config.max_batch_size, manifest.versions)
    assert (again.builtin, again.sequence) == (manifest.builtin, manifest.sequence)


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_an_override_that_says_nothing_changes_nothing(manifest: ModelManifest) -> None:
    """What a ModelConfig cannot say is kept: bounds, labels, names of dimensions, delays."""
    assert manifest == merged(manifest, {})


@pytest.mark.parametrize("text", [FULL, SEQUENCE], ids=["full", "sequences"])
def test_what_config_pbtxt_says_is_in_force(text: str) -> None:
    """Where nothing keeps it from being so, the effective configuration says the same."""
    manifest = from_pbtxt(text)
    config = effective_config(version_of(manifest))

    again, _ = manifest_of(config, "m", read_file=read_labels)

    same = dataclasses.replace(again, config=b"", devices=manifest.devices)
    if not manifest.outputs:
        same = dataclasses.replace(same, inputs=None, outputs=None)
    levels = {
        level: dataclasses.replace(said, default_timeout_ms=2.5, on_timeout="delay")
        if said.default_timeout_ms is None
        else said
        for level, said in manifest.batching.levels.items()
    }
    batching = dataclasses.replace(manifest.batching, levels=levels)
    expected = dataclasses.replace(manifest, config=b"", batching=batching)
    assert expected == same


def test_what_is_only_shown_is_shown() -> None:
    """Image clients read the format, others the name of the labels' file."""
    config = effective_config(version_of(from_pbtxt(FULL)))
    assert (pb.ModelInput.FORMAT_NCHW, "labels.txt") == (
        config.input[0].format,
        config.output[0].label_filename,
    )
    assert ("pytorch_libtorch", "pytorch") == (config.platform, config.backend)


def test_what_is_ignored_is_not_shown() -> None:
    """A client may believe every field."""
    text = FULL + 'response_cache { enable: true } metric_tags { key: "a" value: "b" }'
    config = effective_config(version_of(from_pbtxt(text)))
    assert not config.response_cache.enable
    assert {} == dict(config.metric_tags)


def test_the_device_it_is_on_is_shown() -> None:
    """One group for each device, of its kind."""
    config = effective_config(version_of(ModelManifest(), loaded="cuda:3"))
    (group,) = config.instance_group
    assert ("m_cuda:3", pb.ModelInstanceGroup.KIND_GPU, [3], 1) == (
        group.name,
        group.kind,
        list(group.gpus),
        group.count,
    )
    assert config.optimization.input_pinned_memory.enable


def test_a_model_without_a_batch_dimension_has_no_batching() -> None:
    """max_batch_size is 0, and there is no scheduling choice."""
    packed = Signature(
        (TensorSpec("x", DataType.FP32, ()),), (TensorSpec("y", DataType.FP32, (3, -1)),)
    )
    config = effective_config(version_of(ModelManifest(), packed))
    assert (0, None) == (config.max_batch_size, config.WhichOneof("scheduling_choice"))
    assert ([], [3, -1]) == (list(config.input[0].dims), list(config.output[0].dims))


def test_the_queue_of_a_model_that_runs_row_by_row_is_shown() -> None:
    """Its bounds and timeouts are in force, whatever a batch holds."""
    text = (
        'backend: "identity" max_batch_size: 1 '
        "dynamic_batching { default_queue_policy { max_queue_size: 2 } } "
        'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } '
        'output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
    )
    config = effective_config(version_of(from_pbtxt(text)))
    assert (1, 2) == (
        config.max_batch_size,
        config.dynamic_batching.default_queue_policy.max_queue_size,
    )


def test_a_decoupled_model_says_so() -> None:
    """Clients ask for it before they choose how to call."""
    spec = TensorSpec("IN", DataType.INT32, (-1,))
    manifest = ModelManifest(builtin=BuiltinSpec("repeat"), inputs=(spec,), outputs=(spec,))
    config = effective_config(version_of(manifest))
    assert (True, "repeat", "") == (
        config.model_transaction_policy.decoupled,
        config.backend,
        config.platform,
    )


def test_an_override_changes_what_it_names_and_nothing_else() -> None:
    """The one number is another one; the rest is as its operator wrote it."""
    expected = dataclasses.replace(TOML, max_batch_size=8)
    assert expected == merged(TOML, {"max_batch_size": "8"})


def test_an_override_reaches_into_messages() -> None:
    """A nested value is set, its neighbours stay."""
    batching = dataclasses.replace(TOML.batching, max_queue_delay_ms=0.5)
    expected = dataclasses.replace(TOML, batching=batching)
    assert expected == merged(TOML, {"dynamicBatching": {"maxQueueDelayMicroseconds": 500}})


def test_an_override_of_tensors_keeps_what_it_does_not_change() -> None:
    """A tensor that is the same has the labels and bounds that it had."""
    base = ModelManifest(inputs=PACKED.inputs, outputs=PACKED.outputs)
    scores = {"name": "scores", "data_type": "TYPE_FP32", "dims": [2]}
    more = {"name": "more", "data_type": "TYPE_FP32", "dims": [1]}

    found = merged(base, {"output": [scores, more]})

    added = TensorSpec("more", DataType.FP32, ("N", 1))
    assert (PACKED.inputs, (*PACKED.outputs, added)) == (found.inputs, found.outputs)


def test_the_configuration_after_an_override_is_shown() -> None:
    """What was merged stands for the file from then on."""
    config = effective_config(version_of(TOML))
    found, _ = overridden(
        TOML,
        config,
        '{"input": [{"name": "ids", "data_type": "TYPE_INT64", '
        '"dims": [-1], "format": "FORMAT_NHWC"}]}',
        name="m",
    )
    assert pb.ModelInput.FORMAT_NHWC == effective_config(version_of(found)).input[0].format


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("", "config: expected a JSON object"),
        ("[]", "config: expected a JSON object"),
        ("{", "config: Failed to load JSON: "),
        ('{"foo": 1}', 'config: Message type "inference.ModelConfig" has no field named "foo"'),
        ('{"max_batch_size": "many"}', "config: Failed to parse max"),
        ('{"name": "other"}', "config.pbtxt: name: 'other' is not supported by jitney: "),
        ('{"a":' * 100_000, "config: Failed to load JSON: "),
    ],
)
def test_a_bad_override_is_refused(override: str, expected: str) -> None:
    """The text says whether it is no configuration, or one that is not supported."""
    config = effective_config(version_of(ModelManifest()))
    with pytest.raises(ConfigError) as caught:
        overridden(ModelManifest(), config, override, name="m")
    assert str(caught.value).startswith(expected)


def test_the_effective_configuration_is_left_alone() -> None:
    """An override is merged into a copy."""
    config = effective_config(version_of(ModelManifest()))
    before = config.SerializeToString()
    overridden(ModelManifest(), config, '{"max_batch_size": 3}', name="m")
    assert before == config.SerializeToString()


def test_what_clients_read_as_json_can_be_sent_back() -> None:
    """A client may load a model with the configuration that it got, changed or not."""
    config = effective_config(version_of(TOML))
    sent_back = json_format.MessageToDict(config)
    assert TOML == merged(TOML, sent_back)
