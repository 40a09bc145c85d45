"""The values that travel between the layers: requests, replies and what was measured on the way.

Nothing here knows gRPC, torch, or who produced the bytes.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.datatypes import DataType

__all__ = [
    "BatchOutputs",
    "Buffer",
    "Bytes",
    "Carrier",
    "ModelRef",
    "OutputTensor",
    "Placed",
    "RemoteBuffer",
    "Request",
    "RequestHeader",
    "TensorHeader",
    "Timing",
]

Bytes = bytes | bytearray | memoryview


class RemoteBuffer(Protocol):
    """Bytes of a request that are not in its message, such as those in memory shared with it.

    They may change or go away at any time, which must harm nobody but the request: ``read_into``
    never raises, and whoever made the buffer tells the caller in place of a reply.
    """

    def __len__(self) -> int:
        """Return how many bytes there should be."""

    def read(self) -> bytes:
        """Return a copy.

        :raises InvalidRequest: when they are not there any more.
        """

    def read_into(self, region: memoryview) -> None:
        """Copy them into ``region``, which is as long."""


Buffer = Bytes | RemoteBuffer


class ModelRef(NamedTuple):
    """A version of a model, as it was loaded.

    ``load`` tells two loads of one version apart: while a changed one is being loaded, and until
    its last request has ended, the one before still serves. Nobody outside sees it.
    """

    name: str
    version: int
    load: int = 0

    def __str__(self) -> str:
        """Return ``name/version``."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """The declared part of a request's input; ``shape`` includes the batch dimension."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RequestHeader:
    """What a request says about itself, without its id, its deadline and its tensors' bytes.

    Clients repeat themselves: successive requests mostly differ in nothing but their bytes. So
    headers are interned by whoever decodes them, compared by identity, and everything that follows
    from a header (the model, the batch key, the number of rows, the head of the reply) is worked
    out once and remembered under it.

    ``outputs`` are the names asked for, empty for all. ``parameters`` are the request's own.
    ``classes`` says for each of ``outputs`` how many classes are wanted in place of the tensor, 0
    for the tensor; it is empty where none are.
    ``recurs`` is False for one that was not interned: nothing should be remembered under it.
    ``priority`` is the protocol's: 1 the highest, 0 for the model's default.
    """

    model_name: str
    model_version: str
    inputs: tuple[TensorHeader, ...]
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, bool | int | str | float] | None = None
    recurs: bool = True
    priority: int = 0
    classes: tuple[int, ...] = ()


class Request:
    """One call, decoded.

    ``data`` holds the raw bytes of each input, in the order of ``header.inputs``; ``deadline`` is
    in the clock's monotonic seconds, infinite where the caller set none; ``timeout`` is how long,
    in seconds, it may wait for its batch to start, infinite likewise; ``tenant`` is on whose behalf
    the call is made, empty where nobody said; ``carrier`` is who holds the bytes and will make the
    reply. ``model`` is the version that serves it, once that is known. ``origin`` is the request
    that this one stands for in a batch, as a part or with other data; a call's own has none, not
    even None: nobody shall pay for setting it.
    """

    __slots__ = (
        *("carrier", "data", "deadline", "header", "id", "model", "origin", "tenant", "timeout"),
    )
    origin: Request

    def __init__(
        self,
        header: RequestHeader,
        data: Sequence[Buffer],
        carrier: Carrier,
        *,
        id: str = "",  # noqa: A002  # the protocol's word
        deadline: float = math.inf,
        timeout: float = math.inf,
        tenant: str = "",
    ) -> None:
        self.header = header
        self.data = data
        self.carrier = carrier
        self.id = id
        self.deadline = deadline
        self.timeout = timeout
        self.tenant = tenant
        self.model: ModelRef | None = None

    def with_data(self, data: Sequence[Buffer]) -> Request:
        """Return the same call, with other data."""
        other = copy.copy(self)
        other.data, other.origin = data, self
        return other

    def release(self) -> None:
        """Let go of the data: it has ended, and whoever still refers to it wants no more of it."""
        self.data = ()

    def __repr__(self) -> str:
        """Return a line for logs and debuggers."""
        shapes = ", ".join(f"{t.name}{list(t.shape)}" for t in self.header.inputs)
        return f"<Request {self.id or '-'} {self.header.model_name} {shapes}>"


class Timing(NamedTuple):
    """How long each stage of a request took, in seconds; each stage was stamped by who did it.

    ``queue`` runs from arrival to the start of its batch, ``compute_input`` until the rows are on
    the device, ``compute_infer`` until the model returned, ``compute_output`` until the outputs
    are back on the host, ``total`` from arrival to the reply.
    """

    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float
    total: float


class Placed(NamedTuple):
    """A request and its place in a batch: rows ``first_row`` … ``first_row + rows``.

    ``order`` maps the model's inputs to the request's, without those that are left out: the model's
    ``i``-th input that is there is ``request.data[order[i]]``. ``outputs`` are the indices of the
    outputs to send, in the model's order.
    """

    request: Request
    model: ModelRef
    first_row: int
    rows: int
    order: Sequence[int]
    outputs: Sequence[int]


class OutputTensor(NamedTuple):
    """One output of a whole batch.

    ``shape`` includes the batch dimension where the model has one; ``data`` is valid only until
    the call that hands it over returns. ``row_offsets`` (rows + 1 byte offsets into ``data``)
    exists for BYTES, whose rows differ in length; it is None otherwise. ``labels`` are the names of
    the model's classes, empty where it has none.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: memoryview
    row_offsets: Sequence[int] | None
    labels: Sequence[str] = ()


class BatchOutputs(NamedTuple):
    """All outputs of a batch of ``rows`` rows; ``batched`` tells if they can be cut by rows."""

    outputs: Sequence[OutputTensor]
    rows: int
    batched: bool


class Carrier(Protocol):
    """Who holds the bytes of requests, for one transport.

    A batch is gathered and answered by one call per carrier, so that a carrier that lives outside
    Python is entered once per batch and not once per request.
    """

    def gather(self, placed: Sequence[Placed], inputs: Sequence[memoryview]) -> None:
        """Copy the rows of every request into the batch's inputs.

        ``inputs[i]`` is the writable region of the model's ``i``-th input that is there, of exactly
        the rows of ``placed``, in that order and one after the other. A row of BYTES has no fixed
        size, so its length is that of the request's data.
        """

    def reply(
        self, placed: Sequence[Placed], outputs: BatchOutputs, timings: Sequence[Timing]
    ) -> Sequence[object]:
        """Return the finished reply of every request, in order; no view may outlive the call.

        A ``JitneyError`` in place of a reply ends that one request with it.
        """
