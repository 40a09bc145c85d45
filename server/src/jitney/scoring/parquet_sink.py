"""Results as ``.parquet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jitney.datatypes import DataType
from jitney.scoring.csv_sink import texts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jitney.scoring.layout import Layout
    from jitney.scoring.model import Tensor
    from jitney.scoring.scored import Rows, Scored
    from jitney.scoring.table import Array, Column, Values

__all__ = ["write_parquet"]

GROUP_ROWS: Final = 65_536
GROUP_BYTES: Final = 64 << 20
"""A group of rows is written when it has one of these: small groups are slow to read."""
TYPES: Final = {
    DataType.BOOL: "bool",
    DataType.FP16: "float16",
    DataType.BF16: "float32",
    DataType.FP32: "float32",
    DataType.FP64: "float64",
}


def write_parquet(
    path: Path,
    layout: Layout,
    blocks: Iterable[tuple[Scored, Mapping[str, Values]]],
    *,
    binary: frozenset[str],
) -> None:
    """Write every block, and the columns that are kept beside it.

    Outputs of one element in each row are plain columns, others lists. Rows without a result have
    nulls.

    :param binary: outputs whose texts are not all UTF-8.
    """
    import pyarrow as pa  # noqa: PLC0415  # heavy, and not everybody has it
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = pa.schema(
        [
            *(pa.field(column.name, _kept_type(column)) for column in layout.keep),
            *(pa.field(t.name, _type(t, t.name in binary)) for t in layout.outputs),
            pa.field(layout.error, pa.string()),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[Any] = []
        for scored, kept in blocks:
            columns = [_kept(kept[name], schema.field(name).type) for name in layout.kept]
            for tensor in layout.outputs:
                rows, type_ = scored.outputs[tensor.name], schema.field(tensor.name).type
                columns.append(_output(tensor, rows, scored, type_))
            # Columns whose names are no UTF-8 are in the texts about their cells.
            errors = {row: _clean(reason) for row, reason in scored.errors.items()}
            columns.append(pa.array(map(errors.get, range(scored.rows)), pa.string()))
            waiting.append(pa.record_batch(columns, schema=schema))
            full = sum(b.num_rows for b in waiting) >= GROUP_ROWS
            if full or sum(b.nbytes for b in waiting) >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema))


def _type(tensor: Tensor, binary: bool) -> Any:  # noqa: ANN401, FBT001  # pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415  # as above

    if tensor.datatype is DataType.BYTES:
        element = pa.binary() if binary else pa.string()
    else:
        element = pa.type_for_alias(TYPES.get(tensor.datatype, tensor.datatype.value.lower()))
    for _ in tensor.dims if tensor.size != 1 else ():
        element = pa.list_(element)
    return element


def _output(tensor: Tensor, rows: Rows, scored: Scored, type_: Any) -> Any:  # noqa: ANN401  # pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415  # as above

    missing = np.zeros(scored.rows, np.bool_)
    missing[list(scored.errors)] = True
    if isinstance(rows, list):
        cells = [
            None if a is None or gone else _plain(a, tensor, type_)
            for a, gone in zip(rows, missing, strict=True)
        ]
        return pa.array(cells, type_)
    if tensor.size == 1:
        return pa.array(_elements(rows.reshape(-1), type_), type_, mask=missing)
    return _nested(rows, type_, missing)


def _nested(array: Array, type_: Any, missing: Array) -> Any:  # noqa: ANN401  # pyarrow has no types
    """Return lists of lists, made from the innermost outwards; all are of the same length."""
    import pyarrow as pa  # noqa: PLC0415  # as above

    types = [type_]
    while len(types) < array.ndim:
        types.append(types[-1].value_type)
    there = array[~missing]  # a list that is null has to be empty as well
    values = pa.array(_elements(there, types[-1]), types[-1])
    for axis in range(array.ndim - 1, 0, -1):
        lengths = np.full(int(np.prod(there.shape[:axis])), array.shape[axis])
        mask = None
        if axis == 1:
            lengths = np.where(missing, 0, array.shape[1])
            mask = pa.array(missing)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        values = pa.ListArray.from_arrays(offsets, values, type=types[axis - 1], mask=mask)
    return values


def _elements(array: Array, type_: Any) -> Any:  # noqa: ANN401  # pyarrow has no types
    """Return elements as pyarrow takes them: texts are bytes here."""
    if array.dtype == object and str(type_) == "string":
        return [text.decode() for text in array.ravel()]
    return np.ascontiguousarray(array).ravel()


def _plain(array: Array, tensor: Tensor, type_: Any) -> object:  # noqa: ANN401  # likewise
    """Return one row as Python has it, for a row that is unlike its neighbours."""
    while hasattr(type_, "value_type"):
        type_ = type_.value_type
    elements: Array = np.empty(array.size, object)
    elements[:] = list(_elements(array, type_))
    return elements[0] if tensor.size == 1 else elements.reshape(array.shape).tolist()


# -- kept columns --------------------------------------------------------------------------------


def _kept_type(column: Column) -> Any:  # noqa: ANN401  # pyarrow has no types
    """Return the type that a column had, text where it had none that Parquet has."""
    import pyarrow as pa  # noqa: PLC0415  # as above

    if isinstance(column.native, pa.DataType):
        return column.native
    if not isinstance(column.native, tuple):
        return pa.string()
    dtype, row = column.native
    try:
        element = pa.string() if dtype.kind in "SU" else pa.from_numpy_dtype(dtype)
    except pa.ArrowNotImplementedError:  # complex numbers, for one
        return pa.string()
    for _ in row:
        element = pa.list_(element)
    return element


def _kept(values: Values, type_: Any) -> Any:  # noqa: ANN401  # pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415  # as above

    if isinstance(values, np.ndarray):
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "replace")
        elif str(type_) == "string" and values.dtype.kind != "U":
            return pa.array(texts_of(values), type_)
        plain = values.ndim == 1 and values.dtype.kind in "biuf"
        return pa.array(values if plain else values.tolist(), type_)
    return pa.array([_clean(value) if isinstance(value, str) else value for value in values], type_)


def _clean(text: str) -> str:
    """Return a text without the marks of bytes that were no UTF-8, which a column cannot hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
