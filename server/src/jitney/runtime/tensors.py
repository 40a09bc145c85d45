"""Protocol bytes ↔ torch tensors and texts, and how equal two of them have to be.

A *value* is what a model takes or gives for one tensor of its signature: a ``torch.Tensor``, or for
BYTES a list of ``str``, row-major.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

import torch

from jitney.datatypes import DataType
from jitney.errors import InputRejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Buffer = bytes | bytearray | memoryview

__all__ = [
    "DTYPES",
    "Value",
    "compare",
    "decode_texts",
    "encode_texts",
    "pad",
    "tensor_from",
    "value_from",
]

Value = torch.Tensor | list[str]

DTYPES: Final[dict[DataType, torch.dtype]] = {
    DataType.BOOL: torch.bool,
    DataType.UINT8: torch.uint8,
    DataType.UINT16: torch.uint16,
    DataType.UINT32: torch.uint32,
    DataType.UINT64: torch.uint64,
    DataType.INT8: torch.int8,
    DataType.INT16: torch.int16,
    DataType.INT32: torch.int32,
    DataType.INT64: torch.int64,
    DataType.FP16: torch.float16,
    DataType.FP32: torch.float32,
    DataType.FP64: torch.float64,
    DataType.BF16: torch.bfloat16,
}

# (rtol, atol); everything else is compared exactly.
_TOLERANCES: Final[dict[torch.dtype, tuple[float, float]]] = {
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (1e-2, 1e-2),
    torch.float32: (1e-4, 1e-5),
    torch.float64: (1e-7, 1e-7),
}

_LENGTH: Final = struct.Struct("<I")


def tensor_from(data: Buffer, datatype: DataType, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor over writable protocol bytes; it shares their memory, except for BOOL.

    A byte of BOOL may be anything on the wire, and anything but 0 and 1 in a bool tensor is
    undefined behaviour in torch's kernels, so those are normalised into memory of their own.

    :raises RuntimeError: if the number of bytes does not fit the shape.
    """
    if not len(data):  # frombuffer refuses empty buffers
        return torch.empty(shape, dtype=DTYPES[datatype])
    if datatype is DataType.BOOL:
        return torch.frombuffer(data, dtype=torch.uint8).view(shape).ne(0)
    return torch.frombuffer(data, dtype=DTYPES[datatype]).view(shape)


def value_from(
    name: str, data: Buffer, datatype: DataType, shape: tuple[int, ...], device: torch.device
) -> Value:
    """Return a value of its own memory, on ``device``, made of protocol bytes.

    :raises InputRejected: if BYTES are malformed.
    """
    if datatype is DataType.BYTES:
        return decode_texts(name, data, math.prod(shape))
    return tensor_from(bytearray(data), datatype, shape).to(device)


def decode_texts(name: str, data: Buffer, count: int) -> list[str]:
    """Return the ``count`` elements of BYTES, each behind its length, as texts.

    :param name: the input's name, for the error.
    :raises InputRejected: if the bytes are not that many elements, or one is not UTF-8.
    """
    raw = bytes(data)
    texts, position, end = [], 0, len(raw)
    for index in range(count):
        start = position + _LENGTH.size
        if start > end:
            break
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > end:
            break
        try:
            texts.append(raw[start:position].decode())
        except UnicodeDecodeError as exc:
            # This model takes texts: torch refuses other bytes with an error that names nothing.
            msg = f"input {name!r}: element {index} is not UTF-8 (byte {exc.start} of it)"
            raise InputRejected(msg) from None
    if len(texts) != count or position != end:
        msg = f"input {name!r}: expected {count} elements, each behind its length, got {end} bytes"
        raise InputRejected(msg)
    return texts


def encode_texts(texts: Iterable[str]) -> list[bytes]:
    """Return each text as one element of BYTES: its length, then its UTF-8."""
    encoded = [text.encode() for text in texts]
    return [_LENGTH.pack(len(element)) + element for element in encoded]


def pad(values: Sequence[Value | None], rows: int, bucket: int) -> list[Value | None]:
    """Return values of ``bucket`` rows: those given, and the last row as often as it takes.

    Repeating a row is safe where zeros are not: a row that was asked for is a row that the model
    can compute, and its values are finite and in range.
    """
    if bucket == rows:
        return list(values)
    extra = bucket - rows
    padded: list[Value | None] = []
    for value in values:
        if isinstance(value, list):
            padded.append(value + value[-(len(value) // rows) :] * extra if value else value)
        elif value is None:
            padded.append(None)
        else:
            padded.append(torch.cat((value, value[-1:].expand(extra, *value.shape[1:]))))
    return padded


def compare(expected: Value, actual: Value) -> tuple[bool, float]:
    """Return whether two values are equal within the tolerance, and their largest difference.

    The absolute tolerance is relative to the largest element: sums of large terms that cancel are
    no more exact than their terms. NaN equals NaN and an infinity itself; where the values cannot
    be compared at all the difference is infinite.
    """
    if isinstance(expected, list) or isinstance(actual, list):
        same = expected == actual if isinstance(actual, list) else False
        return same, 0.0 if same else math.inf
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False, math.inf
    if not expected.numel():
        return True, 0.0
    left, right = expected.double(), actual.double()
    same_elements = (left == right) | (left.isnan() & right.isnan())
    difference = torch.where(same_elements, 0.0, (left - right).abs())
    largest = float(difference.max())
    if math.isnan(largest):  # NaN on one side only
        return False, math.inf
    if expected.dtype not in _TOLERANCES:
        # Doubles cannot tell large integers apart.
        return torch.equal(expected, actual), largest
    rtol, atol = _TOLERANCES[expected.dtype]
    finite = left.isfinite()
    scale = max(1.0, float(torch.where(finite, left.abs(), 0.0).max()))
    bound = torch.where(finite, rtol * left.abs() + atol * scale, 0.0)
    return bool((difference <= bound).all()), largest
