"""Requests, keys and entries in one line each, and a collector of how they end."""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

from jitney.datatypes import DataType
from jitney.scheduling.batch import NO_DEADLINE, NORMAL, BatchKey, Entry, Mode
from jitney.signature import TensorSpec
from jitney.testing.echo import EchoCarrier
from jitney.types import ModelRef, Request, RequestHeader, TensorHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Done
    from jitney.types import Buffer, Carrier

__all__ = ["Ends", "make_entry", "make_key", "make_request"]

CARRIER = EchoCarrier()
"""The carrier of requests that name none; equal carriers let a batch be gathered in one call."""


class Ends:
    """A ``done`` callback that remembers what it was called with, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[Entry, Any, JitneyError | None]] = []

    def __call__(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        """Note an end."""
        self.all.append((entry, reply, error))

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Ends {len(self.replies)} replies, {len(self.errors)} errors>"

    @property
    def replies(self) -> dict[str, Any]:
        """The replies by the id of their request."""
        return {entry.request.id: reply for entry, reply, error in self.all if error is None}

    @property
    def errors(self) -> dict[str, JitneyError]:
        """The errors by the id of their request."""
        return {entry.request.id: error for entry, _, error in self.all if error is not None}

    @property
    def ids(self) -> list[str]:
        """The ids of all requests that ended, in order."""
        return [entry.request.id for entry, _, _ in self.all]


def make_key(
    model: str = "echo",
    *,
    dims: tuple[int, ...] = (1,),
    max_rows: int = 4,
    max_bytes: int = 1 << 20,
    max_delay: float = 0.0,
    max_queue_rows: int = 1024,
    batched: bool = True,
    mode: Mode = Mode.LATENCY,
    class_queue_rows: tuple[int, ...] = (),
    delays_late: tuple[bool, ...] = (),
    stateful: bool = False,
    fill: tuple[bytes, ...] = (),
) -> BatchKey:
    """Return the key of an identity over one FP32 tensor: input ``x``, output ``y``."""
    shape: tuple[int | str, ...] = ("N", *dims) if batched else dims
    return BatchKey(
        ModelRef(model, 1),
        ((DataType.FP32, dims),),
        (TensorSpec("y", DataType.FP32, shape),),
        max_rows=max_rows if batched else 1,
        max_bytes=max_bytes,
        max_delay=max_delay,
        max_queue_rows=max_queue_rows,
        batched=batched,
        mode=mode,
        class_queue_rows=class_queue_rows,
        delays_late=delays_late,
        stateful=stateful,
        fill=fill,
    )


def make_request(
    model: str = "echo",
    *,
    rows: int = 1,
    dims: tuple[int, ...] = (1,),
    data: Sequence[Buffer] | None = None,
    carrier: Carrier | None = None,
    id: str = "",  # noqa: A002  # the protocol's word
    version: str = "",
    deadline: float = NO_DEADLINE,
) -> Request:
    """Return a request with one FP32 input ``x`` of ``[rows, *dims]``.

    ``data`` defaults to values that follow from the id, so that a reply that went to the wrong
    caller shows.
    """
    header = RequestHeader(model, version, (TensorHeader("x", DataType.FP32, (rows, *dims)),))
    if data is None:
        count = rows * math.prod(dims)
        seed = zlib.crc32(id.encode()) % (1 << 20)
        data = [struct.pack(f"<{count}f", *(seed + i / 4 for i in range(count)))]
    return Request(header, data, carrier or CARRIER, id=id, deadline=deadline)


def make_entry(
    key: BatchKey | None = None,
    *,
    rows: int = 1,
    id: str = "",  # noqa: A002  # the protocol's word
    arrived: float = 0.0,
    deadline: float = NO_DEADLINE,
    start_by: float = NO_DEADLINE,
    priority: int = NORMAL,
    tenant: str = "",
    done: Done | None = None,
    carrier: Carrier | None = None,
    row: int = -1,
) -> Entry:
    """Return an entry of a request of ``make_request`` under a key whose first input is there."""
    key = key or make_key()
    assert key.inputs[0] is not None  # noqa: S101  # said above
    dims = key.inputs[0][1]
    request = make_request(
        key.model.name, rows=rows, dims=dims, carrier=carrier, id=id, deadline=deadline
    )
    nbytes = sum(map(len, request.data))
    return Entry(
        request,
        key,
        rows,
        nbytes,
        arrived,
        done or Ends(),
        deadline=deadline,
        start_by=start_by,
        priority=priority,
        tenant=tenant,
        row=row,
    )
