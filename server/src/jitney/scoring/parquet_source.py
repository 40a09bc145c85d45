"""Rows of a ``.parquet`` file, read as they are needed; the only reader that needs pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jitney.errors import ConfigError
from jitney.scoring.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from jitney.scoring.table import Kind, Values

__all__ = ["ParquetSource", "require_pyarrow"]

READ_AT_ONCE: Final = 8192
"""Rows that are decoded together."""


def require_pyarrow(path: Path) -> None:
    """Do nothing where pyarrow is installed.

    :raises ConfigError: naming what to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415  # heavy, and not everybody has it
    except ModuleNotFoundError:
        msg = f"{path}: Parquet needs pyarrow: pip install 'jitney[parquet]'"
        raise ConfigError(msg) from None


class ParquetSource:
    """A file of columns with types."""

    def __init__(self, path: Path) -> None:
        """Read the names and types of the columns.

        :raises ConfigError: when the file cannot be read, or pyarrow is not installed.
        """
        require_pyarrow(path)
        import pyarrow as pa  # noqa: PLC0415  # heavy, and not everybody has it
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            msg = f"{path}: not a Parquet file that can be read: {error}"
            raise ConfigError(msg) from None
        self._path = path
        schema = self._file.schema_arrow
        names = [field.name for field in schema]
        if twice := [name for name in names if names.count(name) > 1]:
            self._file.close()
            msg = f"{path}: two columns are called {twice[0]!r}"
            raise ConfigError(msg)
        self.rows: int | None = self._file.metadata.num_rows
        self.columns = tuple(Column(f.name, _kind(f.type), f.type) for f in schema)

    def __enter__(self) -> Self:
        """Return the source."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._file.close()

    def cursor(self, first: int, columns: Sequence[str]) -> ParquetCursor:
        """Begin to read some columns, with the row ``first``."""
        return ParquetCursor(self._path, columns, first)


class ParquetCursor:
    """Reads rows of some columns; groups of rows that lie before are not touched."""

    def __init__(self, path: Path, columns: Sequence[str], first: int) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  # as for the source

        self._path = path
        self._columns = tuple(columns)
        # A file of its own: two cursors may be at work at once, in different threads.
        self._file = pq.ParquetFile(path)
        self._rows = self._file.metadata.num_rows
        self._next = min(first, self._rows)
        groups, skipped = self._groups_from(self._next)
        self._batches: Iterator[Any] = self._file.iter_batches(
            READ_AT_ONCE, row_groups=groups, columns=list(columns)
        )
        self._left: Any = None
        self._skip = self._next - skipped

    def _groups_from(self, row: int) -> tuple[list[int], int]:
        """Return the groups that have rows from ``row`` on, and how many rows are before them."""
        before, metadata = 0, self._file.metadata
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if before + rows > row:
                return list(range(group, metadata.num_row_groups)), before
            before += rows
        return [], before

    @property
    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""
        return self._next / self._rows if self._rows else 1.0

    def take(self, rows: int) -> Table:
        """Return the next rows.

        :raises ConfigError: when the file is damaged.
        """
        import pyarrow as pa  # noqa: PLC0415  # as for the source

        rows = min(rows, self._rows - self._next)
        parts, count = [], 0
        try:
            while count < rows:
                batch = self._batch()
                part = batch.slice(0, rows - count)
                self._left = batch.slice(part.num_rows)
                parts.append(part)
                count += part.num_rows
        except (OSError, pa.ArrowException, StopIteration) as error:
            msg = f"{self._path}: damaged: {error or 'it ends too early'}"
            raise ConfigError(msg) from None
        table = pa.Table.from_batches(parts).combine_chunks() if parts else None
        values = {
            name: [] if table is None else _values(table.column(name)) for name in self._columns
        }
        self._next += rows
        return Table(self._next - rows, rows, dict(values))

    def _batch(self) -> Any:  # noqa: ANN401  # pyarrow has no types
        """Return the next rows that are decoded, at least one.

        :raises StopIteration: when there are none.
        """
        batch = self._left
        while batch is None or not batch.num_rows:
            batch = next(self._batches)
            if self._skip:
                skipped = min(self._skip, batch.num_rows)
                self._skip -= skipped
                batch = batch.slice(skipped)
        self._left = None
        return batch

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _values(column: Any) -> Values:  # noqa: ANN401  # pyarrow has no types
    """Return numbers as an array where none is missing, and a list of cells otherwise."""
    import pyarrow.types as of  # noqa: PLC0415  # as for the source

    numeric = of.is_integer(column.type) or of.is_floating(column.type)
    if (numeric or of.is_boolean(column.type)) and not column.null_count:
        array: Values = column.to_numpy()
        return array
    cells: Values = column.to_pylist()
    return cells


def _kind(type_: Any) -> Kind:  # noqa: ANN401  # pyarrow has no types
    import pyarrow.types as of  # noqa: PLC0415  # as for the source

    if (
        of.is_integer(type_)
        or of.is_floating(type_)
        or of.is_boolean(type_)
        or of.is_decimal(type_)
    ):
        return "number"
    if of.is_list(type_) or of.is_large_list(type_) or of.is_fixed_size_list(type_):
        return "list"
    if of.is_string(type_) or of.is_large_string(type_) or of.is_binary(type_):
        return "text"
    return "other"
