"""Requests put together, and replies cut apart, without copying their tensors more than once.

protobuf copies a byte string into its own memory and again into the message, and the same on the
way back. So it writes and reads only the *head* of a message (names, types, shapes, parameters),
and the raw tensors, which are fields of the outermost level, are joined to it or cut out of it
here. Fields of a message may come in any order, so what results is an ordinary message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from jitney_client.protocol.inference import ModelInferResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney_client.tensors import Buffer, TensorView

    Raw: TypeAlias = bytes | memoryview

__all__ = ["id_field", "join_request", "raw_outputs", "split_reply", "split_stream_reply"]

RAW_INPUT: Final = b"\x3a"
"""The tag of ``ModelInferRequest.raw_input_contents``: field 7, bytes."""
REQUEST_ID: Final = b"\x1a"
"""The tag of ``ModelInferRequest.id``: field 3, a string."""
RAW_OUTPUT: Final = 6 << 3 | 2
ERROR_MESSAGE: Final = 1 << 3 | 2
INFER_RESPONSE: Final = 2 << 3 | 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

SMALL: Final = 1 << 14
"""Bytes of a reply that protobuf reads faster than Python walks it, its copies included."""


def join_request(head: Iterable[bytes], tensors: Iterable[TensorView]) -> bytes:
    """Return the message of a request whose head is serialised already, in any number of pieces."""
    parts: list[Buffer] = [*head]
    for tensor in tensors:
        data = tensor.data
        size = len(data) if isinstance(data, bytes) else data.nbytes
        parts += (RAW_INPUT + _varint(size), data)
    return b"".join(parts)


def id_field(request_id: str) -> tuple[bytes, bytes]:
    """Return the id of a request, serialised."""
    data = request_id.encode()
    return REQUEST_ID + _varint(len(data)), data


def split_reply(message: bytes | memoryview) -> tuple[ModelInferResponse, Sequence[Raw]]:
    """Return a reply and its raw tensors, which are views of ``message`` if that is large.

    :raises ValueError: when it is no such message.
    """
    if len(message) < SMALL:
        reply = ModelInferResponse.FromString(message)
        return reply, reply.raw_output_contents
    view = memoryview(message)
    head: list[memoryview] = []
    raw: list[Raw] = []
    at, end = 0, len(view)
    while at < end:
        tag, start, stop = _field(view, at)
        if tag == RAW_OUTPUT:
            raw.append(view[start:stop])
        else:
            head.append(view[at:stop])
        at = stop
    return ModelInferResponse.FromString(b"".join(head)), raw


def raw_outputs(message: bytes) -> list[tuple[int, int, int]] | None:
    """Return where the raw tensors of a reply are: tag, beginning and end of each.

    None where anything follows them, or stands between two of them.

    :raises ValueError: when it is no such message.
    """
    view = memoryview(message)
    places: list[tuple[int, int, int]] = []
    at, end = 0, len(view)
    while at < end:
        tag, start, stop = _field(view, at)
        if tag == RAW_OUTPUT:
            places.append((at, start, stop))
        elif places:
            return None
        at = stop
    return places


def split_stream_reply(message: bytes) -> tuple[str, bytes | memoryview]:
    """Return the error text of a message of a stream, mostly empty, and its serialised reply.

    :raises ValueError: when it is no such message.
    """
    view = memoryview(message)
    text, reply = "", view[:0]
    at, end = 0, len(view)
    while at < end:
        tag, start, stop = _field(view, at)
        if tag == INFER_RESPONSE:
            # In pieces it would be what they make together; nobody sends it so.
            reply = view[start:stop]
        elif tag == ERROR_MESSAGE:
            text = str(view[start:stop], "utf-8", "replace")
        at = stop
    return text, reply


def _varint(value: int) -> bytes:
    if value < 0x80:  # noqa: PLR2004  # one byte
        return value.to_bytes(1, "little")
    encoded = bytearray()
    while value >= 0x80:  # noqa: PLR2004
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(view: memoryview, at: int) -> tuple[int, int, int]:
    """Return the tag of the field at a place, where its value starts, and where it ends."""
    try:
        tag, start = _read_varint(view, at)
        kind = tag & 7
        if kind == BYTES:
            size, start = _read_varint(view, start)
            stop = start + size
        elif kind == VARINT:
            stop = _read_varint(view, start)[1]
        elif kind in (FIXED64, FIXED32):
            stop = start + (8 if kind == FIXED64 else 4)
        else:
            msg = f"a field of the unknown kind {kind}"
            raise ValueError(msg)
    except IndexError:
        stop = len(view) + 1
    if stop > len(view):
        msg = "the message ends inside a field"
        raise ValueError(msg)
    return tag, start, stop


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte: int = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # the last byte of a varint
            return value, at
        shift += 7
