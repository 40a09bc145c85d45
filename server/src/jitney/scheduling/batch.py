"""What is scheduled: entries, the keys that let them share a batch, and batches."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.datatypes import DataType
    from jitney.errors import JitneyError
    from jitney.signature import TensorSpec
    from jitney.types import ModelRef, Request, Timing

    Done = Callable[["Entry", object, JitneyError | None], None]

__all__ = ["Batch", "BatchKey", "Entry", "Reason", "State"]


class Reason(enum.StrEnum):
    """Why a batch left."""

    FULL = "full"
    """No further row would have fitted, or the next entry would not."""
    IDLE = "idle"
    """A device was free and nothing said to wait."""
    DELAY = "delay"
    """The oldest entry had waited for the model's ``max_queue_delay_ms``."""
    DRAIN = "drain"
    """The server is shutting down."""
    RETRY = "retry"
    """Part of a failed batch, run again to find the culprit."""


class State(enum.Enum):
    """Where an entry is; it only ever moves forward (a retried batch stays RUNNING)."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, eq=False)
class BatchKey:
    """What entries must agree on to share a batch: the model version and the shape of a row.

    Keys are interned by the model's handle and compared by identity.

    ``inputs`` has the datatype and the dimensions of one row of each input, in the model's order;
    ``outputs`` are the model's output specs.
    ``max_rows`` is the batch limit for this key (1 for a model that cannot be batched, and lower
    than the model's own limit where that many rows would not fit into a slot); ``max_bytes`` bounds
    the sum of ``Entry.nbytes``. ``max_delay`` is how long, in seconds, the oldest entry may wait
    for company while a device is free.
    """

    model: ModelRef
    inputs: tuple[tuple[DataType, tuple[int, ...]], ...]
    outputs: tuple[TensorSpec, ...]
    max_rows: int
    max_bytes: int
    max_delay: float = 0.0
    max_queue_rows: int = 1024
    batched: bool = True

    def __repr__(self) -> str:
        """Return the model and the shapes."""
        shapes = ",".join(f"{datatype.value}{list(dims)}" for datatype, dims in self.inputs)
        return f"<BatchKey {self.model} {shapes} <={self.max_rows}>"


class Entry:
    """A request that is being scheduled.

    ``done(entry, reply, error)`` is called exactly once, with either a reply or an error, unless
    the entry was cancelled: then it is not called at all. ``waiter`` is for whoever submitted it.
    ``order`` and ``outputs`` are as in ``types.Placed``. ``timing`` is set with the reply.
    """

    __slots__ = (
        "arrived",
        "deadline",
        "done",
        "key",
        "nbytes",
        "order",
        "outputs",
        "request",
        "rows",
        "state",
        "timing",
        "waiter",
    )

    def __init__(
        self,
        request: Request,
        key: BatchKey,
        rows: int,
        nbytes: int,
        arrived: float,
        deadline: float | None,
        done: Done,
        order: Sequence[int] = (0,),
        outputs: Sequence[int] = (0,),
    ) -> None:
        self.request = request
        self.key = key
        self.rows = rows
        self.nbytes = nbytes
        self.arrived = arrived
        self.deadline = deadline
        self.done = done
        self.order = order
        self.outputs = outputs
        self.state = State.QUEUED
        self.timing: Timing | None = None
        self.waiter: Callable[[object, JitneyError | None], None] | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Entry {self.request.id or '-'} {self.rows} rows {self.state.value}>"


NO_DEADLINE: Final = float("inf")


@dataclass(slots=True, eq=False)
class Batch:
    """A closed batch: entries of one key, in order, and where it runs.

    ``entries`` may hold some that were cancelled after the batch was closed: their rows are
    computed and nobody is told. ``device`` is the name of the device that runs it; ``staged`` tells
    that it was given to it behind another one.
    """

    key: BatchKey
    entries: list[Entry]
    rows: int
    reason: Reason
    device: str
    formed_at: float
    nbytes: int = 0
    staged: bool = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return (
            f"<Batch {self.key.model} {len(self.entries)} entries, {self.rows} rows, "
            f"{self.reason.value}, {self.device}>"
        )
