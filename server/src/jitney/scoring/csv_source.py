"""Rows of a ``.csv`` or ``.tsv`` file, read as they are needed."""

from __future__ import annotations

import codecs
import csv
import itertools
import math
from typing import TYPE_CHECKING, BinaryIO, Final

from jitney.errors import ConfigError
from jitney.scoring.table import Column, Table

if TYPE_CHECKING:
    from _csv import Reader  # as csv.reader gives; csv itself has no name for it before 3.13
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path
    from typing import Self

    from jitney.scoring.table import Kind

__all__ = ["CsvSource", "delimiter_of"]

SNIFFED: Final = 200
"""Rows by which a column is called one of numbers, lists or texts."""
MOST: Final = 0.8
"""Of its cells: what a column has to have of one kind."""
UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LONGEST_CELL: Final = 1 << 26
"""Characters; the module's own limit, 128 Ki, is less than a list of pixels takes."""
LONGEST_LINE: Final = 1 << 28
"""Bytes: what has no line breaks shall not be in memory as a whole."""


def delimiter_of(path: Path) -> str:
    """Return what stands between the cells: tabs in a .tsv, commas otherwise."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


class CsvSource:
    """A file whose first line names the columns.

    Cells are texts. A row with more or fewer cells than there are columns is broken, or one whose
    quotes do not fit; empty lines are no rows. Bytes that are no UTF-8 are kept, for whoever takes
    the texts.
    """

    def __init__(self, path: Path) -> None:
        """Read the names of the columns, and what the first rows look like.

        :raises ConfigError: when the file cannot be read, or names no columns.
        """
        self.rows: int | None = None
        self._path = path
        csv.field_size_limit(LONGEST_CELL)
        with self._opened() as file:
            if file.peek(2).startswith(UTF_16):
                msg = f"{path}: it is UTF-16; save it as UTF-8"
                raise ConfigError(msg)
            lines = _reader(file, path)
            try:
                self._names = next(lines, [])
            except csv.Error as error:
                msg = f"{path}: not a table of text: {_said(error)}"
                raise ConfigError(msg) from None
            width = len(self._names)
            found = list(itertools.islice(_rows(lines, width), SNIFFED))
        if not any(self._names):
            msg = f"{path}: its first line has to name the columns"
            raise ConfigError(msg)
        twice = [name for name in self._names if self._names.count(name) > 1]
        if twice:
            msg = f"{path}: two columns are called {twice[0]!r}"
            raise ConfigError(msg)
        sample = [row for row in found if not isinstance(row, str)]
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

    def _opened(self) -> BufferedReader:
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
        self._nothing = (None,) * width
        self._wanted = wanted
        self._next = first
        lines = _reader(file, path)
        next(lines, None)  # the names
        self._rows = _rows(lines, width)
        for _ in itertools.islice(self._rows, first):
            pass

    @property
    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""
        return self._file.tell() / self._size if self._size else 1.0

    def take(self, rows: int) -> Table:
        """Return the next rows."""
        taken = list(itertools.islice(self._rows, rows))
        broken = {row: cells for row, cells in enumerate(taken) if isinstance(cells, str)}
        whole: list[Sequence[str | None]] = [
            self._nothing if isinstance(cells, str) else cells for cells in taken
        ]
        columns = {name: [cells[i] for cells in whole] for name, i in self._wanted.items()}
        self._next += len(taken)
        return Table(self._next - len(taken), len(taken), dict(columns), broken)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _reader(file: BinaryIO, path: Path) -> Reader:
    # Strict: otherwise a quote that is not closed makes one cell of all that follows, silently.
    return csv.reader(_decoded(file), delimiter=delimiter_of(path), strict=True)


def _rows(lines: Reader, width: int) -> Iterator[list[str] | str]:
    """Yield the cells of each row, or what is wrong with it."""
    while True:
        before = lines.line_num
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield _said(error) + _over(lines.line_num - before)
        else:
            if len(cells) == width:
                yield cells
            elif cells:
                over = _over(lines.line_num - before)
                yield f"{len(cells)} cells, the first line has {width}{over}"


def _said(error: csv.Error) -> str:
    """Return what is wrong, for those of the module's texts that are about its own options."""
    text = str(error)
    if text.startswith("new-line character"):
        return "its lines end with \\r alone, or a cell has one without quotes"
    return "a quote is not closed" if text == "unexpected end of data" else text


def _over(lines: int) -> str:
    """Return what is said of a broken row that many lines were taken for."""
    return f" (in {lines} lines of the file, from a quote on)" if lines > 1 else ""


def _decoded(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a file.

    Not by way of a text file, which reads ahead and then does not tell how far it is.

    :raises ConfigError: when a line does not end.
    """
    encoding = "utf-8-sig"  # as spreadsheets write it
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            msg = (
                f"{file.name}: not a table of text: a line is longer than {LONGEST_LINE >> 20} MiB"
            )
            raise ConfigError(msg)
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
