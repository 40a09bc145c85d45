"""A ModelInferRequest, cut apart without copying its tensors; a ModelInferResponse, put together.

protobuf's parser copies every byte string twice before Python sees it, and its encoder does the
same on the way out. So the outermost
level of the message, where the raw tensors are, is walked here: tensors and the id are cut out, and
the rest (names, types, shapes: the *head*) goes through protobuf's own parser, or is recognised as
one that was parsed before. In the other direction, protobuf encodes the head of a reply, and the
tensors are joined to it; fields of a message may come in any order and in any number of pieces.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from jitney.errors import InvalidRequest

__all__ = ["Pieces", "bytes_field", "cut", "varint"]

RAW_INPUT: Final = 7 << 3 | 2
REQUEST_ID: Final = 3 << 3 | 2
PARAMETER: Final = 4 << 3 | 2

TIMEOUT: Final = b"\x0a\x07timeout\x12"
"""How the entry of the map of parameters begins whose key is ``timeout``, up to the length of its
value."""
INT64_VALUE: Final = 2 << 3

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT: Final = 10
MAX_UINT64: Final = (1 << 64) - 1

MOST_FIELDS: Final = 4 * 64 + 8
"""Fields of a request: 64 each of inputs, requested outputs, parameters and raw tensors, which the
codec checks one by one, and a few single ones. Counted here and not only after the parse: 4 MiB of
empty inputs make objects of 170 MiB, in seconds."""

MAX_HEAD: Final = 1 << 20
"""Bytes of everything but raw tensors. Typed contents are part of it, and each of their values is
an object to the parser, so large tensors have to come raw."""


class Pieces(NamedTuple):
    """The parts of a request: the head, the id, the raw tensors in order, and the timeout.

    ``timeout`` is the parameter of that name as it came, None where there is none. It is cut out,
    because callers compute it anew for each request: with it, no two heads would be the same. One
    that is written in an unusual way (the value before the key, or not an int64) stays in the head.
    """

    head: bytes
    id: bytes
    raw: list[memoryview]
    timeout: int | None = None


def cut(message: bytes) -> Pieces:  # noqa: C901  # one walk, inlined: every request takes it
    """Cut a serialised ModelInferRequest apart.

    The views in ``raw`` keep ``message`` alive. As with protobuf, the last id and the last timeout
    count. A head that protobuf would refuse is not noticed here; whoever parses it will.

    :raises InvalidRequest: when the message ends inside a field, has an impossible tag, or has more
        than it may have.
    """
    view = memoryview(message)
    end = len(message)
    raw: list[memoryview] = []
    request_id = b""
    timeout: int | None = None
    heads: list[bytes] = []
    head_from = at = fields = 0
    try:
        while at < end and fields <= MOST_FIELDS:
            start = at
            tag = message[at]
            fields += 1
            if tag in (RAW_INPUT, REQUEST_ID):
                size = message[at + 1]
                at += 2
                if size >= 0x80:  # noqa: PLR2004  # more bytes follow
                    size, at = _read_varint(message, at - 1)
            elif tag == PARAMETER and message.startswith(TIMEOUT, at + 2):
                value, at = _read_timeout(message, start)
                if value is None:
                    continue
                timeout, size = value, 0
            else:
                at = _skip(message, start)
                continue
            if head_from < start:
                heads.append(message[head_from:start])
            head_from = at + size
            if tag == RAW_INPUT:
                raw.append(view[at:head_from])
            elif tag == REQUEST_ID:
                request_id = message[at:head_from]
            at = head_from
    except IndexError:
        at = end + 1
    if at > end:
        msg = "the message is not a ModelInferRequest: it ends inside a field"
        raise InvalidRequest(msg)
    _check_sizes(fields, end - sum(map(len, raw)))
    if head_from < end:
        heads.append(message[head_from:])
    head = heads[0] if len(heads) == 1 else b"".join(heads)
    return Pieces(head, request_id, raw, timeout)


def _check_sizes(fields: int, head_bytes: int) -> None:
    if fields > MOST_FIELDS:
        msg = f"the request has more than {MOST_FIELDS} fields"
        raise InvalidRequest(msg)
    if head_bytes > MAX_HEAD:
        msg = (
            f"the request has more than {MAX_HEAD} bytes beside raw tensors; send the contents of "
            "its inputs as raw_input_contents"
        )
        raise InvalidRequest(msg)


def varint(value: int) -> bytes:
    """Encode a non-negative number as protobuf does."""
    if value < 0x80:  # noqa: PLR2004  # one byte
        return value.to_bytes(1, "little")
    encoded = bytearray()
    while value >= 0x80:  # noqa: PLR2004
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def bytes_field(number: int, size: int) -> bytes:
    """Encode the tag and the length that stand before ``size`` bytes of field ``number``."""
    return varint(number << 3 | BYTES) + varint(size)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(MAX_VARINT):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # the last byte of a varint
            return value, at
        shift += 7
    msg = "the message is not a ModelInferRequest: a number in it is longer than ten bytes"
    raise InvalidRequest(msg)


def _read_timeout(message: bytes, at: int) -> tuple[int | None, int]:
    """Return the number in a parameter that begins as ``TIMEOUT``, and the place behind it.

    None stands for a parameter that is not an int64 in its usual form.
    """
    value_at = at + 2 + len(TIMEOUT)
    end = value_at + 1 + message[value_at]
    whole = at + 2 + message[at + 1] == end
    if whole and end > value_at + 1 and message[value_at + 1] == INT64_VALUE:
        number, number_end = _read_varint(message, value_at + 2)
        if number_end == end:
            number &= MAX_UINT64
            return (number - MAX_UINT64 - 1 if number >> 63 else number), end
    return None, _skip(message, at)


def _skip(message: bytes, at: int) -> int:
    """Return the place behind the field that starts at ``at``; may lie behind the end."""
    tag, at = _read_varint(message, at)
    kind = tag & 7
    if tag >> 3 == RAW_INPUT >> 3 or tag >> 3 == REQUEST_ID >> 3:
        # Only an encoder that pads its tags, or means harm, writes these in another way.
        msg = "the message is not a ModelInferRequest: a field has an unexpected type"
        raise InvalidRequest(msg)
    if kind == BYTES:
        size, at = _read_varint(message, at)
        return at + size
    if kind == VARINT:
        return _read_varint(message, at)[1]
    if kind in (FIXED64, FIXED32):
        return at + (8 if kind == FIXED64 else 4)
    msg = "the message is not a ModelInferRequest: it uses groups"
    raise InvalidRequest(msg)
