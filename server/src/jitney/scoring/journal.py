"""What was scored so far, on disk: a file beside the result, which only grows.

It begins with a line that names the format and a line of JSON, the job. Records follow, one for
each block of rows and in their order: the length and the CRC-32 of what comes, then a line of JSON
and the tensors that it describes, one after the other. A record that is cut short or damaged is
where a program was killed, or a machine: it and all that follows is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import struct
import zlib
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from jitney.errors import ConfigError
from jitney.scoring.scored import Scored
from jitney_client.tensors import Tensor, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from jitney.scoring.scored import Rows
    from jitney.scoring.table import Array

    Job = Mapping[str, Any]

__all__ = ["Journal"]

MAGIC: Final = b"jitney predict, unfinished 1\n"
HEAD: Final = struct.Struct("<QI")
READ: Final = 1 << 20
MAX_LINE: Final = 1 << 26
"""Bytes of a line of JSON: what has a longer one is no journal."""


class _Record(NamedTuple):
    """Where the tensors of a record are, and what its line says."""

    told: dict[str, Any]
    offset: int


class Journal:
    """The records of one job. It belongs to one process at a time.

    ``rows`` are those that it holds, ``failed`` those of them without a result.
    """

    def __init__(self, path: Path, job: Job, *, restart: bool = False) -> None:
        """Open it, or begin one.

        :param job: what the results depend on; those of another job are of no use.
        :param restart: throw away what is there.
        :raises ConfigError: when it is of another job, or another process has it.
        """
        self.path = path
        self.rows = 0
        self.failed = 0
        self._records: list[_Record] = []
        self._file = _owned(path)
        try:
            self._begin(json.loads(json.dumps(job)), restart=restart)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Journal {self.path.name}: {self.rows} rows, {self.failed} failed>"

    def _begin(self, job: dict[str, Any], *, restart: bool) -> None:
        self._file.seek(0)
        magic, line = self._file.readline(len(MAGIC)), self._file.readline(MAX_LINE)
        if not MAGIC.startswith(magic):
            msg = f"{self.path}: is in the way, and not from jitney predict: remove it, or move it"
            raise ConfigError(msg)
        # New, or its writer was killed within the first lines, or before the first record: then
        # there is nothing to lose, whatever it was about.
        head = self._file.tell()
        if restart or not line.endswith(b"\n") or self._file.seek(0, os.SEEK_END) == head:
            self._file.truncate(0)
            self._file.write(MAGIC + json.dumps(job).encode() + b"\n")
            self.sync()
            return
        self._file.seek(head)
        before = _object(line)
        if before is None:
            msg = f"{self.path}: damaged; --restart throws it away and begins anew"
            raise ConfigError(msg)
        if others := [key for key in {**before, **job} if before.get(key) != job.get(key)]:
            msg = (
                f"{self.path}: what was scored so far is of another run (another "
                f"{', '.join(others)}); --restart throws it away and begins anew"
            )
            raise ConfigError(msg)
        self._recover()

    def _recover(self) -> None:
        """Read the records, and cut off what is not whole."""
        end = self._file.tell()
        while (record := self._read_record()) is not None:
            self._note(record)
            end = self._file.tell()
        self._file.truncate(end)

    def _read_record(self) -> _Record | None:
        head = self._file.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        length, checksum = HEAD.unpack(head)
        start, line = self._file.tell(), self._file.readline(min(length, MAX_LINE))
        crc, left = zlib.crc32(line), length - len(line)
        while left > 0 and (data := self._file.read(min(left, READ))):
            crc, left = zlib.crc32(data, crc), left - len(data)
        # Zeros, which a power cut may leave, are a record of no bytes, and its checksum is right.
        if left or crc != checksum or (told := _object(line)) is None:
            return None
        return _Record(told, start + len(line)) if told["first"] == self.rows else None

    def _note(self, record: _Record) -> None:
        self._records.append(record)
        self.rows += record.told["rows"]
        self.failed += len(record.told["errors"])

    def append(self, scored: Scored) -> None:
        """Add the next rows; they outlive this process, and the machine once ``sync`` has returned.

        :raises OSError: when there is no room for them.
        """
        described: dict[str, Any] = {}
        parts: list[bytes] = []
        for name, rows in scored.outputs.items():
            arrays: Sequence[Array | None] = rows if isinstance(rows, list) else [rows]
            tensors = [None if array is None else encode(array) for array in arrays]
            described[name] = {
                "whole": not isinstance(rows, list),
                "tensors": [t and [t.datatype, t.shape, len(t.data)] for t in tensors],
            }
            parts += [t.data for t in tensors if t is not None]
        errors = {str(row): reason for row, reason in scored.errors.items()}
        told = {"first": scored.first, "rows": scored.rows, "errors": errors, "outputs": described}
        line = json.dumps(told).encode() + b"\n"
        crc = zlib.crc32(line)
        for part in parts:
            crc = zlib.crc32(part, crc)
        offset = self._file.seek(0, os.SEEK_END) + HEAD.size + len(line)
        head = HEAD.pack(len(line) + sum(map(len, parts)), crc)
        self._file.write(b"".join((head, line, *parts)))
        self._file.flush()
        self._note(_Record(told, offset))

    def sync(self) -> None:
        """Return once everything is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def read(self, outputs: Sequence[str] = ()) -> Iterator[Scored]:
        """Yield what was scored, in order, with the outputs that are named."""
        self._file.flush()
        for told, offset in self._records:
            position, found = offset, {}
            for name, described in told["outputs"].items():
                size = sum(tensor[2] for tensor in described["tensors"] if tensor)
                if name in outputs:
                    self._file.seek(position)
                    found[name] = self._rows(described)
                position += size
            errors = {int(row): reason for row, reason in told["errors"].items()}
            yield Scored(told["first"], told["rows"], found, errors)

    def _rows(self, described: Mapping[str, Any]) -> Rows:
        arrays: list[Array | None] = []
        for tensor in described["tensors"]:
            if tensor is None:
                arrays.append(None)
            else:
                datatype, shape, size = tensor
                arrays.append(decode(Tensor(datatype, tuple(shape), self._file.read(size))))
        if described["whole"]:
            (whole,) = arrays
            assert whole is not None  # noqa: S101  # for the type checker: it was no list
            return whole
        return arrays

    def close(self) -> None:
        """Make everything safe, and let go of it."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def delete(self) -> None:
        """Close it, and remove the file: the result is written."""
        # Before it is closed: nobody else may take it over in between.
        self.path.unlink(missing_ok=True)
        self._file.close()


def _owned(path: Path) -> IO[bytes]:
    """Open a file for this process alone.

    :raises ConfigError: when it cannot be opened, or another process has it.
    """
    while True:
        try:
            file: IO[bytes] = open(path, "a+b")  # noqa: PTH123, SIM115  # closed by whoever gets it
        except OSError as error:
            msg = f"{path}: {error.strerror}"
            raise ConfigError(msg) from None
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            msg = f"{path}: is in the way, and no file"
            raise ConfigError(msg)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            msg = f"{path}: another jitney predict is at work on it"
            raise ConfigError(msg) from None
        # Another run may have ended, and removed it, between the opening and the lock.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(status, path.stat()):
                return file
        file.close()


def _object(line: bytes) -> dict[str, Any] | None:
    """Return a line of JSON, None where it is no object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
