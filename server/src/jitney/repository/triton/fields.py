"""What becomes of each field of Triton's ModelConfig: the whole table, and who walks along it.

The rule: what would change answers, routing or trust if it were ignored is *refused*, so that the
model does not load; what changes only speed or observability is *warned* about, once; what is so
anyway is *accepted* without a word; the rest is *used*, by ``mapping``. A field at its default says
nothing and is never refused or warned about.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from jitney.errors import ConfigError
from jitney.repository.manifest import TRITON_FILE_NAME
from jitney_client.protocol.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney_client.protocol import inference as pb

__all__ = ["FIELDS", "Rule", "Treatment", "ignored", "is_map", "refusal", "refuse", "review"]


class Treatment(enum.Enum):
    """What becomes of a field."""

    USE = "use"
    """``mapping`` makes something of it; the fields of a message have rules of their own."""
    ACCEPT = "accept"
    """It says what is so anyway, or is only shown."""
    WARN = "warn"
    """It is ignored, aloud."""
    REFUSE = "refuse"
    """The model does not load."""


class Rule(NamedTuple):
    """A treatment, for a message with all that is in it unless it is USE.

    ``text`` says why the field is ignored, or what to do instead of it. Where ``presence`` is set,
    a message says something by being there, though there is nothing in it.
    """

    treatment: Treatment
    text: str = ""
    presence: bool = False


_USE: Final = Rule(Treatment.USE)
_ACCEPT: Final = Rule(Treatment.ACCEPT)


def _warn(text: str) -> Rule:
    return Rule(Treatment.WARN, text)


def _refuse(text: str, *, presence: bool = False) -> Rule:
    return Rule(Treatment.REFUSE, text, presence)


_TENSORRT: Final = _refuse("it belongs to TensorRT; serve a TorchScript file and leave it out")
_RAGGED: Final = _refuse(
    "leave it out and let -1 in dims vary; requests of equal shapes share a batch, so have clients "
    "pad to a few lengths"
)
_OTHER_BACKEND: Final = _warn("it is for other back-ends")
_PLACEMENT: Final = _warn("a device runs one batch at a time, and models share it fairly")

FIELDS: Final[dict[str, Rule]] = {
    "name": _USE,
    "platform": _USE,
    "backend": _USE,
    "runtime": _USE,
    "version_policy": _USE,
    "version_policy.latest": _USE,
    "version_policy.latest.num_versions": _USE,
    "version_policy.all": _USE,
    "version_policy.specific": _USE,
    "version_policy.specific.versions": _USE,
    "max_batch_size": _USE,
    "input": _USE,
    "input.name": _USE,
    "input.data_type": _USE,
    "input.format": _ACCEPT,
    "input.dims": _USE,
    "input.reshape": _USE,
    "input.reshape.shape": _USE,
    "input.is_shape_tensor": _TENSORRT,
    "input.allow_ragged_batch": _RAGGED,
    "input.optional": _USE,
    "input.is_non_linear_format_io": _TENSORRT,
    "output": _USE,
    "output.name": _USE,
    "output.data_type": _USE,
    "output.dims": _USE,
    "output.reshape": _USE,
    "output.reshape.shape": _USE,
    "output.label_filename": _USE,
    "output.is_shape_tensor": _TENSORRT,
    "output.is_non_linear_format_io": _TENSORRT,
    "batch_input": _RAGGED,
    "batch_output": _RAGGED,
    "optimization": _USE,
    "optimization.graph": _OTHER_BACKEND,
    "optimization.priority": _warn(
        "models share a device fairly; give requests a priority instead"
    ),
    "optimization.cuda": _USE,
    "optimization.cuda.graphs": _warn(
        "CUDA graphs are not captured; the forms that runtime."
        "optimise chooses from are measured at every load"
    ),
    "optimization.cuda.busy_wait_events": _OTHER_BACKEND,
    "optimization.cuda.graph_spec": _OTHER_BACKEND,
    "optimization.cuda.output_copy_stream": _OTHER_BACKEND,
    "optimization.execution_accelerators": _OTHER_BACKEND,
    "optimization.input_pinned_memory": _USE,
    "optimization.input_pinned_memory.enable": _USE,
    "optimization.output_pinned_memory": _USE,
    "optimization.output_pinned_memory.enable": _USE,
    "optimization.gather_kernel_buffer_threshold": _OTHER_BACKEND,
    "optimization.eager_batching": _warn("the next batch is staged while one runs, always"),
    "dynamic_batching": _USE,
    "dynamic_batching.preferred_batch_size": _USE,
    "dynamic_batching.max_queue_delay_microseconds": _USE,
    "dynamic_batching.preserve_ordering": _ACCEPT,
    "dynamic_batching.priority_levels": _USE,
    "dynamic_batching.default_priority_level": _USE,
    "dynamic_batching.default_queue_policy": _USE,
    "dynamic_batching.default_queue_policy.timeout_action": _USE,
    "dynamic_batching.default_queue_policy.default_timeout_microseconds": _USE,
    "dynamic_batching.default_queue_policy.allow_timeout_override": _ACCEPT,
    "dynamic_batching.default_queue_policy.max_queue_size": _USE,
    "dynamic_batching.priority_queue_policy": _USE,
    "dynamic_batching.priority_queue_policy.timeout_action": _USE,
    "dynamic_batching.priority_queue_policy.default_timeout_microseconds": _USE,
    "dynamic_batching.priority_queue_policy.allow_timeout_override": _ACCEPT,
    "dynamic_batching.priority_queue_policy.max_queue_size": _USE,
    "sequence_batching": _USE,
    "sequence_batching.direct": _USE,
    "sequence_batching.direct.max_queue_delay_microseconds": _USE,
    "sequence_batching.direct.minimum_slot_utilization": _warn(
        "a free device takes what there is; max_queue_delay_microseconds makes it wait"
    ),
    "sequence_batching.oldest": _USE,
    "sequence_batching.oldest.max_candidate_sequences": _USE,
    "sequence_batching.oldest.preferred_batch_size": _USE,
    "sequence_batching.oldest.max_queue_delay_microseconds": _USE,
    "sequence_batching.oldest.preserve_ordering": _ACCEPT,
    "sequence_batching.max_sequence_idle_microseconds": _USE,
    "sequence_batching.control_input": _USE,
    "sequence_batching.control_input.name": _USE,
    "sequence_batching.control_input.control": _USE,
    "sequence_batching.control_input.control.kind": _USE,
    "sequence_batching.control_input.control.int32_false_true": _USE,
    "sequence_batching.control_input.control.fp32_false_true": _USE,
    "sequence_batching.control_input.control.bool_false_true": _USE,
    "sequence_batching.control_input.control.data_type": _USE,
    "sequence_batching.state": _refuse(
        "keep the state in the model: in a buffer with a row per slot (strategy direct), or in a "
        "Dict by correlation id (strategy oldest)"
    ),
    "sequence_batching.iterative_sequence": _refuse("send a request for each step"),
    "ensemble_scheduling": _refuse(
        "put the steps into one TorchScript module, or call the models one after the other",
        presence=True,
    ),
    "instance_group": _USE,
    "instance_group.name": _ACCEPT,
    "instance_group.kind": _USE,
    "instance_group.count": _USE,
    "instance_group.rate_limiter": _PLACEMENT,
    "instance_group.gpus": _USE,
    "instance_group.secondary_devices": _OTHER_BACKEND,
    "instance_group.profile": _OTHER_BACKEND,
    "instance_group.passive": _refuse("leave the model out of the repository"),
    "instance_group.host_policy": _warn("start the server under numactl or taskset instead"),
    "default_model_filename": _USE,
    "cc_model_filenames": _refuse(
        "one file is served on every device; name it with default_model_filename"
    ),
    "metric_tags": _warn("metrics are labelled with the model's name and version alone"),
    "parameters": _USE,
    "parameters.string_value": _USE,
    "model_warmup": _USE,
    "model_warmup.name": _USE,
    "model_warmup.batch_size": _USE,
    "model_warmup.inputs": _USE,
    "model_warmup.inputs.data_type": _USE,
    "model_warmup.inputs.dims": _USE,
    "model_warmup.inputs.zero_data": _USE,
    "model_warmup.inputs.random_data": _USE,
    "model_warmup.inputs.input_data_file": _USE,
    "model_warmup.count": _USE,
    "model_operations": _USE,
    "model_operations.op_library_filename": _refuse(
        "which native code is loaded is not for a model to say; use torch's own operators"
    ),
    "model_transaction_policy": _USE,
    "model_transaction_policy.decoupled": _USE,
    "model_repository_agents": _USE,
    "model_repository_agents.agents": _refuse(
        "a check that is dropped without a word is worse than none; files are hashed at load, and "
        "`jitney status` shows the digest to compare"
    ),
    "response_cache": _USE,
    "response_cache.enable": _warn("there is no cache of replies"),
    "model_metrics": _warn("metrics have buckets of their own"),
}
"""The rule of every field; the members of lists and maps have the path of their field."""


def refusal(path: str, instead: str) -> ConfigError:
    """Return the error of a field that would mean something else if it were ignored."""
    return ConfigError(f"{TRITON_FILE_NAME}: {path} is not supported by jitney: {instead}")


def refuse(path: str, instead: str) -> NoReturn:
    """Raise the error of a field that would mean something else if it were ignored.

    :raises ConfigError: always.
    """
    raise refusal(path, instead)


def ignored(path: str, why: str) -> str:
    """Return the warning of a field that changes nothing."""
    return f"{TRITON_FILE_NAME}: {path} is ignored: {why}"


def review(config: pb.ModelConfig) -> tuple[list[ConfigError], list[str]]:
    """Return the refusals and the warnings that the table alone gives, in the order of fields."""
    refusals: list[ConfigError] = []
    warnings: dict[str, str] = {}  # by text, so that lists say a thing once
    for shown, rule in _triggered(config, "", ""):
        if rule.treatment is Treatment.REFUSE:
            refusals.append(refusal(shown, rule.text))
        else:
            warnings.setdefault(shown, ignored(shown, rule.text))
    return refusals, list(warnings.values())


def is_map(field: Any) -> bool:  # noqa: ANN401  # descriptors have no types
    """Whether a field of a descriptor is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _triggered(message: Message, path: str, shown: str) -> Iterator[tuple[str, Rule]]:
    """Yield the fields that are refused or warned about, and say something.

    :param path: that of the message in the table, with a point behind it where there is one.
    :param shown: the same with indices and keys, for people.
    """
    for field, value in message.ListFields():
        rule = FIELDS[path + field.name]
        if rule.treatment in (Treatment.REFUSE, Treatment.WARN):
            if rule.presence or _says_anything(value):
                yield shown + field.name, rule
        elif rule.treatment is Treatment.USE:
            for suffix, member in _members(field, value):
                name = f"{field.name}{suffix}."
                yield from _triggered(member, f"{path}{field.name}.", shown + name)


def _members(field: Any, value: Any) -> Iterator[tuple[str, Message]]:  # noqa: ANN401  # descriptors
    """Yield the messages of a field, with what distinguishes each in its path."""
    if field.message_type is None:
        return
    if is_map(field):
        for key in sorted(value):
            if isinstance(value[key], Message):
                yield f"[{key!r}]", value[key]
    elif isinstance(value, Message):
        yield "", value
    else:
        yield from ((f"[{i}]", member) for i, member in enumerate(value))


def _says_anything(value: object) -> bool:
    """Whether a field that is set differs from its default: messages can be there and empty."""
    if not isinstance(value, Message):
        return True
    return any(_says_anything(member) for _, member in value.ListFields())
