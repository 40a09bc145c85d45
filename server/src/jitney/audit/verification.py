"""What an auditor runs: reads the files of a log again, and tells whether they hang together."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from jitney.audit.record import GENESIS, MAX_LINE, Unreadable, read_record
from jitney.audit.writer import GAP, TORN
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from jitney.audit.record import Record

__all__ = ["Anchor", "Verdict", "read_anchor", "verify"]


class Anchor(NamedTuple):
    """The number and the hash of a record, as somebody noted them elsewhere."""

    seq: int
    hash: str


class Verdict(NamedTuple):
    """What was found in the files of one log.

    ``broken`` says where the chain breaks first, and how; empty where it holds. ``notes`` are what
    the log itself says of its gaps. ``first`` and ``last`` are the numbers of the records that
    hang together, 0 for none, ``head`` is the hash of the last and ``previous`` what the first
    says of the record before it.
    """

    records: int
    first: int
    last: int
    head: str
    previous: str
    notes: tuple[str, ...]
    broken: str = ""


class _Broken(Exception):
    """The first place where the chain does not hold."""


class _Reading:
    """The state of one verification."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self.records = 0
        self.first = self.last = 0
        self.head = self.previous = GENESIS
        self.notes: list[str] = []
        self.anchors = {anchor.seq: anchor.hash for anchor in anchors}
        self._unread = b""
        self._unread_at = ""
        self._why = ""

    def line(self, place: str, line: bytes) -> None:
        try:
            record = read_record(line)
        except Unreadable as error:
            # It may be what a crash left behind: the next record then says so.
            if not self._unread_at:
                self._unread_at, self._why = place, str(error)
            self._unread += line + b"\n"
            if len(self._unread) > MAX_LINE:
                raise self._unreadable() from None
            return
        self._closed(place, record)
        if self.records == 0:
            self.first, self.previous = record.seq, record.previous
            if record.seq == 1 and record.previous != GENESIS:
                msg = f"{place}: the first record of all points to one before it"
                raise _Broken(msg)
        elif record.seq != self.last + 1:
            msg = f"{place}: record {record.seq} follows record {self.last}: some are missing"
            raise _Broken(msg)
        elif record.previous != self.head:
            msg = f"{place}: record {record.seq} does not follow the record before it"
            raise _Broken(msg)
        self.records += 1
        self.last, self.head = record.seq, record.hash
        self._anchored(place, record)
        if record.event == GAP:
            lost = record.facts.get("lost")
            self.notes.append(f"{place}: {lost} records could not be written before this one")

    def end(self) -> None:
        if self._unread_at:
            if self._unread.count(b"\n") == 1 and self._is_torn:
                self.notes.append(
                    f"{self._unread_at}: the last line is not whole: the server is writing it, or "
                    "ended while it did"
                )
            else:
                raise self._unreadable()
        if missing := [seq for seq in self.anchors if not self.first <= seq <= self.last]:
            msg = f"record {missing[0]}, which an anchor names, is not there: the log was cut off"
            raise _Broken(msg)

    @property
    def _is_torn(self) -> bool:
        return self._unread.startswith(b'{"seq":'[: len(self._unread) - 1])

    def _closed(self, place: str, record: Record) -> None:
        """Check what could not be read against what the record behind it says of it."""
        if self._unread_at and record.event != TORN:
            raise self._unreadable()
        if record.event == TORN:
            unread = self._unread[:-1]
            if record.facts != {"bytes": len(unread), "sha256": hashlib.sha256(unread).hexdigest()}:
                msg = f"{place}: what is before it is not what was there when it was written"
                raise _Broken(msg)
            where = self._unread_at or place
            self.notes.append(f"{where}: the server ended while it wrote this line")
        self._unread, self._unread_at = b"", ""

    def _unreadable(self) -> _Broken:
        return _Broken(f"{self._unread_at}: {self._why}")

    def _anchored(self, place: str, record: Record) -> None:
        expected = self.anchors.get(record.seq)
        if expected is not None and expected != record.hash:
            msg = f"{place}: record {record.seq} is not the one that was anchored"
            raise _Broken(msg)


def verify(files: Sequence[Path], anchors: Iterable[Anchor] = ()) -> Verdict:
    """Read the files of one log, oldest first, and check that every record follows the one before.

    It proves that nothing *between* the first and the last record was changed, removed, put in or
    moved since the last was written. That the last is the last, only an anchor proves: whoever may
    write the file can cut off its end, or write all of it anew.

    :raises ConfigError: when a file cannot be read.
    """
    reading, broken = _Reading(anchors), ""
    try:
        for file in files:
            for number, line in enumerate(_lines(file), 1):
                reading.line(f"{file.name}, line {number}", line)
        reading.end()
    except _Broken as error:
        broken = str(error)
    return Verdict(
        reading.records,
        reading.first,
        reading.last,
        reading.head,
        reading.previous,
        tuple(reading.notes),
        broken,
    )


def read_anchor(text: str) -> Anchor:
    """Read ``SEQ:HASH``.

    :raises ConfigError: when it is none.
    """
    seq, _, digest = text.partition(":")
    if not (seq.isascii() and seq.isdecimal() and len(digest) == len(GENESIS)):
        msg = f"--anchor: expected a record's number, ':' and its hash, got {text[:80]!r}"
        raise ConfigError(msg)
    return Anchor(int(seq), digest.lower())


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            while line := lines.readline(MAX_LINE):
                yield line.removesuffix(b"\n")
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror})"
        raise ConfigError(msg) from None
