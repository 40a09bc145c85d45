"""What came of a block of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from jitney.scoring.cells import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.datatypes import DataType
    from jitney.scoring.table import Array

    Rows: TypeAlias = "Array | list[Array | None]"

__all__ = ["Rows", "Scored", "joined"]


@dataclass(frozen=True, slots=True)
class Scored:
    """The outputs of ``rows`` rows from ``first`` on, and why some of them have none.

    An output is one array where its rows agree in shape, with zeros in rows without a result, and
    an array for each row otherwise, None for those.
    """

    first: int
    rows: int
    outputs: Mapping[str, Rows]
    errors: Mapping[int, str] = field(default_factory=dict)


def joined(rows: Sequence[Array | None], datatype: DataType) -> Rows:
    """Return the rows of an output as one array, where they agree in shape."""
    shapes = {array.shape for array in rows if array is not None}
    if len(shapes) != 1:
        return list(rows)
    (shape,) = shapes
    if datatype.item_size:
        empty = np.zeros(shape, DTYPES[datatype])
        return np.stack([empty if array is None else array for array in rows])
    whole: Array = np.empty((len(rows), *shape), object)
    for row, array in enumerate(rows):
        whole[row] = np.full(shape, b"", object) if array is None else array
    return whole
