"""Header blocks of HTTP/2 (RFC 7541), as far as a benchmark of a known server needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HeaderError", "HeaderReader", "HeaderWriter"]

POST, HTTP = b"\x83", b"\x86"
INDEXED, GROWS, RESIZES = 0x80, 0x40, 0x20
HUFFMAN: Final = 0x80
STATIC: Final = 61
"""Entries of the static table; the dynamic one is counted on from there."""
STATUS_200: Final = 8
TABLE_BYTES: Final = 4096
ENTRY_BYTES: Final = 32
"""What an entry counts beyond its name and value (RFC 7541, 4.1)."""
REMEMBERED: Final = 4096


class HeaderError(Exception):
    """A header block is not what this reader was made for."""


class HeaderWriter:
    """Writes a connection's requests: each header in full once, and as one byte from then on.

    The table never fills: a benchmark has a dozen different headers.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], int] = {}
        self._known: dict[Sequence[tuple[str, str]], tuple[int, bytes]] = {}

    def block(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        """Return the block of a POST over http with these headers, pseudo-headers first."""
        known = self._known.get(headers)
        if known is not None and known[0] == len(self._places):
            return known[1]
        block = POST + HTTP + b"".join(map(self._field, headers))
        # What it put into the table moved what came before, so it is right only from the next on.
        self._known[headers] = (
            len(self._places),
            POST + HTTP + b"".join(map(self._field, headers)),
        )
        return block

    def _field(self, header: tuple[str, str]) -> bytes:
        place = self._places.get(header)
        if place is not None:
            return bytes((INDEXED | (STATIC + len(self._places) - place),))
        self._places[header] = len(self._places)
        return bytes((GROWS,)) + b"".join(
            bytes((len(text),)) + text.encode()  # shorter than 127, no Huffman code
            for text in header
        )


class _Text(NamedTuple):
    data: bytes
    coded: bool


class HeaderReader:
    """Reads a connection's replies: the headers that matter by name, in the order of the wire.

    Every block must be read, in order, because each may change what the later ones mean. Names and
    values that are Huffman-coded are passed over; gRPC's servers write none where it matters.
    """

    def __init__(self, names: Sequence[bytes]) -> None:
        """Start with an empty table.

        :param names: of the headers to return, none of which is in the static table.
        """
        self._names = frozenset(names)
        self._table: list[tuple[bytes, bytes]] = []  # newest last
        self._size = 0
        self._known: dict[bytes, dict[bytes, bytes]] = {}

    def read(self, block: bytes) -> dict[bytes, bytes]:
        """Return the headers of a block.

        :raises HeaderError: when it uses what this reader does not know.
        """
        found = self._known.get(block)
        if found is None:
            found, grew = self._read(block)
            if grew:
                self._known.clear()  # every place in the table means another entry now
            elif len(self._known) < REMEMBERED:
                self._known[block] = found
        return found

    def _read(self, block: bytes) -> tuple[dict[bytes, bytes], bool]:
        found: dict[bytes, bytes] = {}
        at, end, grew = 0, len(block), False
        while at < end:
            first = block[at]
            if first & INDEXED:
                place, at = _integer(block, at, 7)
                name, value = self._entry(place)
            elif first & (GROWS | RESIZES) == RESIZES:
                _, at = _integer(block, at, 5)
                grew = True
                continue
            else:
                grows = bool(first & GROWS)
                place, at = _integer(block, at, 6 if grows else 4)
                if place:
                    name, coded = self._entry(place)[0], False
                else:
                    (name, coded), at = _text(block, at)
                (value, value_coded), at = _text(block, at)
                if grows:
                    if coded or value_coded:
                        msg = "a Huffman-coded header goes into the table"
                        raise HeaderError(msg)
                    self._add(name, value)
                    grew = True
            if name in self._names:
                found[name] = value
        return found, grew

    def _entry(self, place: int) -> tuple[bytes, bytes]:
        if place <= STATIC:
            return b"", b""  # nothing that is looked for
        if place - STATIC > len(self._table):
            msg = f"no entry {place} in a table of {len(self._table)}"
            raise HeaderError(msg)
        return self._table[STATIC - place]

    def _add(self, name: bytes, value: bytes) -> None:
        # Names of the static table count with their length there, which is not kept here; the
        # table of a gRPC server has a few entries of a few dozen bytes, so nothing is dropped.
        self._size += ENTRY_BYTES + len(name) + len(value)
        if self._size > TABLE_BYTES // 2:
            msg = "the server's header table grows beyond what this reader follows"
            raise HeaderError(msg)
        self._table.append((name, value))


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


def _text(block: bytes, at: int) -> tuple[_Text, int]:
    coded = bool(block[at] & HUFFMAN)
    size, at = _integer(block, at, 7)
    return _Text(block[at : at + size], coded), at + size
