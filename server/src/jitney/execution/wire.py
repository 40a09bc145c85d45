"""Control messages between the server process and a worker: a few dozen bytes, fixed and checked.

The channel is a SOCK_SEQPACKET socket pair: the kernel keeps message borders, so there is no
framing to get wrong, and end of file means that the other side is gone. Tensors never travel here;
they are in the slots, and a message says where. Both sides check every number they read before
they use it: a worker runs code that came with a model, so what it says is not trusted.

A checksum over the messages was considered and left out: a socket pair inside one kernel does not
corrupt, and a hostile worker would compute the right one.

Layouts are little-endian structs: ``HEADER``, then what the kind of message says. Texts are UTF-8
and JSON documents are UTF-8 JSON; neither is longer than ``MAX_MESSAGE``.
"""

from __future__ import annotations

import enum
import functools
import json
import math
import struct
from typing import Any, Final, NamedTuple

from jitney.datatypes import BY_CODE, DataType
from jitney.errors import JitneyError

__all__ = [
    "MAX_MESSAGE",
    "Done",
    "Failed",
    "Failure",
    "Kind",
    "Note",
    "Run",
    "Tensor",
    "WireError",
    "pack_tensors",
    "parse_inputs",
    "parse_tensors",
    "read",
    "write_done",
    "write_failed",
    "write_note",
    "write_run",
]

MAX_MESSAGE: Final = 128 * 1024
"""Bytes of the longest message; a kernel's default socket buffer holds one."""

REMEMBERED: Final = 1024
"""Lists of tensors that each side remembers in both forms; see ``parse_inputs``."""

MAX_RANK: Final = 17
MAX_TENSORS: Final = 64
MAGIC: Final = 0x4A54
VERSION: Final = 1

HEADER: Final = struct.Struct("<HBBxxxxQ")
"""magic, version, kind, serial (of a load, or of a batch)."""
RUN: Final = struct.Struct("<IIHH")
"""instance, rows, slot, number of inputs."""
DONE: Final = struct.Struct("<IHHddddQQ")
"""rows, slot, number of outputs, four stamps, allocated and reserved bytes of the device."""
FAILED: Final = struct.Struct("<HHdddd")
"""slot, failure, four stamps; the text follows."""
TENSOR: Final = struct.Struct("<BBxxxxxxQQq")
"""datatype, rank, offset, bytes, place of the row offsets or -1; the dimensions follow."""
ABSENT: Final = TENSOR.pack(0, 0, 0, 0, -1)
"""Stands for an optional input that is left out: no datatype has the number 0."""


class WireError(JitneyError):
    """A control message is not what it should be: the other side is broken or hostile."""

    reason = "WIRE"


class Kind(enum.IntEnum):
    """What a message says. Those with a document carry a JSON object."""

    LOAD = 1
    """To the worker, with a document and the model's file as a descriptor."""
    UNLOAD = 2
    """To the worker: drop the instance whose load had this serial."""
    RUN = 3
    """To the worker: a batch stands in a slot."""
    STOP = 4
    """To the worker: finish what was sent before, then exit."""
    HELLO = 16
    """To the server, with a document: the worker is up."""
    PROGRESS = 17
    """To the server, with a document: what a load is doing."""
    LOADED = 18
    """To the server, with a document: the load's report."""
    REFUSED = 19
    """To the server, with a document: why a load failed."""
    DONE = 20
    """To the server: a batch's outputs stand in its slot."""
    FAILED = 21
    """To the server: a batch failed."""


class Failure(enum.IntEnum):
    """Why a batch failed."""

    INPUT = 1
    """The model raised."""
    MODEL = 5
    """The model returned, but not what its signature says."""
    MEMORY = 2
    """The device ran out of memory; the worker goes on."""
    OUTPUT = 3
    """The outputs do not fit into the slot."""
    FAULT = 4
    """The device is in an unknown state; the worker is about to exit."""


class Tensor(NamedTuple):
    """Where a tensor stands in a slot.

    ``row_offsets_at`` is the place of rows + 1 byte offsets (uint64) for BYTES outputs, else -1.
    """

    datatype: DataType
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    row_offsets_at: int = -1


class Run(NamedTuple):
    """A batch to run; an input that its requests left out is None."""

    serial: int
    instance: int
    rows: int
    slot: int
    inputs: tuple[Tensor | None, ...]


class Done(NamedTuple):
    """A batch that ran; ``stamps`` are started, copied in, inferred, copied out."""

    serial: int
    rows: int
    slot: int
    stamps: tuple[float, float, float, float]
    allocated_bytes: int
    reserved_bytes: int
    outputs: tuple[Tensor, ...]


class Failed(NamedTuple):
    """A batch that failed."""

    serial: int
    slot: int
    failure: Failure
    stamps: tuple[float, float, float, float]
    text: str


class Note(NamedTuple):
    """Any message that carries a document, or nothing."""

    kind: Kind
    serial: int
    document: dict[str, Any]


@functools.lru_cache(maxsize=REMEMBERED)
def pack_tensors(tensors: tuple[Tensor | None, ...]) -> bytes:
    """Return the end of a RUN or DONE message; most batches repeat an earlier one's."""
    return b"".join(
        ABSENT
        if t is None
        else TENSOR.pack(t.datatype.code, len(t.shape), t.offset, t.nbytes, t.row_offsets_at)
        + struct.pack(f"<{len(t.shape)}q", *t.shape)
        for t in tensors
    )


def write_run(
    serial: int, instance: int, rows: int, slot: int, inputs: tuple[Tensor | None, ...]
) -> bytes:
    """Return a RUN message; None stands for an optional input that is left out."""
    return (
        HEADER.pack(MAGIC, VERSION, Kind.RUN, serial)
        + RUN.pack(instance, rows, slot, len(inputs))
        + pack_tensors(inputs)
    )


def write_done(done: Done) -> bytes:
    """Return a DONE message."""
    return (
        HEADER.pack(MAGIC, VERSION, Kind.DONE, done.serial)
        + DONE.pack(
            done.rows,
            done.slot,
            len(done.outputs),
            *done.stamps,
            done.allocated_bytes,
            done.reserved_bytes,
        )
        + pack_tensors(done.outputs)
    )


def write_failed(failed: Failed) -> bytes:
    """Return a FAILED message; a text that is too long is cut."""
    return (
        HEADER.pack(MAGIC, VERSION, Kind.FAILED, failed.serial)
        + FAILED.pack(failed.slot, failed.failure, *failed.stamps)
        + failed.text.encode("utf-8", "replace")[:4096]
    )


def write_note(kind: Kind, serial: int = 0, document: dict[str, Any] | None = None) -> bytes:
    """Return a message with a document.

    :raises WireError: when the document is too long for the channel.
    """
    try:
        body = json.dumps(document, allow_nan=False).encode() if document else b""
    except (ValueError, TypeError) as error:
        msg = f"a {kind.name} document cannot be written: {error}"
        raise WireError(msg) from error
    if len(body) > MAX_MESSAGE - HEADER.size:
        room = MAX_MESSAGE - HEADER.size
        msg = f"a {kind.name} document has {len(body)} bytes, at most {room} may be sent"
        raise WireError(msg)
    return HEADER.pack(MAGIC, VERSION, kind, serial) + body


def read(message: bytes) -> Run | Done | Failed | Note:
    """Read any message.

    Only the form is checked here: sizes, counts and enums. Whether a tensor lies inside its slot is
    checked by who knows the slot (``slots.Slots``).

    :raises WireError: when the message is malformed.
    """
    try:
        magic, version, code, serial = HEADER.unpack_from(message)
        if (magic, version) != (MAGIC, VERSION):
            msg = f"not a control message of version {VERSION}"
            raise WireError(msg)
        at = HEADER.size
        if code == Kind.RUN:
            instance, rows, slot, count = RUN.unpack_from(message, at)
            return Run(serial, instance, rows, slot, parse_inputs(message[at + RUN.size :], count))
        if code == Kind.DONE:
            rows, slot, count, s0, s1, s2, s3, used, reserved = DONE.unpack_from(message, at)
            outputs = parse_tensors(message[at + DONE.size :], count)
            return Done(serial, rows, slot, _stamps(s0, s1, s2, s3), used, reserved, outputs)
        if code == Kind.FAILED:
            slot, failure, s0, s1, s2, s3 = FAILED.unpack_from(message, at)
            text = message[at + FAILED.size :].decode("utf-8", "replace")
            return Failed(serial, slot, Failure(failure), _stamps(s0, s1, s2, s3), text)
        kind = Kind(code)
        document = json.loads(message[at:]) if len(message) > at else {}
        if not isinstance(document, dict):
            msg = f"a {kind.name} message carries {type(document).__name__}, not an object"
            raise WireError(msg)
        return Note(kind, serial, document)
    except (struct.error, ValueError, RecursionError) as error:
        msg = f"malformed control message: {error}"
        raise WireError(msg) from error


def _stamps(*stamps: float) -> tuple[float, float, float, float]:
    if not all(map(math.isfinite, stamps)):
        msg = "a stamp is not finite"
        raise WireError(msg)
    return stamps  # type: ignore[return-value]  # four are passed in


@functools.lru_cache(maxsize=REMEMBERED)
def parse_inputs(end: bytes, count: int) -> tuple[Tensor | None, ...]:
    """Read the end of a RUN message.

    Most batches repeat an earlier one's, so the results are remembered; the key is bytes that were
    sent by the other side, which is why the memory is bounded.

    :raises WireError: when it is malformed.
    """
    if count > MAX_TENSORS:
        msg = f"{count} tensors, at most {MAX_TENSORS} are allowed"
        raise WireError(msg)
    at = 0
    tensors: list[Tensor | None] = []
    for _ in range(count):
        if end[at : at + TENSOR.size] == ABSENT:
            tensors.append(None)
            at += TENSOR.size
            continue
        code, rank, offset, nbytes, row_offsets_at = TENSOR.unpack_from(end, at)
        at += TENSOR.size
        datatype = BY_CODE.get(code)
        if datatype is None or rank > MAX_RANK:
            msg = f"datatype {code}, rank {rank}"
            raise WireError(msg)
        shape = struct.unpack_from(f"<{rank}q", end, at)
        at += 8 * rank
        if any(size < 0 for size in shape):
            msg = f"shape {shape}"
            raise WireError(msg)
        if datatype.item_size and math.prod(shape) * datatype.item_size != nbytes:
            msg = f"{nbytes} bytes for {datatype.value} {shape}"
            raise WireError(msg)
        tensors.append(Tensor(datatype, shape, offset, nbytes, row_offsets_at))
    if at != len(end):
        msg = f"{len(end) - at} bytes after the last tensor"
        raise WireError(msg)
    return tuple(tensors)


@functools.lru_cache(maxsize=REMEMBERED)
def parse_tensors(end: bytes, count: int) -> tuple[Tensor, ...]:
    """Read the end of a DONE message; remembered like that of a RUN.

    :raises WireError: when it is malformed, or an output is absent, which only inputs may be.
    """
    tensors = []
    for tensor in parse_inputs(end, count):
        if tensor is None:
            msg = "an output is absent"
            raise WireError(msg)
        tensors.append(tensor)
    return tuple(tensors)
