"""Cells of a file to elements of a tensor, and what is wrong with those that are none."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jitney.datatypes import DataType

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from jitney.scoring.table import Array, Values

    Bad = MutableMapping[int, str]

__all__ = ["DTYPES", "array_of", "column_of"]

DTYPES: Final[dict[DataType, np.dtype[Any]]] = {
    DataType.BOOL: np.dtype(np.bool_),
    **{
        DataType[f"{kind.upper()}{bits}"]: np.dtype(f"{kind}{bits}")
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
    DataType.FP16: np.dtype(np.float16),
    # Rounded when it is sent: NumPy has no such type.
    DataType.BF16: np.dtype(np.float32),
    DataType.FP32: np.dtype(np.float32),
    DataType.FP64: np.dtype(np.float64),
    DataType.BYTES: np.dtype(object),
}
BOOLS: Final = {"true": True, "false": False, "1": True, "0": False}
TEXTS: Final = frozenset({str, bytes})
SHOWN: Final = 40
"""Characters of a cell that are quoted."""


def column_of(values: Values, datatype: DataType, bad: Bad) -> Array:
    """Return a column with one element in each cell, ``[rows]``.

    Texts are read as numbers, whole numbers may become floating point, and floats that are whole
    may become integers. Nothing is rounded to fit, beyond what a narrower float does.

    :param bad: gets what is wrong, by row; such rows become zeros.
    """
    if isinstance(values, np.ndarray):
        return _fitted(values, datatype, bad)
    if datatype is DataType.BYTES:
        return _texts(values, bad)
    wide = _wide(datatype)
    # NumPy reads texts at once, some twenty times as fast as Python one by one. It would also take
    # None, as NaN, which is a value that nobody wrote, and round what is neither text nor its own.
    if datatype is not DataType.BOOL and TEXTS.issuperset(map(type, values)):
        try:
            return _fitted(np.array(values, wide), datatype, bad)
        except (ValueError, TypeError, OverflowError):
            pass  # at least one is none: find out which
    numbers: list[bool | int | float] = []
    for row, value in enumerate(values):
        try:
            numbers.append(_number(value, datatype))
        except ValueError as error:
            bad[row] = str(error)
            numbers.append(0)
    return _fitted(np.array(numbers, wide), datatype, bad)


def array_of(value: object, datatype: DataType, dims: Sequence[int]) -> Array:
    """Return one cell as the tensor of its row.

    :param value: a list, nested or not, the JSON of one, or a single element.
    :param dims: the shape that it should have; -1 is any size.
    :raises ValueError: saying what is wrong with it.
    """
    if value is None:
        msg = "it is empty"
        raise ValueError(msg)
    if isinstance(value, str | bytes) and (datatype is not DataType.BYTES or _is_json(value)):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            msg = f"{_quoted(value)} is no JSON of a list"
            raise ValueError(msg) from None
    if datatype is DataType.BYTES:
        flat = [value] if isinstance(value, str | bytes) else list(value)  # type: ignore[call-overload]  # a list, or an error for the handler above
        shape: tuple[int, ...] = (len(flat),)
    else:
        raw = _nested(value)
        shape, flat = raw.shape, raw.ravel()
    bad: dict[int, str] = {}
    array = column_of(flat, datatype, bad)
    if bad:
        row, reason = min(bad.items())
        msg = f"element {row}: {reason}" if len(array) > 1 else reason
        raise ValueError(msg)
    if len(shape) == len(dims) and all(d in (-1, n) for d, n in zip(dims, shape, strict=True)):
        return array.reshape(shape)
    return array.reshape(_completed(dims, array.size))


def _completed(dims: Sequence[int], size: int) -> tuple[int, ...]:
    """Return the shape that ``size`` elements have, if dims leave no more than one size open."""
    fixed = math.prod(d for d in dims if d >= 0)
    is_open = [d < 0 for d in dims].count(True)
    fits = size == fixed if not is_open else is_open == 1 and fixed and size % fixed == 0
    if not fits:
        msg = f"it has {size} elements, the model takes {list(dims)}"
        raise ValueError(msg)
    return tuple(d if d >= 0 else size // fixed for d in dims)


def _nested(value: object) -> Array:
    try:
        array = np.array(value)
    except ValueError:
        msg = "its lists differ in length"
        raise ValueError(msg) from None
    if array.dtype.kind not in "biuf" and array.dtype.kind not in "SU":
        # None among the numbers, numbers past 64 bits, or something else entirely.
        array = np.array(value, object)
    return array


def _wide(datatype: DataType) -> Any:  # noqa: ANN401  # a dtype
    if datatype is DataType.BOOL:
        return np.bool_
    if datatype.is_float:
        return np.float64
    return np.uint64 if datatype is DataType.UINT64 else np.int64


def _number(value: object, datatype: DataType) -> bool | int | float:
    """Return a cell as a number of Python that the widest type of its kind holds.

    :raises ValueError: saying what is wrong with it.
    """
    if value is None or value == "":
        msg = "it is empty"
        raise ValueError(msg)
    try:
        if datatype is DataType.BOOL:
            return BOOLS[str(value).strip().lower()]
        if datatype.is_float:
            return float(value)  # type: ignore[arg-type]  # whatever it is, or an error
        number = _whole(value)
        limits = np.iinfo(_wide(datatype))
        if limits.min <= number <= limits.max:
            return number
    except (ValueError, TypeError, OverflowError, KeyError):
        pass
    msg = f"{_quoted(value)} is no {datatype.value}"
    raise ValueError(msg)


def _whole(value: object) -> int:
    if isinstance(value, str | bytes):
        try:
            return int(value)
        except ValueError:
            value = float(value)
    number = int(value)  # type: ignore[call-overload]  # whatever it is, or an error
    if number != value:
        raise ValueError
    return number  # type: ignore[no-any-return]  # int() of whatever it is


def _fitted(array: Array, datatype: DataType, bad: Bad) -> Array:
    """Return an array, the first axis of which counts rows, in the datatype's own type."""
    if datatype is DataType.BYTES:
        return _by_element(array, bad, _texts)
    if array.dtype.kind not in "biuf":
        return _by_element(array, bad, lambda cells, wrong: column_of(cells, datatype, wrong))
    wrong = _misfits(array, datatype)
    if wrong.any():
        for row in np.flatnonzero(wrong.reshape(len(array), -1).any(axis=1)).tolist():
            value = array[row].ravel()[int(wrong[row].argmax())]
            bad.setdefault(row, f"{value} is no {datatype.value}")
        array = np.where(wrong, 0, array)
    return array.astype(DTYPES[datatype], copy=False)


def _misfits(array: Array, datatype: DataType) -> Array:
    """Return which numbers the datatype does not have."""
    wrong: Array
    if datatype is DataType.BOOL:
        wrong = (array != 0) & (array != 1)
    elif datatype.is_float:
        # Infinity is a value that somebody wrote; one that comes from rounding is none.
        size = np.abs(array.astype(np.float64))
        wrong = np.isfinite(size) & (size > float(np.finfo(DTYPES[datatype]).max))
    elif array.dtype.kind == "b":
        wrong = np.zeros(array.shape, np.bool_)
    elif array.dtype.kind == "f":
        limits, wide = np.iinfo(DTYPES[datatype]), array.astype(np.float64)
        # The largest integers are no floats, the number after them is. NaN fails every comparison.
        inside = (wide >= float(limits.min)) & (wide < float(limits.max) + 1.0)
        wrong = ~(inside & (wide == np.trunc(wide)))
    else:
        limits = np.iinfo(DTYPES[datatype])
        wrong = (array < limits.min) | (array > limits.max)
    return wrong


def _by_element(array: Array, bad: Bad, convert: Callable[[Sequence[Any], Bad], Array]) -> Array:
    """Convert an array of texts or objects one element at a time."""
    wrong: dict[int, str] = {}
    found = convert(array.ravel().tolist(), wrong)
    width = max(1, array.size // max(1, len(array)))
    for element, reason in wrong.items():
        bad.setdefault(element // width, reason)
    return found.reshape(array.shape)


def _texts(values: Sequence[Any], bad: Bad) -> Array:
    """Return texts as the objects that the protocol has: bytes."""
    array: Array = np.empty(len(values), object)
    for row, value in enumerate(values):
        if isinstance(value, str):
            # What a file had that is no UTF-8 goes as it was there.
            array[row] = value.encode("utf-8", "surrogateescape")
        elif isinstance(value, bytes):
            array[row] = value
        else:
            array[row] = b""
            bad[row] = "it is empty" if value is None else f"{_quoted(value)} is no text"
    return array


def _is_json(value: str | bytes) -> bool:
    return value.lstrip()[:1] in ("[", b"[")


def _quoted(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return repr(text) if isinstance(value, str | bytes) else text
