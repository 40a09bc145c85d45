"""The lines of an audit log, and the chain that they form."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.audit.record import GENESIS, MAX_LINE, Chain, Fact, Unreadable, read_record

FACTS: dict[str, Fact] = {
    "model": "digits",
    "version": 1,
    "seconds": 0.5,
    "warm": True,
    "why": None,
}


def test_a_record_comes_back_as_it_was_written() -> None:
    """Every member is there, the time in UTC, and the first record follows nothing."""
    line = Chain().add(0.25, "model.load", "ops", FACTS)
    record = read_record(line.removesuffix(b"\n"))
    assert (1, "1970-01-01T00:00:00.250Z", "model.load", "ops", FACTS, GENESIS) == record[:-1]


def test_every_record_holds_the_hash_of_the_one_before() -> None:
    """That is the chain; numbers count from 1 without a gap."""
    chain = Chain()
    first, second = (read_record(chain.add(0, "e", "", {})[:-1]) for _ in range(2))
    assert (1, 2, first.hash, second.hash) == (first.seq, second.seq, second.previous, chain.head)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_a_record_can_change(place: int, bit: int) -> None:
    """Any flipped bit makes it another line than the one that was hashed."""
    line = bytearray(Chain(6, "a" * 64).add(0, "model.load", "ops", FACTS)[:-1])
    line[place % len(line)] ^= 1 << bit
    with pytest.raises(Unreadable):
        read_record(bytes(line))


@given(text=st.text(max_size=200))
def test_a_record_is_one_printable_line(text: str) -> None:
    """Whatever names hold, no line breaks and no escape sequence come out of them (T3)."""
    line = Chain().add(0, text, text, {"name": text})
    assert line.endswith(b"\n")
    assert line[:-1].decode("ascii").isprintable()
    record = read_record(line[:-1])
    assert (text, text, text) == (record.event, record.principal, record.facts["name"])


def test_long_facts_are_cut() -> None:
    """A name of a megabyte does not fill the disk, and no line is longer than its reader reads."""
    line = Chain().add(
        0, "e" * (1 << 20), "p" * (1 << 20), dict.fromkeys("abcdef", "ü" * (1 << 20))
    )
    assert len(line) < MAX_LINE
    assert 2000 == len(str(read_record(line[:-1]).facts["a"]))


@pytest.mark.parametrize("fact", [math.inf, -math.inf, math.nan, b"raw", ("a", 1)])
def test_what_json_does_not_have_is_written_as_text(fact: object) -> None:
    """A record is never refused for one of its facts."""
    line = Chain().add(0, "e", "", {"fact": fact})  # type: ignore[dict-item]  # on purpose
    assert str(fact) == read_record(line[:-1]).facts["fact"]


@pytest.mark.parametrize(
    "body",
    [
        "[1]",
        '{"seq":0,"time":"","event":"","principal":"","facts":{},"previous":"GENESIS"}',
        '{"seq":true,"time":"","event":"","principal":"","facts":{},"previous":"GENESIS"}',
        '{"seq":1,"time":"","event":"","principal":"","facts":[],"previous":"GENESIS"}',
        '{"seq":1,"time":"","event":"","principal":"","facts":{},"previous":"short"}',
        '{"seq":1,"time":"","event":"","principal":"","previous":"GENESIS"}',
        '{"seq":1,"time":"","event":"","principal":"","facts":{},"previous":"GENESIS","more":1}',
    ],
)
def test_a_right_hash_does_not_make_a_record(body: str) -> None:
    """Members and their types are checked, whoever wrote them."""
    text = body.replace("GENESIS", GENESIS).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    with pytest.raises(Unreadable):
        read_record(text[:-1] + b',"hash":"' + digest + b'"}')


def test_a_line_is_json_for_everybody_else() -> None:
    """Other programs read it without knowing of chains."""
    assert "model.load" == json.loads(Chain().add(0, "model.load", "", {}))["event"]
