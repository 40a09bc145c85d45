"""How a stateful model is told which of its rows continue which sequence.

A *sequence* is a series of requests with one correlation id, the first marked as its start, the
last as its end. The model keeps the state between them; what the server adds is order, a place and
the *control* inputs, which tell the model, row by row, what the row is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from jitney.datatypes import DataType
from jitney.signature import BATCH, Signature, TensorSpec

__all__ = [
    "DEFAULT_IDLE",
    "Control",
    "ControlKind",
    "SequenceConfig",
    "Strategy",
    "with_controls",
]

DEFAULT_IDLE: Final = 1.0
"""Seconds after which a sequence that nobody continues is forgotten; Triton's default."""

LARGEST_MADE_UP: Final = 1 << 15
"""The largest correlation id that a model is tried with."""


class ControlKind(enum.StrEnum):
    """What a control input says of a row."""

    START = "start"
    """It begins a sequence."""
    END = "end"
    """It ends one."""
    READY = "ready"
    """It holds a request at all; with the direct strategy rows may be empty."""
    CORRID = "corrid"
    """Which sequence it belongs to."""


class Strategy(enum.StrEnum):
    """Where the requests of a sequence stand in batches."""

    DIRECT = "direct"
    """Always in the same row: a model may keep its state by row."""
    OLDEST = "oldest"
    """In any row: a model keeps its state by correlation id."""


@dataclass(frozen=True, slots=True)
class Control:
    """A control input: a tensor of one element per row that no client sends.

    ``values`` are what stands for false and for true; they mean nothing for CORRID. ``datatype`` is
    INT32, FP32 or BOOL, for CORRID an integer of 32 or 64 bits or BYTES.
    """

    name: str
    kind: ControlKind
    datatype: DataType
    values: tuple[float, float] = (0, 1)


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """How the sequences of a model are scheduled.

    ``max_idle`` is how long, in seconds, a sequence may go without a request before it is
    forgotten. ``max_candidates`` bounds the sequences that are active at once under the oldest
    strategy; under the direct one there are as many as a batch has rows.
    """

    strategy: Strategy = Strategy.DIRECT
    controls: tuple[Control, ...] = ()
    max_idle: float = DEFAULT_IDLE
    max_candidates: int = 0


def with_controls(signature: Signature, config: SequenceConfig | None) -> Signature:
    """Return what a model sees: the inputs that clients send, then one for each control.

    :param config: None for a model without sequences, which sees what clients send.
    """
    if config is None:
        return signature
    shape = (BATCH, 1) if signature.batched else (1,)
    controls = tuple(_spec(control, shape) for control in config.controls)
    return Signature((*signature.inputs, *controls), signature.outputs, signature.description)


def _spec(control: Control, shape: tuple[int | str, ...]) -> TensorSpec:
    """Describe a control input, bounded to what a model has to take while it is being loaded.

    Every made-up row begins a sequence and none continues one: a model may look its state up, and
    is right to fail where there is none.
    """
    false, true = control.values
    low, high = {
        ControlKind.START: (true, true),
        ControlKind.READY: (true, true),
        ControlKind.END: (false, false),
        ControlKind.CORRID: (1, LARGEST_MADE_UP),
    }[control.kind]
    if control.datatype is DataType.BYTES:
        return TensorSpec(control.name, control.datatype, shape)
    return TensorSpec(control.name, control.datatype, shape, low=low, high=high)
