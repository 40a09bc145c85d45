"""Rows of an ``.npz`` or ``.npy`` file of NumPy, read as they are needed."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy

from jitney.errors import ConfigError
from jitney.scoring.table import Array, Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from jitney.scoring.table import Kind

__all__ = ["FAULTS", "NpzSource"]

SUFFIX: Final = ".npy"
FAULTS: Final = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    # A file with a password, or a compression that zipfile does not know.
    RuntimeError,
    # What NumPy lets through where the line that describes an array is no Python.
    *(tokenize.TokenError, SyntaxError, MemoryError),
)


class _Member(NamedTuple):
    """An array of the file: the shape of a row, the type, and what holds it."""

    row: tuple[int, ...]
    dtype: np.dtype[Any]
    entry: str
    by_columns: bool

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row) * self.dtype.itemsize


class NpzSource:
    """Arrays whose first axis counts rows, as ``numpy.savez`` and ``savez_compressed`` write them.

    No array is ever in memory as a whole, but for those that Fortran's order makes impossible to
    read by rows. Arrays of objects are refused: they would be unpickled.
    """

    def __init__(self, path: Path) -> None:
        """Read the names, types and shapes.

        :raises ConfigError: when the file is none, or its arrays differ in length.
        """
        self._path = path
        self._members: dict[str, _Member] = {}
        lengths: dict[str, int] = {}
        try:
            if path.suffix.lower() == SUFFIX:
                with path.open("rb") as file:
                    size = path.stat().st_size
                    lengths[""], self._members[""] = _read_whole_head(file, "", size)
            else:
                with zipfile.ZipFile(path) as archive:
                    for info in archive.infolist():
                        name = info.filename.removesuffix(SUFFIX)
                        with archive.open(info.filename) as file:
                            lengths[name], self._members[name] = _read_whole_head(
                                file, info.filename, info.file_size
                            )
        except FAULTS as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            msg = f"{path}: not a file of NumPy's that can be read: {why or type(error).__name__}"
            raise ConfigError(msg) from None
        if len({*lengths.values()}) != 1:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            msg = f"{path}: its arrays have to have the same number of rows; it has {found or 0}"
            raise ConfigError(msg)
        self.rows: int | None = next(iter(lengths.values()))
        self.columns = tuple(
            Column(name, _kind(m), (m.dtype, m.row)) for name, m in self._members.items()
        )

    def __enter__(self) -> Self:
        """Return the source."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: each cursor has the file open for itself."""

    def cursor(self, first: int, columns: Sequence[str]) -> NpzCursor:
        """Begin to read some arrays, with the row ``first``.

        :raises ConfigError: when the file is damaged.
        """
        members = {name: self._members[name] for name in columns}
        return NpzCursor(self._path, members, self.rows or 0, first)


class NpzCursor:
    """Reads rows of some arrays, each from its own place in the file."""

    def __init__(self, path: Path, members: dict[str, _Member], rows: int, first: int) -> None:
        self._path = path
        self._rows = rows
        self._next = min(first, rows)
        self._archive = None if path.suffix.lower() == SUFFIX else zipfile.ZipFile(path)
        self._members = members
        self._files: dict[str, IO[bytes]] = {}
        self._whole: dict[str, Array] = {}
        try:
            for name, member in members.items():
                self._begin(name, member)
        except FAULTS as error:
            raise self._damaged(error) from None

    def _begin(self, name: str, member: _Member) -> None:
        file = self._path.open("rb") if self._archive is None else self._archive.open(member.entry)
        if member.by_columns:
            with file:
                self._whole[name] = npy.read_array(file, allow_pickle=False)
            return
        _read_head(file, member.entry)
        # Of a compressed array, everything before is decompressed and thrown away.
        file.seek(self._next * member.row_bytes, 1)
        self._files[name] = file

    @property
    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""
        return self._next / self._rows if self._rows else 1.0

    def take(self, rows: int) -> Table:
        """Return the next rows.

        :raises ConfigError: when the file is damaged.
        """
        first, rows = self._next, min(rows, self._rows - self._next)
        try:
            columns = {
                name: self._whole[name][first : first + rows]
                if name in self._whole
                else _read(self._files[name], member, rows)
                for name, member in self._members.items()
            }
        except FAULTS as error:
            raise self._damaged(error) from None
        self._next += rows
        return Table(first, rows, dict(columns))

    def close(self) -> None:
        """Close the file."""
        for file in self._files.values():
            file.close()
        if self._archive is not None:
            self._archive.close()

    def _damaged(self, error: Exception) -> ConfigError:
        msg = f"{self._path}: damaged, or changed meanwhile: {error or type(error).__name__}"
        return ConfigError(msg)


def _read_whole_head(file: IO[bytes], entry: str, size: int) -> tuple[int, _Member]:
    """Read up to the first element, and see whether all of them can be there.

    :param size: bytes of the array, what describes it included.
    :raises ValueError: when they cannot, and as ``_read_head``.
    """
    rows, member = _read_head(file, entry)
    if rows * member.row_bytes > size - file.tell():
        msg = f"{_called(entry)} ends too early"
        raise ValueError(msg)
    return rows, member


def _read_head(file: IO[bytes], entry: str) -> tuple[int, _Member]:
    """Read up to the first element; return the number of rows, and what they are.

    :raises ValueError: when it is no array that can be read by rows.
    """
    version = npy.read_magic(file)
    # Version 3 differs from 2 in the names of fields, which are not for us.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if not shape:
        msg = f"{_called(entry)} is a single number: its first axis has to count rows"
        raise ValueError(msg)
    if min(shape) < 0:
        msg = f"{_called(entry)} has the shape {list(shape)}"
        raise ValueError(msg)
    if dtype.hasobject:
        msg = f"{_called(entry)} holds objects ({dtype}): save texts with dtype U or S"
        raise ValueError(msg)
    if dtype.names is not None:
        msg = f"{_called(entry)} has fields ({dtype}): save an array for each of them"
        raise ValueError(msg)
    return shape[0], _Member(shape[1:], dtype, entry, by_columns and len(shape) > 1)


def _called(entry: str) -> str:
    return entry.removesuffix(SUFFIX) or "the array"


def _read(file: IO[bytes], member: _Member, rows: int) -> Array:
    size = rows * member.row_bytes
    data = file.read(size)
    if len(data) != size:
        msg = "it ends too early"
        raise ValueError(msg)
    return np.frombuffer(data, member.dtype).reshape(rows, *member.row)


def _kind(member: _Member) -> Kind:
    if member.row and math.prod(member.row) != 1:
        return "list"
    if member.dtype.kind in "biuf":
        return "number"
    return "text" if member.dtype.kind in "SU" else "other"
