"""Rows of a file, column by column, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import numpy as np

__all__ = ["Array", "Column", "Cursor", "Kind", "Source", "Table", "Values"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Values: TypeAlias = "Array | Sequence[Any]"
"""A column: an array whose first axis counts rows, or a cell for each row: a text, a number, a list
of them, None where there is nothing."""
Kind = Literal["number", "text", "list", "other"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source. ``native`` is its type as the file's own library has it, if it does."""

    name: str
    kind: Kind
    native: object = None


@dataclass(slots=True)
class Table:
    """``rows`` rows from the row ``first`` on.

    ``broken`` says what is wrong with rows that could not be read, by their number within the
    table; their cells are None.
    """

    first: int
    rows: int
    columns: dict[str, Values]
    broken: dict[int, str] = field(default_factory=dict)


class Cursor(Protocol):
    """Reads on from some row."""

    @property
    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""

    def take(self, rows: int) -> Table:
        """Return the next rows; fewer at the end, and none after it.

        :raises ConfigError: when the file turns out to be damaged.
        """

    def close(self) -> None:
        """Close the file."""


class Source(Protocol):
    """A file of rows. Opening it reads what its columns are; ``cursor`` reads the rows."""

    @property
    def columns(self) -> Sequence[Column]:
        """Its columns, in its own order."""

    @property
    def rows(self) -> int | None:
        """How many rows there are; None where only reading them all would tell."""

    def cursor(self, first: int, columns: Sequence[str]) -> Cursor:
        """Begin to read some columns, with the row ``first`` (counted from 0)."""

    def __enter__(self) -> Self:
        """Return the source."""

    def __exit__(self, *error: object) -> None:
        """Close the file."""
