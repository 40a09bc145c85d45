"""Batching, priorities, queues and sequences of a ModelConfig."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.repository.limits import level_class
from jitney.repository.manifest import (
    LONGEST_MS,
    MAX_DELAY_MS,
    MAX_LEVELS,
    MAX_QUEUE_SIZE,
    TRITON_FILE_NAME,
    BatchingManifest,
    LevelManifest,
)
from jitney.repository.triton.fields import ignored, refuse
from jitney.repository.triton.tensors import datatype_of
from jitney.sequence import DEFAULT_IDLE, Control, ControlKind, SequenceConfig, Strategy
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.repository.manifest import OnTimeout

__all__ = ["batching_of", "sequence_of"]

DELAY: Final = pb.ModelQueuePolicy.DELAY

KINDS: Final = {
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_START: ControlKind.START,
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_READY: ControlKind.READY,
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_END: ControlKind.END,
    pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID: ControlKind.CORRID,
}
IDS: Final = (DataType.INT32, DataType.INT64, DataType.UINT32, DataType.UINT64, DataType.BYTES)
SWITCHES: Final = (
    ("int32_false_true", DataType.INT32),
    ("fp32_false_true", DataType.FP32),
    ("bool_false_true", DataType.BOOL),
)


def batching_of(config: pb.ModelConfig, warnings: list[str]) -> BatchingManifest:
    """Return how requests share batches.

    A queue of Triton's holds one level, ours all of them: where there are several levels, a bound
    of the default policy becomes one of each level, and their sum that of the model.

    :param warnings: gets a line for what is dropped.
    :raises ConfigError: naming the field that is wrong.
    """
    choice = config.WhichOneof("scheduling_choice")
    if choice == "sequence_batching":
        return _sequence_batching(config, warnings)
    if choice != "dynamic_batching":
        return BatchingManifest()
    dynamic = config.dynamic_batching
    policy, where = dynamic.default_queue_policy, "dynamic_batching.default_queue_policy"
    levels, default = _counted(dynamic)
    size = _size(policy, where, warnings)
    by_level = {
        level: _level(dynamic.priority_queue_policy[level], level, warnings)
        for level in sorted(dynamic.priority_queue_policy)
    }
    if size is not None and levels > 1:
        for level in range(1, levels + 1):
            by_level.setdefault(level, LevelManifest(max_queue_size=size))
        size = _sum(said.max_queue_size for said in by_level.values())
    by_level = _without_lost_bounds(levels, by_level, warnings)
    _warn_of_shared_classes(levels, by_level, policy, warnings)
    path = "dynamic_batching.max_queue_delay_microseconds"
    delay = dynamic.max_queue_delay_microseconds
    timeout = _milliseconds(
        policy.default_timeout_microseconds,
        LONGEST_MS,
        f"{where}.default_timeout_microseconds",
        warnings,
    )
    return BatchingManifest(
        max_queue_delay_ms=_milliseconds(delay, MAX_DELAY_MS, path, warnings) or None,
        max_queue_size=size,
        default_timeout_ms=timeout or None,
        default_priority=default,
        buckets=_buckets(config, dynamic.preferred_batch_size, "dynamic_batching", warnings),
        priority_levels=levels,
        on_timeout=_action(policy),
        levels=dict(sorted(by_level.items())),
    )


def _sequence_batching(config: pb.ModelConfig, warnings: list[str]) -> BatchingManifest:
    sequence = config.sequence_batching
    name = sequence.WhichOneof("strategy_choice") or "direct"
    strategy: pb.ModelSequenceBatching.StrategyDirect | pb.ModelSequenceBatching.StrategyOldest
    buckets: tuple[int, ...] = ()
    if name == "oldest":
        strategy = sequence.oldest
        path = "sequence_batching.oldest"
        buckets = _buckets(config, sequence.oldest.preferred_batch_size, path, warnings)
    else:
        strategy = sequence.direct
    path = f"sequence_batching.{name}.max_queue_delay_microseconds"
    delay = _milliseconds(strategy.max_queue_delay_microseconds, MAX_DELAY_MS, path, warnings)
    return BatchingManifest(max_queue_delay_ms=delay or None, buckets=buckets)


def _counted(dynamic: pb.ModelDynamicBatching) -> tuple[int, int | None]:
    """Return the number of levels, and the default one."""
    levels, default = dynamic.priority_levels, dynamic.default_priority_level
    if levels > MAX_LEVELS:
        refuse(
            "dynamic_batching.priority_levels", f"write at most {MAX_LEVELS}; there are 3 classes"
        )
    if not levels and default:
        refuse("dynamic_batching.default_priority_level", "write priority_levels as well")
    if levels and not 0 < default <= levels:
        msg = (
            f"{TRITON_FILE_NAME}: dynamic_batching.default_priority_level: expected a level from 1 "
            f"to {levels}, as many as priority_levels, got {default}"
        )
        raise ConfigError(msg)
    for level in dynamic.priority_queue_policy:
        if not 0 < level <= levels:
            msg = (
                f"{TRITON_FILE_NAME}: dynamic_batching.priority_queue_policy: expected levels from "
                f"1 to {levels}, as many as priority_levels, got {level}"
            )
            raise ConfigError(msg)
    return levels, default or None


def _level(policy: pb.ModelQueuePolicy, level: int, warnings: list[str]) -> LevelManifest:
    # Nothing is inherited: a level's policy stands in the place of the default one.
    where = f"dynamic_batching.priority_queue_policy[{level}]"
    path = f"{where}.default_timeout_microseconds"
    timeout = _milliseconds(policy.default_timeout_microseconds, LONGEST_MS, path, warnings)
    return LevelManifest(_size(policy, where, warnings), timeout, _action(policy))


def _without_lost_bounds(
    levels: int, by_level: dict[int, LevelManifest], warnings: list[str]
) -> dict[int, LevelManifest]:
    """Return the levels without bounds of their queues that hold for nobody.

    The bounds of a class are those of its levels, added up: one level without ends them all.
    """
    unbounded: dict[int, int] = {}
    for level in range(1, levels + 1):
        if by_level.get(level, LevelManifest()).max_queue_size is None:
            unbounded.setdefault(level_class(level, levels), level)
    kept = dict(by_level)
    for level, said in by_level.items():
        other = unbounded.get(level_class(level, levels))
        if said.max_queue_size is not None and other is not None:
            kept[level] = dataclasses.replace(said, max_queue_size=None)
            path = f"dynamic_batching.priority_queue_policy[{level}].max_queue_size"
            why = f"{levels} levels are 3 classes here, and level {other}, in the same, has none"
            warnings.append(ignored(path, why))
    return kept


def _warn_of_shared_classes(
    levels: int,
    by_level: dict[int, LevelManifest],
    default: pb.ModelQueuePolicy,
    warnings: list[str],
) -> None:
    """Say where levels that have different policies are the same to the scheduler."""
    plain = (_action(default), default.default_timeout_microseconds / 1000)
    policies: dict[int, set[tuple[OnTimeout, float]]] = {}
    for level in range(1, levels + 1):
        said = by_level.get(level, LevelManifest())
        own = (said.on_timeout or plain[0], said.default_timeout_ms)
        timeout = plain[1] if own[1] is None else own[1]
        policies.setdefault(level_class(level, levels), set()).add((own[0], timeout))
    if any(len(different) > 1 for different in policies.values()):
        warnings.append(
            f"{TRITON_FILE_NAME}: dynamic_batching.priority_queue_policy: {levels} levels are 3 "
            "classes here; of levels in one class the longest timeout holds, and a late request "
            "waits on only if all of them say DELAY"
        )


def _action(policy: pb.ModelQueuePolicy) -> OnTimeout:
    return "delay" if policy.timeout_action == DELAY else "reject"


def _size(policy: pb.ModelQueuePolicy, where: str, warnings: list[str]) -> int | None:
    if policy.max_queue_size > MAX_QUEUE_SIZE:
        warnings.append(
            f"{TRITON_FILE_NAME}: {where}.max_queue_size: {policy.max_queue_size} is more than "
            f"may ever wait, which are {MAX_QUEUE_SIZE} rows"
        )
    return min(policy.max_queue_size, MAX_QUEUE_SIZE) or None


def _sum(sizes: Iterable[int | None]) -> int | None:
    """Return the sum of bounds, None where one of them is none."""
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return min(total, MAX_QUEUE_SIZE)


def _milliseconds(microseconds: int, most: float, where: str, warnings: list[str]) -> float:
    if microseconds / 1000 > most:
        warnings.append(f"{TRITON_FILE_NAME}: {where}: taken as {most / 1000:g} s, the most")
    return min(microseconds / 1000, most)


def _buckets(
    config: pb.ModelConfig, sizes: Iterable[int], where: str, warnings: list[str]
) -> tuple[int, ...]:
    sizes, path = sorted(set(sizes)), f"{where}.preferred_batch_size"
    if sizes and sizes[0] < 1:
        msg = f"{TRITON_FILE_NAME}: {path}: expected sizes > 0, got {sizes[0]}"
        raise ConfigError(msg)
    fitting = tuple(size for size in sizes if size <= config.max_batch_size)
    if len(fitting) < len(sizes):
        why = f"{sizes[len(fitting)]} rows are more than max_batch_size"
        warnings.append(ignored(path, why))
    return fitting


def sequence_of(config: pb.ModelConfig) -> SequenceConfig | None:
    """Return how sequences are scheduled, None for a model without them.

    :raises ConfigError: naming the field that is wrong.
    """
    if not config.HasField("sequence_batching"):
        return None
    sequence = config.sequence_batching
    idle, candidates = sequence.max_sequence_idle_microseconds, 0
    strategy = Strategy.DIRECT
    if sequence.WhichOneof("strategy_choice") == "oldest":
        strategy, candidates = Strategy.OLDEST, sequence.oldest.max_candidate_sequences
    if candidates < 0:
        msg = (
            f"{TRITON_FILE_NAME}: sequence_batching.oldest.max_candidate_sequences: expected a "
            f"number of sequences >= 0, got {candidates}"
        )
        raise ConfigError(msg)
    controls = tuple(
        _control(control, f"sequence_batching.control_input[{i}]")
        for i, control in enumerate(sequence.control_input)
    )
    names = [spec.name for spec in config.input]
    for i, control in enumerate(controls):
        where = f"{TRITON_FILE_NAME}: sequence_batching.control_input[{i}]"
        if control.name in names:
            msg = f"{where}.name: {control.name!r} is an input or a control already"
            raise ConfigError(msg)
        if control.kind in [other.kind for other in controls[:i]]:
            msg = f"{where}.control: there is a control of this kind already"
            raise ConfigError(msg)
        names.append(control.name)
    longest = min(idle / 1000, LONGEST_MS)
    return SequenceConfig(strategy, controls, longest / 1000 or DEFAULT_IDLE, candidates)


def _control(control: pb.ModelSequenceBatching.ControlInput, where: str) -> Control:
    if not control.name:
        msg = f"{TRITON_FILE_NAME}: {where}.name: expected the name of an input of the model"
        raise ConfigError(msg)
    if len(control.control) != 1:
        refuse(f"{where}.control", "write one control for each control_input")
    (said,) = control.control
    kind = KINDS[said.kind]
    if kind is ControlKind.CORRID:
        datatype = datatype_of(said.data_type, f"{where}.control[0]")
        if datatype not in IDS:
            refuse(
                f"{where}.control[0].data_type: TYPE_{datatype.value}",
                "an id is TYPE_INT32, TYPE_INT64, TYPE_UINT32, TYPE_UINT64 or TYPE_STRING",
            )
        return Control(control.name, kind, datatype)
    given = [(datatype, list(getattr(said, field))) for field, datatype in SWITCHES]
    chosen = [(datatype, values) for datatype, values in given if values]
    if len(chosen) != 1 or len(chosen[0][1]) != len((False, True)):
        msg = (
            f"{TRITON_FILE_NAME}: {where}.control[0]: expected two values in one of "
            f"{', '.join(field for field, _ in SWITCHES)}"
        )
        raise ConfigError(msg)
    datatype, (no, yes) = chosen[0]
    if datatype is DataType.BOOL:
        no, yes = int(no), int(yes)
    return Control(control.name, kind, datatype, (no, yes))
