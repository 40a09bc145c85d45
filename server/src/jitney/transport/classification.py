"""The classification extension: of a row of numbers only the highest, with their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.strings import LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.types import Bytes

__all__ = ["top_classes"]

MAX_ELEMENTS: Final = 1_000_000
"""Elements of a row."""
MAX_TEXTS: Final = 1 << 15
"""Classes of all rows of a request: each is a text, made on the event loop in about a microsecond,
and nobody else is served meanwhile."""

NUMPY: Final = {
    DataType.INT8: "<i1",
    DataType.INT16: "<i2",
    DataType.INT32: "<i4",
    DataType.INT64: "<i8",
    DataType.UINT8: "<u1",
    DataType.UINT16: "<u2",
    DataType.UINT32: "<u4",
    DataType.UINT64: "<u8",
    DataType.FP32: "<f4",
    DataType.FP64: "<f8",
}


def top_classes(
    datatype: DataType, data: Bytes, rows: int, count: int, labels: Sequence[str] = ()
) -> tuple[int, bytes]:
    """Return the highest elements of each row as a BYTES tensor, and how many a row has.

    They are ``value:index``, or ``value:index:label`` where the index has a label; the highest
    comes first, and what is not a number last.

    :param data: the raw tensor, at least one row; all dimensions but the rows count as one.
    :param count: how many are wanted; there may be fewer.
    :raises InvalidRequest: when the datatype has no order, a row has too many elements, or more
        than ``MAX_TEXTS`` classes are wanted.
    """
    dtype = NUMPY.get(datatype)
    if dtype is None:
        msg = f"class result not available for output due to unsupported type '{datatype.value}'"
        raise InvalidRequest(msg)
    table = np.frombuffer(data, dtype).reshape(rows, -1)
    if table.shape[1] > MAX_ELEMENTS:
        msg = "classification output tensor too large"
        raise InvalidRequest(msg)
    count = min(count, table.shape[1])
    if rows * count > MAX_TEXTS:
        msg = (
            f"{count} classes of each of {rows} rows are wanted, and a request may have "
            f"{MAX_TEXTS} classes; ask for fewer ('classification'), or for the output itself"
        )
        raise InvalidRequest(msg)
    texts: list[bytes] = []
    for row in table:
        texts += _elements(row, count, labels)
    return count, b"".join(part for text in texts for part in (LENGTH.pack(len(text)), text))


def _elements(row: np.ndarray[Any, Any], count: int, labels: Sequence[str]) -> list[bytes]:
    if not count:
        return []
    is_float = row.dtype.kind == "f"
    keys = np.where(np.isnan(row), -np.inf, row) if is_float else row
    # Only the highest are put in order: of a thousand classes mostly one to five are wanted.
    highest = np.argpartition(keys, len(keys) - count)[len(keys) - count :]
    highest = highest[np.argsort(keys[highest], kind="stable")[::-1]]
    # As C++ prints them: six decimals, or whole numbers.
    form = "%f:%d" if is_float else "%d:%d"
    texts = []
    for index, value in zip(highest.tolist(), row[highest].tolist(), strict=True):
        text = form % (value, index)
        if index < len(labels) and labels[index]:
            text += f":{labels[index]}"
        texts.append(text.encode())
    return texts
