"""Rows of a ``.csv`` or ``.tsv`` file, read as they are needed."""

from __future__ import annotations

import csv
import itertools
import math
from typing import TYPE_CHECKING, BinaryIO, Final

from jitney.errors import ConfigError
from jitney.scoring.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from jitney.scoring.table import Kind

__all__ = ["CsvSource", "delimiter_of"]

SNIFFED: Final = 200
"""Rows by which a column is called one of numbers, lists or texts."""
MOST: Final = 0.8
"""Of its cells: what a column has to have of one kind."""
LONGEST_CELL: Final = 1 << 26
"""Characters; the module's own limit, 128 Ki, is less than a list of pixels takes."""


def delimiter_of(path: Path) -> str:
    """Return what stands between the cells: tabs in a .tsv, commas otherwise."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


class CsvSource:
    """A file whose first line names the columns.

    Cells are texts. A row with more or fewer cells than there are columns is broken, empty lines
    are no rows. Bytes that are no UTF-8 are kept, for whoever takes the texts.
    """

    def __init__(self, path: Path) -> None:
        """Read the names of the columns, and what the first rows look like.

        :raises ConfigError: when the file cannot be read, or names no columns.
        """
        self.rows: int | None = None
        self._path = path
        csv.field_size_limit(LONGEST_CELL)
        with self._opened() as file:
            lines = csv.reader(_decoded(file), delimiter=delimiter_of(path))
            try:
                self._names = next(lines, [])
                sample = list(itertools.islice(lines, SNIFFED))
            except csv.Error as error:
                msg = f"{path}: not a table of text ({error})"
                raise ConfigError(msg) from None
        if not any(self._names):
            msg = f"{path}: its first line has to name the columns"
            raise ConfigError(msg)
        twice = [name for name in self._names if self._names.count(name) > 1]
        if twice:
            msg = f"{path}: two columns are called {twice[0]!r}"
            raise ConfigError(msg)
        sample = [row for row in sample if len(row) == len(self._names)]
        self.columns = tuple(
            Column(name, _kind([row[i] for row in sample])) for i, name in enumerate(self._names)
        )

    def __enter__(self) -> Self:
        """Return the source."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: each cursor has the file open for itself."""

    def cursor(self, first: int, columns: Sequence[str]) -> CsvCursor:
        """Begin to read some columns, with the row ``first``."""
        wanted = {name: self._names.index(name) for name in columns}
        return CsvCursor(self._opened(), self._path, len(self._names), wanted, first)

    def _opened(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            msg = f"{self._path}: {error.strerror}"
            raise ConfigError(msg) from None


class CsvCursor:
    """Reads rows from some row on; to get there, it reads all rows before."""

    def __init__(
        self, file: BinaryIO, path: Path, width: int, wanted: dict[str, int], first: int
    ) -> None:
        self._file = file
        self._size = path.stat().st_size
        self._width = width
        self._nothing = (None,) * width
        self._wanted = wanted
        self._next = first
        self._lines = csv.reader(_decoded(file), delimiter=delimiter_of(path))
        next(self._lines, None)  # the names
        for _ in itertools.islice(self._cells(), first):
            pass

    @property
    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""
        return self._file.tell() / self._size if self._size else 1.0

    def take(self, rows: int) -> Table:
        """Return the next rows."""
        taken = list(itertools.islice(self._cells(), rows))
        broken: dict[int, str] = {}
        whole: list[Sequence[str | None]] = []
        for row, cells in enumerate(taken):
            if isinstance(cells, str):
                broken[row] = cells
            elif len(cells) != self._width:
                broken[row] = f"{len(cells)} cells, the first line has {self._width}"
            whole.append(self._nothing if row in broken else cells)
        columns = {name: [cells[i] for cells in whole] for name, i in self._wanted.items()}
        self._next += len(taken)
        return Table(self._next - len(taken), len(taken), dict(columns), broken)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cells(self) -> Iterator[list[str] | str]:
        """Yield the cells of each row, or what is wrong with it."""
        while True:
            try:
                cells = next(self._lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield str(error)
            else:
                if cells:
                    yield cells


def _decoded(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a file.

    Not by way of a text file, which reads ahead and then does not tell how far it is.
    """
    encoding = "utf-8-sig"  # as spreadsheets write it
    for line in file:
        yield line.decode(encoding, "surrogateescape")
        encoding = "utf-8"


def _kind(cells: Sequence[str]) -> Kind:
    cells = [cell for cell in cells if cell.strip()]
    # Not all of them: a bad cell is what a row is to be reported for.
    most = MOST * len(cells)
    if cells and sum(map(_is_number, cells)) >= most:
        return "number"
    if cells and sum(cell.lstrip().startswith("[") for cell in cells) >= most:
        return "list"
    return "text" if cells else "other"


def _is_number(cell: str) -> bool:
    try:
        return not math.isnan(float(cell)) or cell.strip().lower() == "nan"
    except ValueError:
        return cell.strip().lower() in ("true", "false")
