"""One line of an audit log, and the chain that every line is a link of.

A record is a JSON object on a line of its own::

    {"seq":7,"time":"2026-01-01T00:00:00.000Z","event":"model.load","principal":"ops",
     "facts":{"model":"digits","sha256":"…"},"previous":"…","hash":"…"}

``hash`` is the SHA-256 of the line's bytes without that last member, and ``previous`` is the hash
of the record before. The bytes themselves are hashed: no two programs need to agree how JSON is
written, only how it is cut.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GENESIS", "MAX_LINE", "Chain", "Fact", "Record", "Unreadable", "read_record"]

Fact: TypeAlias = str | int | float | bool | None

GENESIS: Final = "0" * 64
"""What stands for the hash of the record before the first."""
MAX_TEXT: Final = 2_000
"""Characters of one fact; a model's error text may hold a whole example configuration."""
MAX_LINE: Final = 1 << 18
"""Bytes: no record is longer, because nothing in it is."""
_TAIL: Final = re.compile(rb',"hash":"([0-9a-f]{64})"\}\Z')
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")


class Unreadable(Exception):
    """A line is no record, or not the one that was written; the text says what is wrong."""


class Record(NamedTuple):
    """One line. ``seq`` counts from 1; ``time`` is UTC, as the server's clock had it."""

    seq: int
    time: str
    event: str
    principal: str
    facts: Mapping[str, Fact]
    previous: str
    hash: str


class Chain:
    """Where a log has arrived: the number and the hash of its last record.

    ``link`` makes the next line without moving on, so that a line that could not be written leaves
    nothing behind; ``advance`` moves on.
    """

    def __init__(self, seq: int = 0, head: str = GENESIS) -> None:
        self.seq = seq
        self.head = head

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Chain {self.seq} {self.head[:12]}>"

    def copy(self) -> Chain:
        """Return one that moves on by itself."""
        return Chain(self.seq, self.head)

    def add(self, seconds: float, event: str, principal: str, facts: Mapping[str, Fact]) -> bytes:
        """Return the line of the next record, newline included, and move on to it.

        :param seconds: since the epoch.
        """
        moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
        body = json.dumps(
            {
                "seq": self.seq + 1,
                "time": moment.replace("+00:00", "Z"),
                "event": _plain(event),
                "principal": _plain(principal),
                "facts": {_plain(name): _plain(fact) for name, fact in facts.items()},
                "previous": self.head,
            },
            separators=(",", ":"),
            # Whatever a caller's name holds, a line stays one line and moves no cursor.
            ensure_ascii=True,
        ).encode("ascii")
        self.head = hashlib.sha256(body).hexdigest()
        self.seq += 1
        return b'%s,"hash":"%s"}\n' % (body[:-1], self.head.encode("ascii"))


def read_record(line: bytes) -> Record:
    """Read a line, without its newline.

    :raises Unreadable: when it is no record, or its hash is not that of its bytes.
    """
    tail = _TAIL.search(line)
    if tail is None:
        msg = "no record: it does not end with a hash"
        raise Unreadable(msg)
    found = hashlib.sha256(line[: tail.start()] + b"}").hexdigest()
    if found != tail.group(1).decode("ascii"):
        msg = f"changed after it was written: its hash is {found[:16]}…, and it says otherwise"
        raise Unreadable(msg)
    try:
        return _record(json.loads(line))
    except (ValueError, TypeError, KeyError, RecursionError):
        msg = "no record: the members of its JSON are not those of one"
        raise Unreadable(msg) from None


def _record(value: Any) -> Record:  # noqa: ANN401  # JSON
    record = Record(**value)
    texts = (record.time, record.event, record.principal)
    hashes = (record.previous, record.hash)
    if (
        type(record.seq) is not int
        or record.seq < 1
        or not all(isinstance(text, str) for text in texts)
        or not all(isinstance(text, str) and _HASH.match(text) for text in hashes)
        or not isinstance(record.facts, dict)
    ):
        raise ValueError
    return record


def _plain(fact: Any) -> Any:  # noqa: ANN401  # as it came from whoever records
    if isinstance(fact, str):
        return fact if len(fact) <= MAX_TEXT else fact[: MAX_TEXT - 1] + "…"
    if fact is None or isinstance(fact, bool | int):
        return fact
    if isinstance(fact, float) and fact - fact == 0:  # JSON has no infinity, and no NaN
        return fact
    return _plain(str(fact))
