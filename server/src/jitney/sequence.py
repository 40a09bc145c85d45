"""How a stateful model is told which of its rows continue which sequence.

A *sequence* is a series of requests with one correlation id, the first marked as its start, the
last as its end. The model keeps the state between them; what the server adds is order, a place and
the *control* inputs, which tell the model, row by row, what the row is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jitney.datatypes import DataType

__all__ = ["DEFAULT_IDLE", "Control", "ControlKind", "SequenceConfig", "Strategy"]

DEFAULT_IDLE: Final = 1.0
"""Seconds after which a sequence that nobody continues is forgotten; Triton's default."""


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
