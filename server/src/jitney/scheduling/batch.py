"""What is scheduled: entries, the keys that let them share a batch, and batches."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jitney.datatypes import DataType
    from jitney.errors import JitneyError
    from jitney.signature import TensorSpec
    from jitney.types import ModelRef, Placed, Request, Timing

    Done = Callable[["Entry", object, JitneyError | None], None]

__all__ = [
    "NORMAL",
    "NO_DEADLINE",
    "PRIORITIES",
    "Batch",
    "BatchKey",
    "Entry",
    "Mode",
    "Reason",
    "State",
    "rows_of",
]

NO_DEADLINE: Final = float("inf")
PRIORITIES: Final = 3
"""Classes of requests: 0 high, 1 normal, 2 low."""
NORMAL: Final = 1


class Reason(enum.StrEnum):
    """Why a batch left."""

    FULL = "full"
    """No further row would have fitted, or the next entry would not."""
    DEADLINE = "deadline"
    """A further entry would have made the batch too late for the earliest deadline in it."""
    IDLE = "idle"
    """A device was free and nothing said to wait."""
    DELAY = "delay"
    """The oldest entry had waited for the model's ``max_queue_delay_ms``."""
    DRAIN = "drain"
    """The server is shutting down."""
    RETRY = "retry"
    """A failed batch, run again: in parts to find the culprit, or because its worker was lost."""


class State(enum.Enum):
    """Where an entry is; it only ever moves forward (a retried batch stays RUNNING)."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"

    __hash__ = object.__hash__


class Mode(enum.StrEnum):
    """What a model's batches are formed for."""

    LATENCY = "latency"
    """A free device takes what there is."""
    EFFICIENCY = "efficiency"
    """Batches are deferred until they are large, or cannot wait longer: it frees devices."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchKey:
    """What entries must agree on to share a batch: the model version and the shape of a row.

    Keys are interned by the model's handle and compared by identity.

    ``inputs`` has the datatype and the dimensions of one row of each input, in the model's order;
    ``outputs`` are the model's output specs.
    ``max_rows`` is the batch limit for this key (1 for a model that cannot be batched, and lower
    than the model's own limit where that many rows would not fit into a slot); ``max_bytes`` bounds
    the sum of ``Entry.nbytes``. ``max_delay`` is how long, in seconds, the oldest entry may wait
    for company while a device is free. ``max_queue_rows`` bounds the waiting rows of the model, all
    its keys together. ``varies`` tells that rows of this model may have other shapes.

    An input that its requests left out, being optional, is None. ``class_queue_rows`` bounds the
    waiting rows of each class of the model as well; ``delays_late`` tells, for each class, whether
    an entry that did not start by ``start_by`` waits on behind all others instead of being refused.
    Both are empty where no class has anything of its own, and a bound of 0 is none. A batch of a
    ``stateful`` model is never run a second time, whatever became of the first. ``fill`` has, for
    each input that is there, the bytes of a row that holds no entry, or nothing for zeros; it is
    empty as a whole where entries stand without gaps, and otherwise each has its ``Entry.row``.
    """

    model: ModelRef
    inputs: tuple[tuple[DataType, tuple[int, ...]] | None, ...]
    outputs: tuple[TensorSpec, ...]
    max_rows: int
    max_bytes: int
    max_delay: float = 0.0
    max_queue_rows: int = 1024
    batched: bool = True
    mode: Mode = Mode.LATENCY
    varies: bool = False
    class_queue_rows: tuple[int, ...] = ()
    delays_late: tuple[bool, ...] = ()
    stateful: bool = False
    fill: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        """Return the model and the shapes."""
        shapes = ",".join(
            "-" if spec is None else f"{spec[0].value}{list(spec[1])}" for spec in self.inputs
        )
        return f"<BatchKey {self.model} {shapes} <={self.max_rows}>"


class Entry:
    """A request that is being scheduled.

    ``done(entry, reply, error)`` is called exactly once, with either a reply or an error, unless
    the entry was cancelled: then it is not called at all. ``waiter`` is for whoever submitted it.

    ``deadline`` is when the reply must be made, ``start_by`` when its batch must have started (the
    protocol's ``timeout``), both in monotonic seconds and NO_DEADLINE where nobody asked;
    ``is_timed`` tells that there is one of them.
    ``priority`` is its class, 0 to PRIORITIES - 1. ``tenant`` is whose it is, for fairness.
    ``inputs`` and ``outputs`` are ``Placed.order`` and ``Placed.outputs``. ``timing`` is set with
    the reply.

    ``row`` is the row of the batch in which it has to stand, -1 for any: then entries stand one
    after the other. All entries of a key have one, and then are single rows, or none. ``span`` are
    the rows of a batch that has nothing else in it. ``partial(entry, reply)`` is called for every
    reply but the end of a model that gives several for one request.

    ``position`` is the policy's: where the entry stands in its queue.
    """

    __slots__ = (
        "arrived",
        "deadline",
        "done",
        "inputs",
        "is_timed",
        "key",
        "nbytes",
        "outputs",
        "partial",
        "position",
        "priority",
        "request",
        "row",
        "rows",
        "span",
        "start_by",
        "state",
        "tenant",
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
        done: Done,
        *,
        deadline: float = NO_DEADLINE,
        start_by: float = NO_DEADLINE,
        priority: int = NORMAL,
        tenant: str = "",
        inputs: Sequence[int] = (0,),
        outputs: Sequence[int] = (0,),
        row: int = -1,
    ) -> None:
        self.request = request
        self.key = key
        self.rows = rows
        self.nbytes = nbytes
        self.arrived = arrived
        self.done = done
        self.deadline = deadline
        self.start_by = start_by
        self.is_timed = deadline != NO_DEADLINE or start_by != NO_DEADLINE
        self.priority = priority
        self.tenant = tenant
        self.inputs = inputs
        self.outputs = outputs
        self.row = row
        self.span = rows if row < 0 else row + 1
        self.position = 0.0
        self.state = State.QUEUED
        self.timing: Timing | None = None
        self.waiter: Callable[[object, JitneyError | None], None] | None = None
        self.partial: Callable[[Entry, object], None] | None = None

    def stand_in(self, row: int) -> None:
        """Set the row in which it has to stand, before it is submitted; -1 for any."""
        self.row = row
        self.span = self.rows if row < 0 else row + 1

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Entry {self.request.id or '-'} {self.rows} rows {self.state.value}>"


@dataclass(slots=True, eq=False)
class Batch:
    """A closed batch: entries of one key, in order, and where it runs.

    ``rows`` are those that the device computes: empty ones too where entries have fixed rows.
    ``entries`` may hold some that were cancelled after the batch was closed: their rows are
    computed and nobody is told. ``device`` is the name of the device that runs it; ``staged`` tells
    that it was given to it behind another one. ``planned`` are the seconds that the device is
    expected to take, 0 where nothing is known. ``placed`` is what ``placement.place`` made of it.
    ``losses`` is how many workers have ended already while they had its entries, ``suspected`` how
    many of them may have ended because of these.
    """

    key: BatchKey
    entries: list[Entry]
    rows: int
    reason: Reason
    device: str
    formed_at: float
    nbytes: int = 0
    staged: bool = False
    planned: float = 0.0
    placed: list[tuple[Entry, Placed]] | None = None
    losses: int = 0
    suspected: int = 0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return (
            f"<Batch {self.key.model} {len(self.entries)} entries, {self.rows} rows, "
            f"{self.reason.value}, {self.device}>"
        )


def rows_of(key: BatchKey, entries: Iterable[Entry]) -> int:
    """Return how many rows a batch of some entries has; there is at least one."""
    if key.fill:
        return max(entry.span for entry in entries)
    return sum(entry.rows for entry in entries)
