"""config.pbtxt: every field of ModelConfig is used, accepted, warned about or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from jitney.repository.triton.fields import FIELDS, Treatment, is_map
from jitney.repository.triton.mapping import convert, manifest_of
from jitney.repository.triton.text import parse_config
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.repository.manifest import ModelManifest

BASE: Final = """
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
"""
SEQUENCE: Final = "sequence_batching { %s }"
CONTROL: Final = SEQUENCE % 'control_input { name: "C" control { %s } }'
WARMUP: Final = """model_warmup { name: "w" inputs { key: "x" value {
    data_type: TYPE_FP32 dims: 4 zero_data: true } } %s }"""
LEVELS: Final = "dynamic_batching { priority_levels: 2 default_priority_level: 1 %s }"
LEVEL: Final = LEVELS % "priority_queue_policy { key: 2 value { %s } }"

# For each field that is used: a configuration, and the same but for that field.
EXAMPLES: Final[dict[str, tuple[str, str]]] = {
    "backend": (BASE, BASE + 'backend: "identity"'),
    "version_policy": (BASE, BASE + "version_policy { all {} }"),
    "version_policy.latest": (BASE, BASE + "version_policy { latest { num_versions: 2 } }"),
    "version_policy.latest.num_versions": (
        BASE + "version_policy { latest {} }",
        BASE + "version_policy { latest { num_versions: 2 } }",
    ),
    "version_policy.all": (BASE, BASE + "version_policy { all {} }"),
    "version_policy.specific": (BASE, BASE + "version_policy { specific { versions: 3 } }"),
    "version_policy.specific.versions": (
        BASE + "version_policy { specific { versions: 3 } }",
        BASE + "version_policy { specific { versions: [ 3, 4 ] } }",
    ),
    "max_batch_size": (BASE, BASE.replace("8", "9")),
    "input": (BASE, BASE + 'input { name: "z" data_type: TYPE_FP32 dims: [ 4 ] }'),
    "input.name": (BASE, BASE.replace('"x"', '"z"')),
    "input.data_type": (BASE, BASE.replace("TYPE_FP32", "TYPE_FP16", 1)),
    "input.dims": (BASE, BASE.replace("[ 4 ]", "[ 5 ]", 1)),
    "input.reshape": (BASE, BASE.replace("[ 4 ]", "[ 4 ] reshape { shape: [ 2, 2 ] }", 1)),
    "input.reshape.shape": (BASE, BASE.replace("[ 4 ]", "[ 4 ] reshape { shape: [ 2, 2 ] }", 1)),
    "input.optional": (BASE, BASE.replace("[ 4 ]", "[ 4 ] optional: true", 1)),
    "output": (BASE, BASE + 'output { name: "z" data_type: TYPE_FP32 dims: [ 4 ] }'),
    "output.name": (BASE, BASE.replace('"y"', '"z"')),
    "output.data_type": (
        BASE,
        BASE.replace('"y" data_type: TYPE_FP32', '"y" data_type: TYPE_BOOL'),
    ),
    "output.dims": (
        BASE,
        BASE.replace('"y" data_type: TYPE_FP32', '"y" data_type: TYPE_FP32 dims: 1'),
    ),
    "output.reshape": (BASE, BASE.rstrip()[:-1] + "reshape { shape: [ 2, 2 ] } }"),
    "output.reshape.shape": (BASE, BASE.rstrip()[:-1] + "reshape { shape: [ 2, 2 ] } }"),
    "output.label_filename": (BASE, BASE.rstrip()[:-1] + 'label_filename: "labels" }'),
    "dynamic_batching": (BASE, BASE + "dynamic_batching { max_queue_delay_microseconds: 1 }"),
    "dynamic_batching.preferred_batch_size": (
        BASE + "dynamic_batching {}",
        BASE + "dynamic_batching { preferred_batch_size: 3 }",
    ),
    "dynamic_batching.max_queue_delay_microseconds": (
        BASE + "dynamic_batching {}",
        BASE + "dynamic_batching { max_queue_delay_microseconds: 3 }",
    ),
    "dynamic_batching.priority_levels": (
        BASE + LEVELS % "",
        BASE + LEVELS.replace("2", "5") % "",
    ),
    "dynamic_batching.default_priority_level": (
        BASE + LEVELS % "",
        BASE + LEVELS.replace("1", "2") % "",
    ),
    "dynamic_batching.default_queue_policy": (
        BASE + LEVELS % "",
        BASE + LEVELS % "default_queue_policy { max_queue_size: 1 }",
    ),
    "dynamic_batching.default_queue_policy.timeout_action": (
        BASE + LEVELS % "",
        BASE + LEVELS % "default_queue_policy { timeout_action: DELAY }",
    ),
    "dynamic_batching.default_queue_policy.default_timeout_microseconds": (
        BASE + LEVELS % "",
        BASE + LEVELS % "default_queue_policy { default_timeout_microseconds: 1 }",
    ),
    "dynamic_batching.default_queue_policy.max_queue_size": (
        BASE + LEVELS % "",
        BASE + LEVELS % "default_queue_policy { max_queue_size: 1 }",
    ),
    "dynamic_batching.priority_queue_policy": (BASE + LEVELS % "", BASE + LEVEL % ""),
    "dynamic_batching.priority_queue_policy.timeout_action": (
        BASE + LEVEL % "",
        BASE + LEVEL % "timeout_action: DELAY",
    ),
    "dynamic_batching.priority_queue_policy.default_timeout_microseconds": (
        BASE + LEVEL % "",
        BASE + LEVEL % "default_timeout_microseconds: 5",
    ),
    "dynamic_batching.priority_queue_policy.max_queue_size": (
        BASE + LEVEL % "",
        BASE + LEVEL % "max_queue_size: 5",
    ),
    "sequence_batching": (BASE, BASE + SEQUENCE % ""),
    "sequence_batching.direct": (
        BASE + SEQUENCE % "",
        BASE + SEQUENCE % "direct { max_queue_delay_microseconds: 1 }",
    ),
    "sequence_batching.direct.max_queue_delay_microseconds": (
        BASE + SEQUENCE % "direct {}",
        BASE + SEQUENCE % "direct { max_queue_delay_microseconds: 1 }",
    ),
    "sequence_batching.oldest": (BASE + SEQUENCE % "", BASE + SEQUENCE % "oldest {}"),
    "sequence_batching.oldest.max_candidate_sequences": (
        BASE + SEQUENCE % "oldest {}",
        BASE + SEQUENCE % "oldest { max_candidate_sequences: 4 }",
    ),
    "sequence_batching.oldest.preferred_batch_size": (
        BASE + SEQUENCE % "oldest {}",
        BASE + SEQUENCE % "oldest { preferred_batch_size: 4 }",
    ),
    "sequence_batching.oldest.max_queue_delay_microseconds": (
        BASE + SEQUENCE % "oldest {}",
        BASE + SEQUENCE % "oldest { max_queue_delay_microseconds: 4 }",
    ),
    "sequence_batching.max_sequence_idle_microseconds": (
        BASE + SEQUENCE % "",
        BASE + SEQUENCE % "max_sequence_idle_microseconds: 4",
    ),
    "sequence_batching.control_input": (
        BASE + SEQUENCE % "",
        BASE + CONTROL % "int32_false_true: [ 0, 1 ]",
    ),
    "sequence_batching.control_input.name": (
        BASE + CONTROL % "int32_false_true: [ 0, 1 ]",
        BASE + (CONTROL % "int32_false_true: [ 0, 1 ]").replace('"C"', '"D"'),
    ),
    "sequence_batching.control_input.control": (
        BASE + SEQUENCE % "",
        BASE + CONTROL % "int32_false_true: [ 0, 1 ]",
    ),
    "sequence_batching.control_input.control.kind": (
        BASE + CONTROL % "int32_false_true: [ 0, 1 ]",
        BASE + CONTROL % "kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ]",
    ),
    "sequence_batching.control_input.control.int32_false_true": (
        BASE + CONTROL % "int32_false_true: [ 0, 1 ]",
        BASE + CONTROL % "int32_false_true: [ 0, 2 ]",
    ),
    "sequence_batching.control_input.control.fp32_false_true": (
        BASE + CONTROL % "fp32_false_true: [ 0, 1 ]",
        BASE + CONTROL % "fp32_false_true: [ 0, 1.5 ]",
    ),
    "sequence_batching.control_input.control.bool_false_true": (
        BASE + CONTROL % "bool_false_true: [ false, true ]",
        BASE + CONTROL % "bool_false_true: [ true, false ]",
    ),
    "sequence_batching.control_input.control.data_type": (
        BASE + CONTROL % "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64",
        BASE + CONTROL % "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING",
    ),
    "instance_group": (BASE, BASE + "instance_group { kind: KIND_CPU }"),
    "instance_group.kind": (
        BASE + "instance_group {}",
        BASE + "instance_group { kind: KIND_GPU }",
    ),
    "instance_group.gpus": (BASE, BASE + "instance_group { gpus: [ 1, 2 ] }"),
    "default_model_filename": (BASE, BASE + 'default_model_filename: "a.pt"'),
    "parameters": (BASE, BASE + 'parameters { key: "DISABLE_CUDNN" value { string_value: "1" } }'),
    "parameters.string_value": (
        BASE,
        BASE + 'parameters { key: "INFERENCE_MODE" value { string_value: "false" } }',
    ),
    "model_warmup": (BASE, BASE + WARMUP % ""),
    "model_warmup.name": (BASE + WARMUP % "", BASE + (WARMUP % "").replace('"w"', '"v"')),
    "model_warmup.batch_size": (BASE + WARMUP % "", BASE + WARMUP % "batch_size: 2"),
    "model_warmup.count": (BASE + WARMUP % "", BASE + WARMUP % "count: 2"),
    "model_warmup.inputs": (BASE + 'model_warmup { name: "w" }', BASE + WARMUP % ""),
    "model_warmup.inputs.dims": (
        BASE + WARMUP % "",
        BASE + (WARMUP % "").replace("dims: 4", "dims: 5"),
    ),
    "model_warmup.inputs.zero_data": (
        BASE + WARMUP % "",
        BASE + (WARMUP % "").replace("zero_data: true", "random_data: true"),
    ),
    "model_warmup.inputs.random_data": (
        BASE + WARMUP % "",
        BASE + (WARMUP % "").replace("zero_data: true", "random_data: true"),
    ),
    "model_warmup.inputs.input_data_file": (
        BASE + WARMUP % "",
        BASE + (WARMUP % "").replace("zero_data: true", 'input_data_file: "f"'),
    ),
}

# For each field that is used by being checked: a configuration that is refused for it.
CHECKED: Final[dict[str, str]] = {
    "name": 'name: "other"',
    "platform": 'platform: "ensemble"',
    "runtime": 'runtime: "model.py"',
    "model_transaction_policy": "model_transaction_policy { decoupled: true }",
    "model_transaction_policy.decoupled": "model_transaction_policy { decoupled: true }",
    "model_warmup.inputs.data_type": (WARMUP % "").replace("TYPE_FP32", "TYPE_INT8"),
    "model_operations": 'model_operations { op_library_filename: "x.so" }',
    "model_repository_agents": "model_repository_agents { agents {} }",
}

# For each field that is used by being warned about: a configuration with that warning.
REMARKED: Final[dict[str, str]] = {
    "optimization": "optimization { input_pinned_memory {} }",
    "optimization.cuda": "optimization { cuda { graphs: true } }",
    "optimization.input_pinned_memory": "optimization { input_pinned_memory {} }",
    "optimization.input_pinned_memory.enable": "optimization { input_pinned_memory {} }",
    "optimization.output_pinned_memory": "optimization { output_pinned_memory {} }",
    "optimization.output_pinned_memory.enable": "optimization { output_pinned_memory {} }",
    "instance_group.count": "instance_group { count: 2 }",
    "response_cache": "response_cache { enable: true }",
}


def read_file(name: str) -> bytes:
    """Return the labels that examples name."""
    return f"{name} one\n{name} two\n".encode()


def manifest(text: str) -> ModelManifest:
    """Return what a text means, apart from the text itself."""
    found, _ = manifest_of(parse_config(text), "m", read_file=read_file)
    object.__setattr__(found, "config", b"")
    return found


def leaves(descriptor: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path of every field that needs a rule, with its descriptor."""
    for field in descriptor.fields:
        name = path + field.name
        yield name, field
        if field.message_type is None or FIELDS[name].treatment is not Treatment.USE:
            continue
        inner = field.message_type
        if is_map(field):
            inner = inner.fields_by_name["value"].message_type
        if inner is not None:
            yield from leaves(inner, f"{name}.")


PATHS: Final = dict(leaves(pb.ModelConfig.DESCRIPTOR))


def paths_that_are(treatment: Treatment) -> list[str]:
    """Return the fields of one treatment."""
    return sorted(path for path, rule in FIELDS.items() if rule.treatment is treatment)


def value_for(field: Any) -> str:
    """Return a text that sets a field to something else than its default."""
    if is_map(field):
        value = field.message_type.fields_by_name["value"]
        return (
            f'{field.name} {{ key: "k" value{"" if value.message_type else ":"} {text_of(value)} }}'
        )
    return f"{field.name}{'' if field.message_type else ':'} {text_of(field)}"


def text_of(field: Any) -> str:
    """Return the text of a value that is not the default."""
    if field.message_type is not None:
        first = field.message_type.fields[0]
        return f"{{ {value_for(first)} }}"
    if field.enum_type is not None:
        return str(field.enum_type.values[-1].name)
    if field.cpp_type == field.CPPTYPE_STRING:
        return '"k"'
    return "true" if field.cpp_type == field.CPPTYPE_BOOL else "1"


def setting(path: str) -> str:
    """Return the text of a configuration that sets one field, wherever it is."""
    *parents, _ = path.split(".")
    text = value_for(PATHS[path])
    for depth in range(len(parents), 0, -1):
        parent = PATHS[".".join(parents[:depth])]
        if is_map(parent):
            key = "1" if "priority" in path else "'k'"
            text = f"{parent.name} {{ key: {key} value {{ {text} }} }}"
        else:
            text = f"{parent.name} {{ {text} }}"
    return text


def test_every_field_has_a_rule_and_every_rule_a_field() -> None:
    """Nothing of ModelConfig is ignored by accident, and no rule is for a field of the past."""
    assert set(FIELDS) == set(PATHS)


def test_every_used_field_has_an_example() -> None:
    """The tests below prove for each used field that it is used."""
    assert paths_that_are(Treatment.USE) == sorted({*EXAMPLES, *CHECKED, *REMARKED})


@pytest.mark.parametrize("path", EXAMPLES)
def test_a_used_field_changes_the_manifest(path: str) -> None:
    """What is said to be used makes a difference."""
    without, with_it = EXAMPLES[path]
    assert manifest(without) != manifest(with_it)


@pytest.mark.parametrize("path", CHECKED)
def test_a_checked_field_can_be_refused(path: str) -> None:
    """What can only be wrong is refused by its name when it is."""
    refusals = convert(parse_config(BASE + CHECKED[path]), "m", read_file=read_file).refusals
    assert [f"config.pbtxt: {path.partition('.')[0]}"] == [
        text[: len("config.pbtxt: " + path.partition(".")[0])] for text in refusals
    ]


@pytest.mark.parametrize("path", REMARKED)
def test_a_remarked_field_is_warned_about(path: str) -> None:
    """What changes nothing is said once, by its name."""
    _, warnings = manifest_of(parse_config(BASE + REMARKED[path]), "m", read_file=read_file)
    (warning,) = warnings
    assert warning.startswith(f"config.pbtxt: {path.partition('.')[0]}")


@pytest.mark.parametrize("path", paths_that_are(Treatment.REFUSE))
def test_a_refused_field_is_refused_by_name(path: str) -> None:
    """Such a model does not load, and the text says which field it is and what to do instead."""
    refusals = convert(parse_config(setting(path)), "m", read_file=read_file).refusals
    instead = FIELDS[path].text
    assert any(
        path.rpartition(".")[2] in text and text.endswith(f" is not supported by jitney: {instead}")
        for text in refusals
    )


@pytest.mark.parametrize("path", paths_that_are(Treatment.WARN))
def test_a_field_that_is_ignored_is_said(path: str) -> None:
    """There is one warning with the field's name."""
    warnings = convert(parse_config(setting(path)), "m", read_file=read_file).warnings
    why = FIELDS[path].text
    assert 1 == sum(
        path.rpartition(".")[2] in text and text.endswith(f" is ignored: {why}")
        for text in warnings
    )


def touch(message: Any) -> None:
    """Make every message of a message be there, with nothing in it."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        # Its presence is what it says; of the members of a choice there can be one.
        if field.name in {"ensemble_scheduling", "sequence_batching", "specific"}:
            continue
        if field.message_type is not None and hasattr(value, "SetInParent"):
            value.SetInParent()
            touch(value)


def test_a_field_at_its_default_says_nothing() -> None:
    """A file in which messages are there and say nothing is read without a word."""
    config = pb.ModelConfig()
    touch(config)
    config.optimization.input_pinned_memory.enable = True
    config.optimization.output_pinned_memory.enable = True

    found = convert(config, "m", read_file=read_file)

    assert ((), ()) == (found.refusals, found.warnings)
