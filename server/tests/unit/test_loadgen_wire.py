"""Header blocks and texts of HTTP/2, as the load generator writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.loadgen.frames import setting_values
from jitney.loadgen.hpack import HeaderError, HeaderReader, HeaderWriter
from jitney.loadgen.huffman import CODES, END, decoded

FIRST = ((":path", "/a"), ("te", "trailers"))
SECOND = ((":path", "/a"), ("x-tenant", "b"))
NAMES = (b"grpc-status", b"jitney-reason")


def encoded(text: bytes) -> bytes:
    """Return a text in Huffman's code, filled up with ones."""
    by_symbol = {symbol: code for code, symbol in CODES.items()}
    bits = "".join(f"{value:0{length}b}" for length, value in (by_symbol[c] for c in text))
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def test_headers_are_written_once_and_then_by_one_byte() -> None:
    """The first block has a header in full, the next one its place in the table."""
    writer = HeaderWriter()

    first = writer.block(FIRST)
    again = writer.block(FIRST)

    assert b"/a" in first
    assert b"\x83\x86\xbf\xbe" == again  # the older entry of two is 63, the newer 62


def test_new_headers_move_the_places_of_old_ones() -> None:
    """A block that adds to the table refers to what came before by its new place."""
    writer = HeaderWriter()
    writer.block(FIRST)

    second = writer.block(SECOND)

    assert second.startswith(b"\x83\x86\xbf\x40")
    assert b"\x83\x86\xc0\xbf" == writer.block(FIRST)


def test_headers_beyond_the_table_are_written_in_full() -> None:
    """A long value does not go into the table, and its length takes several bytes."""
    token = "t" * 5000
    writer = HeaderWriter(secure=True)

    block = writer.block((("authorization", token),))

    assert block == writer.block((("authorization", token),))
    assert block.startswith(b"\x83\x87\x00\x0dauthorization\x7f\x89\x26t")
    assert {b"authorization": token.encode()} == HeaderReader([b"authorization"]).read(block)


def test_a_peer_without_a_table_gets_none() -> None:
    """Where the peer allows a small table only, it is emptied once and then never used."""
    writer = HeaderWriter()
    writer.block(FIRST)

    writer.limit(0)

    first, second = writer.block(FIRST), writer.block(FIRST)
    assert b"\x20" + second == first
    assert second.startswith(b"\x83\x86\x00\x05:path\x02/a")


def test_reader_follows_the_servers_table() -> None:
    """A header that went into the table is found by its place later, another one not at all."""
    reader = HeaderReader(NAMES)
    status = b"\x40\x0bgrpc-status\x010"
    reason = b"\x00\x0djitney-reason\x04SHED"

    assert {b"grpc-status": b"0"} == reader.read(b"\x88" + status)
    assert {b"grpc-status": b"0"} == reader.read(b"\xbe")
    assert {b"grpc-status": b"0", b"jitney-reason": b"SHED"} == reader.read(b"\xbe" + reason)
    assert {} == reader.read(b"\x88")


def test_reader_drops_what_the_table_has_no_room_for() -> None:
    """Of three entries of 2 KB, the table of 4 KB keeps two, and a resize drops those."""
    reader = HeaderReader((b"a", b"b", b"c"))
    for name in (b"a", b"b", b"c"):
        reader.read(b"\x40\x01" + name + b"\x7f\xd2\x0e" + b"v" * 2000 + name)

    assert {b"c": b"v" * 2000 + b"c"} == reader.read(b"\xbe")
    assert {b"b": b"v" * 2000 + b"b"} == reader.read(b"\xbf")
    with pytest.raises(HeaderError, match="no entry 64"):
        reader.read(b"\xc0")
    with pytest.raises(HeaderError, match="no entry 62"):
        reader.read(b"\x20\xbe")


def test_reader_knows_the_status_of_http() -> None:
    """The status comes as an entry of the static table, or as a text under its name."""
    reader = HeaderReader((b":status",))

    assert {b":status": b"200"} == reader.read(b"\x88")
    assert {b":status": b"503"} == reader.read(b"\x08\x03503")


@pytest.mark.parametrize("block", [b"\xbe", b"\x80", b"\x40\x05ab", b"\x00", b"\x00\x81\x00\x00"])
def test_reader_refuses_what_it_cannot_follow(block: bytes) -> None:
    """A place outside the table, or a block that is cut short, is an error and not silence."""
    with pytest.raises(HeaderError):
        HeaderReader(NAMES).read(block)


def test_texts_of_the_standard_are_decoded() -> None:
    """The examples of RFC 7541, C.4 and C.6, come out as they are printed there."""
    assert b"www.example.com" == decoded(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"))
    assert b"private" == decoded(bytes.fromhex("aec3771a4b"))
    assert b"Mon, 21 Oct 2013 20:13:21 GMT" == decoded(
        bytes.fromhex("d07abe941054d444a8200595040b8166e082a62d1bff")
    )


@given(st.binary(max_size=60))
def test_every_text_survives_its_code(text: bytes) -> None:
    """What the code of each byte says is what is read."""
    assert text == decoded(encoded(text))


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x00\x00", b"\xff"])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    """The mark of the end, an end within a character, and eight bits of filling are errors."""
    if data == b"\xff\xff\xff\xff":
        assert END == CODES[30, (1 << 30) - 1]
    with pytest.raises(ValueError, match="a text"):
        decoded(data)


def test_settings_are_read_by_their_numbers() -> None:
    """Each setting has two bytes of number and four of value."""
    payload = b"\x00\x03\x00\x00\x00\x64\x00\x04\x00\x01\x00\x00"

    assert {3: 100, 4: 65_536} == setting_values(payload)
