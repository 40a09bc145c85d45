"""The file of an audit log: appended to, never left with half a line, and rotated by its size."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.audit.record import MAX_LINE, Chain, Unreadable, read_record
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuditFile", "Remains"]

LOOK_BACK: Final = 4 * MAX_LINE
"""Bytes at the end of a file in which its last record is looked for."""
FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
OWNER_ONLY: Final = 0o600
DIGITS: Final = 12
"""Of the number in the name of a rotated file, so that names sort as records do."""


class Remains(NamedTuple):
    """What was found behind the last record of a file.

    ``torn`` tells that it is the beginning of a line, as a crash leaves one behind; anything else
    was written by somebody else, or changed.
    """

    size: int
    sha256: str
    torn: bool


class AuditFile:
    """An open audit log that ends with a whole line, whatever happens to the disk.

    - ``append`` writes all of what it is given, or nothing: what a full disk took of it is cut off
      again, at the latest before the next line is written.
    - One process writes it at a time: it is locked.
    - It is the owner's only (0600), and a symbolic link in its place is refused.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        """Open it, or make it, and find the end of its chain.

        ``chain`` is where it has arrived, also over a rotation; ``remains`` is what is behind its
        last record and was not there when that was written, None for nothing.

        :param sync: whether ``append`` returns only when the bytes are on the disk.
        :raises ConfigError: when it cannot be opened, or another process has it.
        """
        self.path = path
        self._sync = sync
        try:
            self._fd = self._open()
        except OSError as error:
            msg = f"telemetry.audit_file: {str(path)!r} cannot be opened ({error.strerror})"
            raise ConfigError(msg) from None
        try:
            self._size = os.fstat(self._fd).st_size
            self.chain, self.remains = _end_of(self._fd, self._size)
            last = os.pread(self._fd, 1, self._size - 1) if self._size else b"\n"
            self._is_open_ended = last != b"\n"
            if not self._size:
                self.chain = _end_of_rotated(path)
        except OSError as error:
            os.close(self._fd)
            msg = f"telemetry.audit_file: {str(path)!r} cannot be read ({error.strerror})"
            raise ConfigError(msg) from None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<AuditFile {self.path.name} {self._size} bytes>"

    @property
    def size(self) -> int:
        """Bytes of whole lines in it."""
        return self._size

    def append(self, data: bytes) -> None:
        """Write whole lines.

        :raises OSError: when they could not be written; then none of them was.
        """
        if os.fstat(self._fd).st_size != self._size:
            os.ftruncate(self._fd, self._size)  # what an earlier attempt left behind
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
            if self._sync:
                os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # then the next attempt begins with it
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def end_line(self) -> None:
        """End the line that a crash left unfinished, if there is one.

        :raises OSError: when that cannot be written.
        """
        if self._is_open_ended:
            self.append(b"\n")
            self._is_open_ended = False

    def rotate(self, seq: int) -> str:
        """Put the file aside under the number of its last record, and begin an empty one.

        Nothing is ever deleted: that is for whoever archives them.

        :returns: the name that it has now.
        :raises OSError: when that cannot be done; the file then goes on being used.
        """
        aside = self.path.with_name(f"{self.path.name}.{seq:0{DIGITS}}")
        if os.path.lexists(aside):  # a rename would replace it
            raise FileExistsError(errno.EEXIST, "there is such a file already")
        self.path.rename(aside)
        try:
            fd = self._open()
        except OSError:
            with contextlib.suppress(OSError):
                aside.rename(self.path)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, 0
        self._sync_folder()
        return aside.name

    def close(self) -> None:
        """Close it, which lets another process have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        fd = os.open(self.path, FLAGS, OWNER_ONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise OSError(error.errno, "another process writes it") from None
        return fd

    def _sync_folder(self) -> None:
        if self._sync:
            with contextlib.suppress(OSError):  # not every file system lets folders be synced
                folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)


def _end_of(fd: int, size: int) -> tuple[Chain, Remains | None]:
    """Return where the chain of a file has arrived, and what is behind its last record."""
    start = max(0, size - LOOK_BACK)
    data = os.pread(fd, size - start, start)
    end = len(data)
    while end > 0:
        begin = data.rfind(b"\n", 0, end) + 1
        try:
            record = read_record(data[begin:end])
        except Unreadable:
            end = begin - 1
            continue
        chain = Chain(record.seq, record.hash)
        if end == len(data):  # whole, but for its newline
            return chain, Remains(0, hashlib.sha256().hexdigest(), torn=True)
        return chain, _remains(data[end + 1 :])
    return Chain(), _remains(data)


def _remains(rest: bytes) -> Remains | None:
    if not rest:
        return None
    torn = b"\n" not in rest
    return Remains(len(rest), hashlib.sha256(rest).hexdigest(), torn)


def _end_of_rotated(path: Path) -> Chain:
    """Return the end of the newest file that was put aside: a crash may follow a rotation."""
    pattern = re.compile(rf"{re.escape(path.name)}\.[0-9]{{{DIGITS}}}\Z")
    with os.scandir(path.parent) as entries:
        names = sorted(entry.name for entry in entries if pattern.match(entry.name))
    if not names:
        return Chain()
    fd = os.open(path.with_name(names[-1]), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _end_of(fd, os.fstat(fd).st_size)[0]
    finally:
        os.close(fd)
