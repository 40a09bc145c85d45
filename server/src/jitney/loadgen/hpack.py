"""Header blocks of HTTP/2 (RFC 7541): those of one connection's requests, and of its replies."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from jitney.loadgen.huffman import decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HeaderError", "HeaderReader", "HeaderWriter"]

POST, HTTP, HTTPS = b"\x83", b"\x86", b"\x87"
INDEXED, GROWS, RESIZES = 0x80, 0x40, 0x20
HUFFMAN: Final = 0x80
EMPTIES: Final = b"\x20"
"""Sets the size of the table to 0."""
# fmt: off
STATIC_NAMES: Final = (
    b":authority", b":method", b":method", b":path", b":path", b":scheme", b":scheme",
    *(b":status",) * 7, b"accept-charset", b"accept-encoding", b"accept-language",
    b"accept-ranges", b"accept", b"access-control-allow-origin", b"age", b"allow",
    b"authorization", b"cache-control", b"content-disposition", b"content-encoding",
    b"content-language", b"content-length", b"content-location", b"content-range",
    b"content-type", b"cookie", b"date", b"etag", b"expect", b"expires", b"from", b"host",
    b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since",
    b"last-modified", b"link", b"location", b"max-forwards", b"proxy-authenticate",
    b"proxy-authorization", b"range", b"referer", b"refresh", b"retry-after", b"server",
    b"set-cookie", b"strict-transport-security", b"transfer-encoding", b"user-agent", b"vary",
    b"via", b"www-authenticate",
)
# fmt: on
STATUS_AT: Final = 8
STATUS_VALUES: Final = (b"200", b"204", b"206", b"304", b"400", b"404", b"500")
STATIC: Final = len(STATIC_NAMES)
"""Entries of the static table; the dynamic one is counted on from there."""
TABLE_BYTES: Final = 4096
ENTRY_BYTES: Final = 32
"""What an entry counts beyond its name and value (RFC 7541, 4.1)."""
REMEMBERED: Final = 4096


class HeaderError(Exception):
    """A header block is not what RFC 7541 allows."""


class HeaderWriter:
    """Writes a connection's requests: each header in full once, and as one byte from then on.

    That is what gRPC's own clients do. The table never gets full: what does not fit is written in
    full every time.
    """

    def __init__(self, *, secure: bool = False) -> None:
        self._start = POST + (HTTPS if secure else HTTP)
        self._places: dict[tuple[str, str], int] = {}
        self._room = TABLE_BYTES
        self._known: dict[Sequence[tuple[str, str]], tuple[int, bytes]] = {}
        self._first = b""

    def limit(self, size: int) -> None:
        """Heed the peer's limit of the table: below the customary 4 KiB, do without one."""
        if size < TABLE_BYTES:
            self._places.clear()
            self._known.clear()
            self._room, self._first = 0, EMPTIES

    def block(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        """Return the block of a POST with these headers, pseudo-headers first."""
        known = self._known.get(headers)
        if known is not None and known[0] == len(self._places):
            return known[1]
        block = self._first + self._start + b"".join(map(self._field, headers))
        self._first = b""
        # What it put into the table moved what came before, so it is right only from the next on.
        self._known[headers] = (
            len(self._places),
            self._start + b"".join(map(self._field, headers)),
        )
        return block

    def _field(self, header: tuple[str, str]) -> bytes:
        place = self._places.get(header)
        if place is not None:
            return _number(STATIC + len(self._places) - place, 7, INDEXED)
        name, value = (text.encode() for text in header)
        size = ENTRY_BYTES + len(name) + len(value)
        grows = size <= self._room
        if grows:
            self._room -= size
            self._places[header] = len(self._places)
        first = bytes((GROWS if grows else 0,))
        return first + b"".join(_number(len(text), 7) + text for text in (name, value))


class HeaderReader:
    """Reads a connection's replies: the headers that matter, by name.

    Every block must be read, in order, because each may change what the later ones mean.
    """

    def __init__(self, names: Sequence[bytes]) -> None:
        """Start with an empty table.

        :param names: of the headers to return.
        """
        self._names = frozenset(names)
        self._table: deque[tuple[bytes, bytes]] = deque()  # newest first
        self._size = 0
        self._limit = TABLE_BYTES
        self._known: dict[bytes, dict[bytes, bytes]] = {}

    def read(self, block: bytes) -> dict[bytes, bytes]:
        """Return the headers of a block.

        :raises HeaderError: when it is none.
        """
        found = self._known.get(block)
        if found is None:
            try:
                found, changed = self._read(block)
            except (IndexError, ValueError) as error:  # it ends within a header; no text
                msg = f"a header block cannot be read: {error}"
                raise HeaderError(msg) from None
            if changed:
                self._known.clear()  # every place in the table means another entry now
            elif len(self._known) < REMEMBERED:
                self._known[block] = found
        return found

    def _read(self, block: bytes) -> tuple[dict[bytes, bytes], bool]:
        found: dict[bytes, bytes] = {}
        at, end, changed = 0, len(block), False
        while at < end:
            first = block[at]
            if first & INDEXED:
                place, at = _integer(block, at, 7)
                name, value = self._entry(place)
            elif first & (GROWS | RESIZES) == RESIZES:
                self._limit, at = _integer(block, at, 5)
                self._make_room(0)
                changed = True
                continue
            else:
                grows = bool(first & GROWS)
                place, at = _integer(block, at, 6 if grows else 4)
                if place:
                    name = self._entry(place)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                if grows:
                    self._add(name, value)
                    changed = True
            if name in self._names:
                found[name] = value
        return found, changed

    def _entry(self, place: int) -> tuple[bytes, bytes]:
        if not 0 < place <= STATIC + len(self._table):
            msg = f"no entry {place} in a table of {len(self._table)}"
            raise HeaderError(msg)
        if place > STATIC:
            return self._table[place - STATIC - 1]
        status = place - STATUS_AT
        # The values of the other entries are nothing that is looked for.
        value = STATUS_VALUES[status] if 0 <= status < len(STATUS_VALUES) else b""
        return STATIC_NAMES[place - 1], value

    def _add(self, name: bytes, value: bytes) -> None:
        size = ENTRY_BYTES + len(name) + len(value)
        self._make_room(size)
        if size <= self._limit:
            self._table.appendleft((name, value))
            self._size += size

    def _make_room(self, size: int) -> None:
        while self._table and self._size + size > self._limit:
            name, value = self._table.pop()
            self._size -= ENTRY_BYTES + len(name) + len(value)


def _number(value: int, bits: int, flags: int = 0) -> bytes:
    """Return an integer behind the flags of its first byte (RFC 7541, 5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((flags | value,))
    data = bytearray((flags | limit,))
    value -= limit
    while value > 0x7F:  # noqa: PLR2004  # seven bits to a byte
        data.append(0x80 | value & 0x7F)
        value >>= 7
    data.append(value)
    return bytes(data)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    limit = (1 << bits) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    coded = bool(block[at] & HUFFMAN)
    size, at = _integer(block, at, 7)
    data = block[at : at + size]
    if len(data) != size:
        msg = "it ends within a text"
        raise ValueError(msg)
    return decoded(data) if coded else data, at + size
