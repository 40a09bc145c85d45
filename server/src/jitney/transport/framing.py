"""A ModelInferRequest, cut apart without copying its tensors; a ModelInferResponse, put together.

protobuf's parser copies every byte string twice before Python sees it, and its encoder does the
same on the way out. So the outermost level of the message, where the raw tensors are, is walked
here: tensors and the id are cut out, and the rest (names, types, shapes: the *head*) goes through
protobuf's own parser, or is recognised as one that was parsed before. In the other direction,
protobuf encodes the head of a reply, and the tensors are joined to it; fields of a message may come
in any order and in any number of pieces.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Pieces", "bytes_field", "cut", "cut_contents", "read_varint", "varint"]

RAW_INPUT: Final = 7 << 3 | 2
REQUEST_ID: Final = 3 << 3 | 2
CUT_OUT: Final = frozenset({RAW_INPUT, REQUEST_ID})
PARAMETER: Final = 4 << 3 | 2
INPUT: Final = 5 << 3 | 2
CONTENTS: Final = 5 << 3 | 2
"""In an input."""

TIMEOUT: Final = b"\x0a\x07timeout\x12"
"""How the entry of the map of parameters begins whose key is ``timeout``, up to the length of its
value."""
INT64_VALUE: Final = 2 << 3

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT: Final = 10
MAX_UINT64: Final = (1 << 64) - 1

LONGEST_ID: Final = 4096
"""Bytes of a request's id, which is held until the reply and which admission does not count."""
MOST_FIELDS: Final = 4 * 64 + 8
"""Fields of a request: 64 each of inputs, requested outputs, parameters and raw tensors, which the
codec checks one by one, and a few single ones. Counted here and not only after the parse: 4 MiB of
empty inputs make objects of 170 MiB, in seconds."""


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


def cut(message: bytes) -> Pieces:  # noqa: C901, PLR0912, PLR0915  # one walk, inlined: the hot path
    """Cut a serialised ModelInferRequest apart.

    The views in ``raw`` keep ``message`` alive. As with protobuf, the last id and the last timeout
    count. A head that protobuf would refuse is not noticed here; whoever parses it will.

    :raises InvalidRequest: when the message ends inside a field, has an impossible tag, or has more
        than it may have: fields, or bytes of an id.
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
            if tag in CUT_OUT:
                size = message[at + 1]
                at += 2
                if size >= 0x80:  # noqa: PLR2004  # more bytes follow
                    size, at = read_varint(message, at - 1)
            elif tag == PARAMETER and message.startswith(TIMEOUT, at + 2):
                value, at = _read_timeout(message, start)
                if value is None:
                    continue
                timeout, size = value, 0
            elif tag & 7 == BYTES and (tag | message[at + 1]) < 0x80:  # noqa: PLR2004  # one byte each
                at += 2 + message[at + 1]
                continue
            else:
                at = _skip(message, start)
                continue
            if head_from < start:
                heads.append(message[head_from:start])
            head_from = at + size
            if tag == RAW_INPUT:
                raw.append(view[at:head_from])
            elif tag == REQUEST_ID:
                if size > LONGEST_ID:
                    msg = f"the request's id has {size} bytes, at most {LONGEST_ID} are allowed"
                    raise InvalidRequest(msg)
                request_id = message[at:head_from]
            at = head_from
    except IndexError:
        at = end + 1
    if at > end:
        msg = "the message is not a ModelInferRequest: it ends inside a field"
        raise InvalidRequest(msg)
    if fields > MOST_FIELDS:
        msg = f"the request has more than {MOST_FIELDS} fields"
        raise InvalidRequest(msg)
    if head_from < end:
        heads.append(message[head_from:])
    head = heads[0] if len(heads) == 1 else b"".join(heads)
    return Pieces(head, request_id, raw, timeout)


def cut_contents(head: bytes) -> tuple[bytes, list[memoryview | None]]:
    """Cut the typed contents of the inputs out of a head.

    :returns: the head without them, and for each input its serialised ``InferTensorContents``, None
        where it has none.
    :raises InvalidRequest: when the head ends inside a field.
    """
    view = memoryview(head)
    parts: list[memoryview | bytes] = []
    contents: list[memoryview | None] = []
    for tag, start, value, end in _fields(head, 0, len(head)):
        if tag != INPUT:
            parts.append(view[start:end])
            continue
        kept: list[memoryview] = []
        found: list[memoryview] = []
        for inner, at, inside, stop in _fields(head, value, end):
            if len(kept) + len(found) > MOST_FIELDS:
                msg = f"an input of the request has more than {MOST_FIELDS} fields"
                raise InvalidRequest(msg)
            (found if inner == CONTENTS else kept).append(
                view[inside:stop] if inner == CONTENTS else view[at:stop]
            )
        rest = b"".join(kept)
        parts += (bytes_field(INPUT >> 3, len(rest)), rest)
        # A field that comes in several pieces is what they make together.
        whole = found[0] if len(found) == 1 else memoryview(b"".join(found))
        contents.append(whole if found else None)
    return b"".join(parts), contents


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, start, start of the value and end of each field between two places."""
    while at < end:
        start = at
        try:
            tag, value = read_varint(message, start)
            at = _skip_value(message, tag & 7, value)
            if tag & 7 == BYTES:
                value = read_varint(message, value)[1]
        except IndexError:
            at = end + 1
        if at > end:
            msg = "the message is not a ModelInferRequest: it ends inside a field"
            raise InvalidRequest(msg)
        yield tag, start, value, at


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


@functools.lru_cache(maxsize=1024)
def bytes_field(number: int, size: int) -> bytes:
    """Encode the tag and the length that stand before ``size`` bytes of field ``number``."""
    return varint(number << 3 | BYTES) + varint(size)


def read_varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the number that stands at a place, and the place behind it.

    :raises InvalidRequest: when it is longer than any number.
    :raises IndexError: when the message ends within it.
    """
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
        number, number_end = read_varint(message, value_at + 2)
        if number_end == end:
            number &= MAX_UINT64
            return (number - MAX_UINT64 - 1 if number >> 63 else number), end
    return None, _skip(message, at)


def _skip(message: bytes, at: int) -> int:
    """Return the place behind the field that starts at ``at``; may lie behind the end."""
    tag, at = read_varint(message, at)
    if tag >> 3 == RAW_INPUT >> 3 or tag >> 3 == REQUEST_ID >> 3:
        # Only an encoder that pads its tags, or means harm, writes these in another way.
        msg = "the message is not a ModelInferRequest: a field has an unexpected type"
        raise InvalidRequest(msg)
    return _skip_value(message, tag & 7, at)


def _skip_value(message: bytes, kind: int, at: int) -> int:
    if kind == BYTES:
        size, at = read_varint(message, at)
        return at + size
    if kind == VARINT:
        return read_varint(message, at)[1]
    if kind in (FIXED64, FIXED32):
        return at + (8 if kind == FIXED64 else 4)
    msg = "the message is not a ModelInferRequest: it uses groups"
    raise InvalidRequest(msg)
