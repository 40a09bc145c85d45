"""The zip archive around a model, checked before anything in it is unpacked.

A model file comes from somewhere else, and the server reads it in the process that holds the
sockets. So the directory is measured before ``zipfile`` parses it, the entries are judged before
one is unpacked, and unpacking is bounded by the caller's limit whatever the entry declares.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from jitney.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Container"]

MAX_ENTRIES: Final = 100_000
MAX_DIRECTORY_BYTES: Final = 32 << 20
MAX_NAME_CHARACTERS: Final = 1024
MAX_GROWTH_BYTES: Final = 256 << 20
"""How much larger than the file its entries may be together."""
MAX_RATIO: Final = 100
"""How far one entry may be compressed; code and debug tables stay below 20 (weights are stored)."""
RATIO_FLOOR_BYTES: Final = 1 << 20
"""Entries below this size may have any ratio."""
CHUNK: Final = 1 << 20
"""Bytes unpacked at a time where only the checksum matters."""

END_BYTES: Final = 22
END: Final = struct.Struct("<HHHHIIH")
MOST: Final = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
"""What stands for a number that does not fit: look at the larger record before."""
LOCATOR_BYTES: Final = 20
END64_BYTES: Final = 56
END64: Final = struct.Struct("<4sQHHIIQQQQ")
BROKEN: Final = "the archive's directory is broken: the file was cut short or changed"


class Container:
    """The entries of one archive, by their path inside the archive's only folder.

    ``root`` is the name of that folder, empty where there is no single one. ``size`` is the file's
    in bytes. Two paths that differ only in case are refused: libtorch looks entries up without
    regard to case (measured with 2.13), so it could run another one than was read here.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Check the archive.

        :param file: seekable, opened for reading in binary; the caller closes it.
        :raises ModelError: when it is no archive, is cut short or is built to do harm.
        """
        self.size = file.seek(0, io.SEEK_END)
        count = _check_directory(file, self.size)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            raise ModelError(BROKEN) from None
        entries = self._zip.infolist()
        if len(entries) != count:  # this reader goes by the directory's size, torch's by the count
            raise ModelError(BROKEN)
        _check_entries(entries, self.size)
        roots = {entry.filename.partition("/")[0] for entry in entries}
        single = len(roots) == 1 and all("/" in entry.filename for entry in entries)
        self.root = roots.pop() if single else ""
        skip = len(self.root) + 1 if single else 0
        self._entries = {entry.filename[skip:]: entry for entry in entries}

    def __contains__(self, name: str) -> bool:
        """Return whether there is an entry of this path."""
        return name in self._entries

    def names(self, start: str = "", end: str = "") -> Iterator[str]:
        """Yield the paths that start and end so, in the order of the archive."""
        for name in self._entries:
            if name.startswith(start) and name.endswith(end):
                yield name

    def size_of(self, name: str) -> int:
        """Return the declared size of an entry in bytes."""
        return self._entries[name].file_size

    def verify(self) -> None:
        """Read everything and compare the checksums; takes 0.3 s per GiB.

        torch compares none: a flipped bit in a weight loads, and answers wrongly ever after.

        :raises ModelError: naming the first entry that is not what was written.
        """
        for name, entry in self._entries.items():
            try:
                with self._zip.open(entry) as stream:
                    while stream.read(CHUNK):
                        pass
            except Exception as error:
                raise _damaged(name) from error

    def read(self, name: str, limit: int) -> bytes:
        """Unpack one entry.

        :raises ModelError: when it is larger than ``limit`` bytes, or its checksum does not fit.
        """
        entry = self._entries[name]
        if entry.file_size > limit:
            msg = f"{name}: {entry.file_size} bytes, at most {limit} are read"
            raise ModelError(msg)
        try:
            with self._zip.open(entry) as stream:
                data = stream.read(limit + 1)
        # zlib.error has no common base with the others, and zipfile lets several kinds through.
        except Exception as error:
            raise _damaged(name) from error
        if len(data) != entry.file_size:
            msg = f"{name}: has not the size that the archive declares; the file was changed"
            raise ModelError(msg)
        return data


def _damaged(name: str) -> ModelError:
    return ModelError(f"{name}: cannot be unpacked; the file was cut short or changed")


def _check_directory(file: BinaryIO, size: int) -> int:
    """Bound what ``zipfile`` is going to parse: it reads all of the directory before anything.

    :returns: how many entries there are.
    """
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        msg = "not a model file: expected an archive as torch.jit.save writes it"
        raise ModelError(msg)
    file.seek(max(0, size - END_BYTES))
    end = file.read(END_BYTES)
    # Torch writes no archive comment, so the end record is the last thing in the file. Searching
    # for it, as zip tools do, would let two readers find two different directories.
    if len(end) < END_BYTES or end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        msg = "the archive has no end: the file was cut short, copy it again"
        raise ModelError(msg)
    # Of where the directory is, the file says more than there is to say, and readers believe
    # different parts of it: what two of them would find in two places is refused.
    _, _, here, count, directory, begin, _ = END.unpack(end[4:])
    told, stop = (here, count, directory, begin), size - END_BYTES
    file.seek(max(0, stop - LOCATOR_BYTES - END64_BYTES))
    end64 = file.read(END64_BYTES + LOCATOR_BYTES)
    if end64[-LOCATOR_BYTES:].startswith(b"PK\x06\x07"):
        stop -= LOCATOR_BYTES + END64_BYTES
        *_, here, count, directory, begin = END64.unpack(end64[:END64_BYTES])
        is_there = int.from_bytes(end64[END64_BYTES + 8 : -4], "little") == stop
        agrees = all(
            small in (large, most)
            for small, large, most in zip(told, (here, count, directory, begin), MOST, strict=True)
        )
        if not end64.startswith(b"PK\x06\x06") or not is_there or not agrees:
            raise ModelError(BROKEN)
    if count > MAX_ENTRIES or directory > min(MAX_DIRECTORY_BYTES, size):
        msg = f"{count} entries in a directory of {directory} bytes: more than any model has"
        raise ModelError(msg)
    if here != count or begin + directory != stop:
        raise ModelError(BROKEN)
    return int(count)


def _check_entries(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    packed = sum(entry.compress_size for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        msg = f"{len(entries)} entries: more than any model has"
        raise ModelError(msg)
    if packed > size:
        msg = "entries overlap: the file is built to do harm"
        raise ModelError(msg)
    if unpacked > size + MAX_GROWTH_BYTES:
        msg = f"{size} bytes would unpack to {unpacked}: the file is built to do harm"
        raise ModelError(msg)
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename.lower()
        if name in seen:
            msg = f"the entry {entry.filename[:MAX_NAME_CHARACTERS]!r} occurs twice"
            raise ModelError(msg)
        seen.add(name)
        _check_entry(entry)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    shown = repr(entry.filename[:MAX_NAME_CHARACTERS])
    # Python takes another name than torch where an extra field has one, or at a NUL.
    is_plain = entry.filename == entry.orig_filename and ".." not in entry.filename.split("/")
    if len(entry.filename) > MAX_NAME_CHARACTERS or not is_plain:
        msg = f"the entry {shown} has a path that no model has"
        raise ModelError(msg)
    if entry.flag_bits & 1:
        msg = f"the entry {shown} is encrypted; torch does not read that"
        raise ModelError(msg)
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        msg = f"the entry {shown} is compressed in a way that torch does not read"
        raise ModelError(msg)
    bound = max(RATIO_FLOOR_BYTES, MAX_RATIO * entry.compress_size)
    if entry.file_size > bound:
        msg = f"the entry {shown} would unpack to {entry.file_size} bytes: built to do harm"
        raise ModelError(msg)
