"""Which columns of a file make which inputs of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.scoring.cells import DTYPES, array_of, column_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.scoring.model import Model, Tensor
    from jitney.scoring.table import Array, Column, Table

__all__ = ["Inputs", "Prepared", "map_columns"]


class Prepared(NamedTuple):
    """What a table is to the model.

    ``tensors`` are the inputs by name: an array of all rows where they have one shape, or an array
    for each. ``bad`` says what is wrong with rows that must not be sent.
    """

    tensors: dict[str, Array | list[Array]]
    bad: dict[int, str]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Columns by input. Inputs without any are optional, and left out."""

    columns: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, Tensor]

    def __str__(self) -> str:
        """Return what is told to whoever did not say it himself."""
        # A .npy file has one array, without a name.
        made_of = {name: _few(columns) or "the array" for name, columns in self.columns.items()}
        return "; ".join(f"{name} = {columns}" for name, columns in made_of.items())

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        return tuple(dict.fromkeys(name for part in self.columns.values() for name in part))

    def prepare(self, table: Table) -> Prepared:
        """Make the inputs of a table's rows."""
        bad = dict(table.broken)
        tensors = {name: self._input(self.tensors[name], table, bad) for name in self.columns}
        return Prepared(tensors, bad)

    def _input(self, tensor: Tensor, table: Table, bad: dict[int, str]) -> Array | list[Array]:
        names = self.columns[tensor.name]
        if len(names) > 1:
            parts = [_column(tensor, table, name, bad) for name in names]
            # The columns are the elements of a row, in the order of memory.
            return np.stack(parts, axis=1).reshape(table.rows, *_shape(tensor, len(parts)))
        (name,) = names
        values = table.columns[name]
        if isinstance(values, np.ndarray) and values.ndim > 1:
            return _reshaped(tensor, name, _column(tensor, table, name, bad))
        if tensor.size == 1:
            return _column(tensor, table, name, bad).reshape(table.rows, *tensor.dims)
        return _lists(tensor, table, name, bad)


def map_columns(
    model: Model,
    columns: Sequence[Column],
    given: Mapping[str, Sequence[str]],
    keep: Sequence[str] = (),
) -> Inputs:
    """Choose the columns of every input of a model.

    1. What is given. 2. A column that has the input's name. 3. Columns that have its name and a
    number, from ``NAME_0`` on, which is how outputs are written. 4. For the input of a model that
    has no other, all numeric columns or, where it takes texts, the only column of texts.

    :param keep: columns that belong to no input by default.
    :raises ConfigError: when an input has none, or a column is not there.
    """
    known = {column.name: column for column in columns}
    tensors = {tensor.name: tensor for tensor in model.inputs}
    for name, parts in given.items():
        if name not in tensors:
            msg = f"--column {name}: {model.name} has the inputs {', '.join(tensors)}"
            raise ConfigError(msg)
        if missing := [part for part in parts if part not in known]:
            msg = f"--column {name}: the file has no column {missing[0]!r}; it has {_few(known)}"
            raise ConfigError(msg)
    chosen = {name: tuple(given.get(name, ())) or _by_name(name, known) for name in tensors}
    without = [name for name, parts in chosen.items() if not parts]
    required = [name for name in without if not tensors[name].optional] or without[:1]
    if len(required) == 1 and len(tensors) == 1:
        taken = {*keep, *(part for parts in chosen.values() for part in parts)}
        free = [column for column in columns if column.name not in taken]
        chosen[required[0]] = _by_kind(tensors[required[0]], free)
    for name, parts in chosen.items():
        if not parts and not tensors[name].optional:
            msg = (
                f"no column for the input {name} ({_wanted(tensors[name])}): say which with "
                f"--column {name}=COLUMN,...; the file has {_few(known) or 'no columns'}"
            )
            raise ConfigError(msg)
        if len(parts) > 1:
            _shape(tensors[name], len(parts))
    return Inputs({name: parts for name, parts in chosen.items() if parts}, tensors)


def _by_name(name: str, known: Mapping[str, Column]) -> tuple[str, ...]:
    if name in known:
        return (name,)
    numbered: list[str] = []
    while (part := f"{name}_{len(numbered)}") in known:
        numbered.append(part)
    return tuple(numbered)


def _by_kind(tensor: Tensor, free: Sequence[Column]) -> tuple[str, ...]:
    if tensor.datatype is DataType.BYTES:
        texts = [column.name for column in free if column.kind == "text"]
        return tuple(texts) if len(texts) == 1 else ()
    numbers = [column.name for column in free if column.kind == "number"]
    lists = [column.name for column in free if column.kind == "list"]
    return tuple(numbers) or (tuple(lists) if len(lists) == 1 else ())


def _shape(tensor: Tensor, count: int) -> tuple[int, ...]:
    """Return the shape of a row made of ``count`` columns.

    :raises ConfigError: when it takes another number of them.
    """
    shape = tensor.dims
    if tensor.size is None and shape.count(-1) == 1:
        rest = -int(np.prod(shape))  # of all sizes but the open one
        shape = tuple(count // rest if d < 0 else d for d in shape) if rest else shape
    if min(shape, default=0) < 0 or int(np.prod(shape)) != count:
        msg = (
            f"the input {tensor.name} ({_wanted(tensor)}) cannot be made of {count} columns: say "
            f"which with --column {tensor.name}=COLUMN,..."
        )
        raise ConfigError(msg)
    return shape


def _column(tensor: Tensor, table: Table, name: str, bad: dict[int, str]) -> Array:
    own: dict[int, str] = {}
    column = column_of(table.columns[name], tensor.datatype, own)
    for row, reason in own.items():
        bad.setdefault(row, f"{name}: {reason}")
    return column


def _reshaped(tensor: Tensor, name: str, array: Array) -> Array:
    """Return an array with the rows' own shape, where its elements are as many."""
    row = array.shape[1:]
    if len(row) == len(tensor.dims) and all(
        d in (-1, n) for d, n in zip(tensor.dims, row, strict=True)
    ):
        return array
    if tensor.size is not None and int(np.prod(row)) == tensor.size:
        return array.reshape(len(array), *tensor.dims)
    msg = f"{name}: each row has the shape {list(row)}, the model takes {_wanted(tensor)}"
    raise ConfigError(msg)


def _lists(tensor: Tensor, table: Table, name: str, bad: dict[int, str]) -> Array | list[Array]:
    """Return a tensor for each row of a column of lists, as one array where all agree."""
    empty = np.zeros([max(d, 0) for d in tensor.dims], DTYPES[tensor.datatype])
    rows: list[Array] = []
    for row, value in enumerate(table.columns[name]):
        array = empty
        if row not in bad:
            try:
                array = array_of(value, tensor.datatype, tensor.dims)
            except (ValueError, TypeError) as error:
                bad[row] = f"{name}: {error}"
        rows.append(array)
    if len({array.shape for array in rows}) == 1:
        return np.stack(rows)
    return rows


def _wanted(tensor: Tensor) -> str:
    return f"{tensor.datatype.value} {list(tensor.dims)} in each row"


def _few(names: Sequence[str] | Mapping[str, object]) -> str:
    names = list(names)
    most = 8
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
