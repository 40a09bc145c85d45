"""config.pbtxt: what a whole file means, and what is wrong with a wrong one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.builtin import BuiltinSpec
from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.repository.manifest import (
    BatchingManifest,
    LevelManifest,
    ModelManifest,
    RuntimeManifest,
    VersionPolicy,
    WarmupManifest,
)
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.text import parse_config
from jitney.sequence import Control, ControlKind, SequenceConfig, Strategy
from jitney.signature import TensorSpec

FULL = """
name: "m"
platform: "pytorch_libtorch"
max_batch_size: 16
version_policy { specific { versions: [ 3, 1 ] } }
input [
  { name: "INPUT__0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, -1, 8 ] },
  { name: "INPUT__1" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [] } optional: true }
]
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
instance_group [ { kind: KIND_GPU gpus: [ 0, 2 ] }, { kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 8, 4 ]
  max_queue_delay_microseconds: 1500
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy {
    timeout_action: DELAY
    default_timeout_microseconds: 2500
    max_queue_size: 10
  }
  priority_queue_policy { key: 1 value { max_queue_size: 3 } }
}
default_model_filename: "net.pt"
parameters { key: "DISABLE_OPTIMIZED_EXECUTION" value { string_value: "true" } }
parameters { key: "INFERENCE_MODE" value { string_value: "False" } }
parameters { key: "DISABLE_CUDNN" value { string_value: "1" } }
model_warmup {
  name: "w"
  batch_size: 4
  count: 2
  inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 3, 5, 8 ] random_data: true } }
  inputs { key: "INPUT__1" value { data_type: TYPE_STRING dims: 1 input_data_file: "text" } }
}
"""
SEQUENCE = """
max_batch_size: 4
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START
                                          int32_false_true: [ 0, 1 ] } }
  control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY
                                          fp32_false_true: [ -1, 1 ] } }
  control_input { name: "END" control { kind: CONTROL_SEQUENCE_END
                                        bool_false_true: [ false, true ] } }
  control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID
                                           data_type: TYPE_UINT64 } }
  oldest { max_candidate_sequences: 6 preferred_batch_size: 2
           max_queue_delay_microseconds: 100 }
}
"""


def read_labels(name: str) -> bytes:
    """Return the one file of the model's folder."""
    assert name == "labels.txt"
    return b"cat\ndog\n"


def manifest(text: str) -> ModelManifest:
    """Return what a text means."""
    return manifest_of(parse_config(text), "m", read_file=read_labels)[0]


def refusal(text: str) -> str:
    """Return the text with which a config.pbtxt is refused."""
    with pytest.raises(ConfigError) as caught:
        manifest_of(parse_config(text), "m", read_file=read_labels)
    return str(caught.value)


def warnings(text: str) -> list[str]:
    """Return the warnings about a text."""
    return manifest_of(parse_config(text), "m", read_file=read_labels)[1]


def test_an_empty_file_says_nothing() -> None:
    """Everything of a TorchScript model has a default."""
    assert (ModelManifest(), []) == manifest_of(parse_config(""), "m")


def test_a_full_file_is_read() -> None:
    """Every field arrives where it belongs."""
    expected = ModelManifest(
        max_batch_size=16,
        batching=BatchingManifest(
            max_queue_delay_ms=1.5,
            max_queue_size=13,
            default_timeout_ms=2.5,
            default_priority=2,
            buckets=(4, 8),
            priority_levels=2,
            on_timeout="delay",
            levels={
                1: LevelManifest(3, 0.0, "reject"),
                2: LevelManifest(10),
            },
        ),
        runtime=RuntimeManifest("off", inference_mode=False, cudnn=False, file="net.pt"),
        versions=VersionPolicy("specific", numbers=(1, 3)),
        inputs=(
            TensorSpec("INPUT__0", DataType.FP32, ("N", 3, -1, 8)),
            TensorSpec("INPUT__1", DataType.BYTES, ("N", 1), optional=True, reshape=()),
        ),
        outputs=(TensorSpec("OUTPUT__0", DataType.FP32, ("N", 2), labels=("cat", "dog")),),
        devices=("cuda:0", "cuda:2", "cpu"),
        warmup=(
            WarmupManifest(
                "w", 4, 2, {"INPUT__0": ("random", (3, 5, 8)), "INPUT__1": ("text", (1,))}
            ),
        ),
        config=parse_config(FULL).SerializeToString(deterministic=True),
    )
    assert (expected, []) == manifest_of(parse_config(FULL), "m", read_file=read_labels)


def test_sequences_are_read() -> None:
    """Each control has its kind, its datatype and what stands for false and true."""
    found = manifest(SEQUENCE)
    expected = SequenceConfig(
        Strategy.OLDEST,
        (
            Control("START", ControlKind.START, DataType.INT32, (0, 1)),
            Control("READY", ControlKind.READY, DataType.FP32, (-1, 1)),
            Control("END", ControlKind.END, DataType.BOOL, (0, 1)),
            Control("CORRID", ControlKind.CORRID, DataType.UINT64),
        ),
        max_idle=5.0,
        max_candidates=6,
    )
    assert expected == found.sequence
    assert BatchingManifest(max_queue_delay_ms=0.1, buckets=(2,)) == found.batching


def test_sequences_are_direct_and_idle_for_a_second_by_default() -> None:
    """What the file leaves out is as in Triton."""
    assert SequenceConfig() == manifest("max_batch_size: 2 sequence_batching {}").sequence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('backend: "identity"', BuiltinSpec("identity", {})),
        (
            (
                'backend: "identity" parameters { key: "execute_delay_ms" value '
                '{ string_value: "10" } }'
            ),
            BuiltinSpec("identity", {"execute_delay_ms": "10"}),
        ),
        (
            'backend: "repeat" model_transaction_policy { decoupled: true }',
            BuiltinSpec("repeat", {}),
        ),
        ('backend: "parameter"', BuiltinSpec("echo", {})),
        ('backend: "pytorch"', None),
    ],
)
def test_some_backends_are_built_in(text: str, expected: BuiltinSpec | None) -> None:
    """They need no file, and the devices of the configuration are not theirs."""
    found = manifest(text + " instance_group { kind: KIND_CPU }")
    assert expected == found.builtin
    assert (("cpu",) if expected is None else ()) == found.devices


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("", ()),
        ("instance_group {}", ()),
        ("instance_group { kind: KIND_GPU }", ("cuda",)),
        ("instance_group { kind: KIND_AUTO gpus: 1 }", ("cuda:1",)),
        (
            "instance_group [ { kind: KIND_CPU }, { gpus: [ 1, 0, 1 ] } ]",
            ("cpu", "cuda:1", "cuda:0"),
        ),
        ("instance_group [ { kind: KIND_CPU }, {} ]", ()),
    ],
)
def test_instance_groups_become_devices(group: str, expected: tuple[str, ...]) -> None:
    """A kind stands for all devices of it, and no kind for all there are."""
    assert expected == manifest(group).devices


def test_without_a_batch_dimension_shapes_are_the_dims() -> None:
    """max_batch_size 0, or none, says that there is none, where there are tensors."""
    text = 'input { name: "x" data_type: TYPE_INT8 dims: [ 2, -1 ] }'
    found = manifest(text)
    assert (0, (TensorSpec("x", DataType.INT8, (2, -1)),)) == (found.max_batch_size, found.inputs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'name: "other"',
            "config.pbtxt: name: 'other' is not supported by jitney: leave it out, or",
        ),
        ('platform: "torch_aoti"', "config.pbtxt: platform: 'torch_aoti' is not supported by jitn"),
        (
            'platform: "ensemble"',
            "config.pbtxt: platform: 'ensemble' is not supported by jitney: p",
        ),
        ('backend: "python"', "config.pbtxt: backend: 'python' is not supported by jitney: save t"),
        (
            'runtime: "model.py"',
            "config.pbtxt: runtime: 'model.py' is not supported by jitney: sav",
        ),
        (
            'platform: "pytorch_libtorch" backend: "identity"',
            "config.pbtxt: platform: 'pytorch_libtorch' is not supported by jitney: leave it out b",
        ),
        (
            'default_model_filename: "model.onnx"',
            "config.pbtxt: default_model_filename: 'model.onnx' is not supported by jitney: write",
        ),
        (
            'default_model_filename: "../model.pt"',
            "config.pbtxt: default_model_filename: '../model.pt' is not supported by jitney: write",
        ),
        ("max_batch_size: -1", "config.pbtxt: max_batch_size: expected a number of rows from 0 to"),
        ('input { name: "x" dims: 1 }', "config.pbtxt: input[0].data_type: expected one of TYPE_"),
        (
            "input { data_type: TYPE_BOOL dims: 1 }",
            "config.pbtxt: input[0].name: expected a text of 1 to",
        ),
        (
            'input { name: "x" data_type: TYPE_BOOL dims: [ 1, 0 ] }',
            "config.pbtxt: input[0].dims[1]: expected a size > 0 or -1, got 0",
        ),
        (
            'output { name: "x" data_type: TYPE_BOOL dims: 4 reshape { shape: [ 2, 3 ] } }',
            "config.pbtxt: output[0].reshape is not supported by jitney: [2, 3] must have as many",
        ),
        (
            'output { name: "x" data_type: TYPE_BOOL dims: 1 label_filename: "../x" }',
            "config.pbtxt: output[0].label_filename: expected the plain name of a file in the mo",
        ),
        (
            'input { name: "x" data_type: TYPE_BOOL dims: 1 allow_ragged_batch: true }',
            "config.pbtxt: input[0].allow_ragged_batch is not supported by jitney: leave it out a",
        ),
        (
            "version_policy { specific {} }",
            "config.pbtxt: version_policy.specific.versions: expected numbers >= 0",
        ),
        (
            "instance_group { kind: KIND_MODEL }",
            "config.pbtxt: instance_group[0].kind: KIND_MODEL is not supported by jitney: write",
        ),
        (
            "instance_group { gpus: -1 }",
            "config.pbtxt: instance_group[0].gpus: -1 is no GPU",
        ),
        (
            "instance_group { kind: KIND_CPU gpus: 0 }",
            "config.pbtxt: instance_group[0].gpus is not supported by jitney: leave it out beside",
        ),
        (
            "instance_group { passive: true }",
            "config.pbtxt: instance_group[0].passive is not supported by jitney: leave the model",
        ),
        (
            "ensemble_scheduling {}",
            "config.pbtxt: ensemble_scheduling is not supported by jitney: put the steps into one",
        ),
        (
            "dynamic_batching { preferred_batch_size: 0 }",
            "config.pbtxt: dynamic_batching.preferred_batch_size: expected sizes > 0, got 0",
        ),
        (
            "dynamic_batching { default_priority_level: 1 }",
            "config.pbtxt: dynamic_batching.default_priority_level is not supported by jitney: wr",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
            "config.pbtxt: dynamic_batching.default_priority_level: expected a level from 1 to 2,",
        ),
        (
            "dynamic_batching { priority_levels: 18446744073709551615 default_priority_level: 3 }",
            "config.pbtxt: dynamic_batching.priority_levels is not supported by jitney: write at",
        ),
        (
            "dynamic_batching { priority_queue_policy { key: 1 value {} } }",
            "config.pbtxt: dynamic_batching.priority_queue_policy: expected levels from 1 to 0, as",
        ),
        (
            'sequence_batching { control_input { name: "a" control { } } }',
            "config.pbtxt: sequence_batching.control_input[0].control[0]: expected two values in",
        ),
        (
            'sequence_batching { control_input { name: "a" } }',
            "config.pbtxt: sequence_batching.control_input[0].control is not supported by jitney:",
        ),
        (
            (
                'sequence_batching { control_input { name: "a" control { kind: '
                "CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 } } }"
            ),
            "config.pbtxt: sequence_batching.control_input[0].control[0].data_type: TYPE_FP32 is",
        ),
        (
            (
                'sequence_batching { control_input { name: "a" control { bool_false_true: '
                '[ false, true ] } } control_input { name: "b" control { bool_false_true: '
                "[ false, true ] } } }"
            ),
            "config.pbtxt: sequence_batching.control_input[1].control: there is a control of this",
        ),
        (
            "sequence_batching { state { } }",
            "config.pbtxt: sequence_batching.state is not supported by jitney: keep the state in",
        ),
        (
            "model_transaction_policy { decoupled: true }",
            "config.pbtxt: model_transaction_policy.decoupled is not supported by jitney: a Torch",
        ),
        (
            'backend: "repeat"',
            "config.pbtxt: model_transaction_policy.decoupled: backend 'repeat' gives several",
        ),
        (
            'parameters { key: "INFERENCE_MODE" value { string_value: "maybe" } }',
            "config.pbtxt: parameters[\"INFERENCE_MODE\"]: expected true or false, got 'maybe'",
        ),
        (
            'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "x" } }',
            'config.pbtxt: parameters["TRITON_BATCH_STRATEGY_PATH"] is not supported by jitney:',
        ),
        (
            'model_warmup { inputs { key: "x" value { data_type: TYPE_BOOL dims: 1 } } }',
            "config.pbtxt: model_warmup[0].inputs['x']: write zero_data: true, random_data: true",
        ),
        (
            (
                'model_warmup { inputs { key: "x" value { data_type: TYPE_BOOL dims: 1 '
                'input_data_file: "/etc/x" } } }'
            ),
            "config.pbtxt: model_warmup[0].inputs['x'].input_data_file: '/etc/x' is not supported",
        ),
        (
            "max_batch_size: 4 model_warmup { batch_size: 5 }",
            "config.pbtxt: model_warmup[0].batch_size is not supported by jitney: 5 rows are more",
        ),
        (
            'model_operations { op_library_filename: "x.so" }',
            "config.pbtxt: model_operations.op_library_filename is not supported by jitney: which",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_path(text: str, expected: str) -> None:
    """The text begins with the file and the field."""
    assert refusal(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo: 1", '1:1 : Message type "inference.ModelConfig" has no field named "foo".'),
        (
            'name: "m"\nname: "m"',
            '2:7 : Message type "inference.ModelConfig" should not have multiple "name" fields.',
        ),
        (
            "dynamic_batching {} sequence_batching {}",
            (
                '1:21 : Field "sequence_batching" is specified along with field '
                '"dynamic_batching", another member of oneof "scheduling_choice" for message type '
                '"inference.ModelConfig".'
            ),
        ),
    ],
)
def test_the_text_format_is_strict(text: str, expected: str) -> None:
    """What is no field, or is said twice, is refused with line and column."""
    assert f"config.pbtxt: {expected}" == refusal(text)


def test_a_byte_order_mark_is_skipped() -> None:
    """As protobuf's parser in C++ does, which some editors' files have got through."""
    assert "m" == parse_config('\ufeffname: "m"').name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "instance_group { count: 4 }",
            "config.pbtxt: instance_group[0].count is ignored: one copy on each device runs one b",
        ),
        (
            "response_cache { enable: true }",
            "config.pbtxt: response_cache.enable is ignored: there is no cache of replies",
        ),
        (
            "optimization { output_pinned_memory { enable: false } }",
            "config.pbtxt: optimization.output_pinned_memory.enable: false is ignored: batches are",
        ),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 2, 5, 6 ] }",
            "config.pbtxt: dynamic_batching.preferred_batch_size is ignored: 5 rows are more than",
        ),
        (
            (
                "dynamic_batching { default_queue_policy { default_timeout_microseconds: "
                "18446744073709551615 } }"
            ),
            "config.pbtxt: dynamic_batching.default_queue_policy.default_timeout_microseconds: ta",
        ),
        (
            (
                "dynamic_batching { priority_levels: 4 default_priority_level: 1 "
                "priority_queue_policy { key: 2 value { timeout_action: DELAY } } }"
            ),
            "config.pbtxt: dynamic_batching.priority_queue_policy: 4 levels are 3 classes here; of",
        ),
        (
            (
                "dynamic_batching { priority_levels: 5 default_priority_level: 3 "
                "priority_queue_policy { key: 1 value { max_queue_size: 1 } } }"
            ),
            "config.pbtxt: dynamic_batching.priority_queue_policy[1].max_queue_size is ignored: 5 ",
        ),
        (
            'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "2" } }',
            'config.pbtxt: parameters["INTRA_OP_THREAD_COUNT"] is ignored: it is the worker\'s; se',
        ),
        (
            'parameters { key: "anything" value { string_value: "2" } }',
            'config.pbtxt: parameters["anything"] is ignored: TorchScript models have no param',
        ),
        (
            'backend: "identity" parameters { key: "anything" }',
            'config.pbtxt: parameters["anything"] is ignored: the handler identity knows no such',
        ),
    ],
)
def test_what_is_ignored_is_said_once(text: str, expected: str) -> None:
    """The text names the field, and why it changes nothing."""
    (warning,) = warnings(text)
    assert warning.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        'parameters { key: "ENABLE_WEIGHT_SHARING" value { string_value: "true" } }',
        'parameters { key: "ENABLE_JIT_EXECUTOR" value { string_value: "false" } }',
        "optimization { input_pinned_memory { enable: true } }",
        "dynamic_batching { preserve_ordering: true }",
        "instance_group { count: 1 name: 'x' }",
        'runtime: "libtriton_pytorch.so" backend: "pytorch"',
    ],
)
def test_what_is_so_anyway_is_accepted_without_a_word(text: str) -> None:
    """Nobody has to mend what works."""
    assert [] == warnings(text)


def test_all_refusals_are_found_but_the_first_is_told() -> None:
    """A model that does not load says one thing at a time."""
    assert "config.pbtxt: cc_model_filenames is not" in refusal(
        'cc_model_filenames { key: "8.6" value: "x" } ensemble_scheduling {}'
    )


@given(st.text() | st.text(alphabet='namebtchsizeoinput_group{}[]:"01 ,-\\\n'))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but ConfigError comes out of a text, whatever it is."""
    with suppress(ConfigError):
        manifest_of(parse_config(text), "m")


def test_deep_nesting_is_refused() -> None:
    """A text that would exhaust the stack is an error like others."""
    text = "ensemble_scheduling { step { input_map { key: '" + "{" * 100_000
    assert refusal(text).startswith("config.pbtxt: ")
