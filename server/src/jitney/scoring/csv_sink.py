"""Results as ``.csv`` or ``.tsv``."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from jitney.scoring.csv_source import delimiter_of
from jitney.scoring.layout import is_spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jitney.scoring.layout import Layout
    from jitney.scoring.model import Tensor
    from jitney.scoring.scored import Rows, Scored
    from jitney.scoring.table import Array, Values

__all__ = ["texts_of", "write_csv"]


def write_csv(
    path: Path, out: Path, layout: Layout, blocks: Iterable[tuple[Scored, Mapping[str, Values]]]
) -> None:
    """Write every block, and the columns that are kept beside it.

    Cells of rows without a result are empty. Bytes that are no UTF-8 are written as they are.

    :param path: of the file; ``out`` is what it will be called, whose ending says what it is.
    """
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter_of(out), lineterminator="\n")
        writer.writerow(layout.flat())
        for scored, kept in blocks:
            columns = [texts_of(kept[name]) for name in layout.kept]
            for tensor in layout.outputs:
                columns += _output(tensor, scored.outputs[tensor.name], scored)
            columns.append([scored.errors.get(row, "") for row in range(scored.rows)])
            writer.writerows(zip(*columns, strict=True))


def _output(tensor: Tensor, rows: Rows, scored: Scored) -> list[list[str]]:
    if isinstance(rows, list) or not (is_spread(tensor) or tensor.size == 1):
        cells = [
            "" if a is None or row in scored.errors else _json(a) for row, a in enumerate(rows)
        ]
        # A block without any result has no arrays to spread.
        return [cells] * (tensor.dims[0] if is_spread(tensor) else 1)
    columns = [texts_of(column) for column in rows.reshape(scored.rows, -1).T]
    for row in scored.errors:
        for column in columns:
            column[row] = ""
    return columns


def texts_of(values: Values) -> list[str]:
    """Return a text for each row."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        flat = values.reshape(len(values), -1)
        return texts_of(flat[:, 0]) if flat.shape[1] == 1 else [_json(row) for row in values]
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        # The shortest text that means this number in its own precision: Python's would be that of
        # the float64 beside it, 0.10000000149011612 for 0.1.
        return values.astype(str).tolist()  # type: ignore[no-any-return]
    return [_text(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]


def _text(value: Any) -> str:  # noqa: ANN401  # whatever a cell holds
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, default=_text, ensure_ascii=False)
    return "" if value is None else str(value)


def _json(array: Array) -> str:
    if array.dtype.kind == "f":
        array = array.astype(str).astype(np.float64)
    return json.dumps(array.tolist(), default=_text, ensure_ascii=False)
