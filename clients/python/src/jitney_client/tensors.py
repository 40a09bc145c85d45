"""NumPy arrays to the protocol's tensors, and back.

Raw layout: elements row by row, little-endian, without padding. A BYTES element is its length
(4 bytes, little-endian) followed by its bytes.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney_client.protocol.inference import InferTensorContents

    Array = np.ndarray[Any, np.dtype[Any]]
    Buffer = bytes | memoryview

__all__ = ["DTYPES", "Bfloat16", "Tensor", "decode", "decode_typed", "encode", "encode_view"]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES: Final = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items()}
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
TYPED_FIELDS: Final = {
    "BOOL": ("bool_contents", np.dtype(np.bool_)),
    "UINT8": ("uint_contents", np.dtype(np.uint32)),
    "UINT16": ("uint_contents", np.dtype(np.uint32)),
    "UINT32": ("uint_contents", np.dtype(np.uint32)),
    "UINT64": ("uint64_contents", np.dtype(np.uint64)),
    "INT8": ("int_contents", np.dtype(np.int32)),
    "INT16": ("int_contents", np.dtype(np.int32)),
    "INT32": ("int_contents", np.dtype(np.int32)),
    "INT64": ("int64_contents", np.dtype(np.int64)),
    "FP32": ("fp32_contents", np.dtype(np.float32)),
    "FP64": ("fp64_contents", np.dtype(np.float64)),
}
LENGTH: Final = struct.Struct("<I")


class Tensor(NamedTuple):
    """A tensor as the protocol carries it: the datatype's name, the shape, the raw bytes."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes


class TensorView(NamedTuple):
    """Likewise, where the bytes may be those of somebody's array."""

    datatype: str
    shape: tuple[int, ...]
    data: Buffer

    @property
    def nbytes(self) -> int:
        """The length of the data in bytes."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


class Bfloat16:
    """An array to be sent as BF16, which NumPy does not have.

    ``values`` are float16, float32 or float64 of any shape; each is rounded to the nearest
    bfloat16, ties to even (float64 by way of float32). Arrays of ``ml_dtypes.bfloat16`` need no
    wrapper. Replies come back as float32, which holds every bfloat16 exactly: the type of a result
    must not depend on whether ``ml_dtypes`` happens to be installed.

    :raises TypeError: when ``values`` are not floating point.
    """

    __slots__ = ("bits",)

    def __init__(self, values: Array) -> None:
        if values.dtype.kind != "f":
            msg = f"Bfloat16 takes float16, float32 or float64, got {values.dtype}"
            raise TypeError(msg)
        # Beyond float32's range becomes infinite: bfloat16 has the same range.
        with np.errstate(over="ignore", invalid="ignore"):
            wide = values.astype(np.float32, order="C").view(np.uint32)
            # Adding just under half of the last kept bit (or just half, when that bit is set)
            # carries exactly where rounding goes up. NaN is kept apart: a carry would change it.
            rounded = (wide + (((wide >> 16) & 1) + np.uint32(0x7FFF))) >> 16
            bits = np.where(np.isnan(values), (wide >> 16) | np.uint32(0x40), rounded)
        self.bits: Array = bits.astype("<u2")


def encode(array: Array | Bfloat16) -> Tensor:
    """Return ``array`` as the protocol carries it, in C order.

    Arrays of bytes or text (dtypes ``S``, ``U`` and object) become BYTES, text in UTF-8. NumPy
    itself drops trailing zero bytes of dtype ``S``; use objects where they matter.

    :raises TypeError: when the protocol has no datatype for the array's, or for an object in it.
    """
    tensor = encode_view(array)
    return Tensor(tensor.datatype, tensor.shape, bytes(tensor.data))


def encode_view(array: Array | Bfloat16) -> TensorView:
    """Do the same without a copy where the array has the protocol's layout already.

    The data is then a view: who changes the array meanwhile, changes what is sent.

    :raises TypeError: as ``encode`` does.
    """
    if isinstance(array, Bfloat16):
        return TensorView("BF16", array.bits.shape, array.bits.data)
    try:
        dtype = array.dtype
    except AttributeError:
        msg = f"expected an array of NumPy, got {type(array).__name__}: numpy.asarray() makes one"
        raise TypeError(msg) from None
    name = _NAMES.get(dtype)
    if name is not None:
        # One of one byte has no order; of the others, the tables hold the little-endian ones.
        whole = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        return TensorView(name, array.shape, whole.data)
    if dtype.kind in "OSU":
        return TensorView("BYTES", array.shape, _join(array.ravel()))
    if dtype.name == "bfloat16":
        bits = array.view(np.uint16).astype("<u2", order="C")
        return TensorView("BF16", array.shape, bits.data)
    name = DATATYPES.get((dtype.kind, dtype.itemsize))
    if name is None:
        msg = (
            f"the protocol has no datatype for arrays of {dtype}: convert with .astype() to bool, "
            "an integer, float16, float32 or float64, or send texts or bytes"
        )
        raise TypeError(msg)
    return TensorView(name, array.shape, array.astype(DTYPES[name], order="C").data)


def _join(elements: Iterable[object]) -> bytes:
    parts = []
    for element in elements:
        if isinstance(element, str):
            value = element.encode()
        elif isinstance(element, bytes):
            value = element
        else:
            msg = f"an object array holds a {type(element).__name__}, expected bytes or str"
            raise TypeError(msg)
        parts += [LENGTH.pack(len(value)), value]
    return b"".join(parts)


def decode(tensor: Tensor | TensorView) -> Array:
    """Return the array of a raw tensor.

    It is a read-only view of ``tensor.data``, except for BYTES (a new array of ``bytes`` objects)
    and BF16 (a new array of float32).

    :raises ValueError: when datatype, shape and bytes do not agree.
    """
    datatype, shape, data = tensor
    dtype = DTYPES.get(datatype)
    if dtype is None:
        return _decode_other(datatype, shape, data)
    if len(data) != math.prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
        _check_size(datatype, shape, len(data), dtype.itemsize)
    # One call instead of two, frombuffer and reshape.
    return np.ndarray(shape, dtype, data)


def _decode_other(datatype: str, shape: tuple[int, ...], data: Buffer) -> Array:
    if datatype == "BYTES":
        return _objects(_split(bytes(data)), shape)
    if datatype != "BF16":
        msg = f"unknown datatype {datatype!r}"
        raise ValueError(msg)
    _check_size(datatype, shape, len(data), 2)
    bits: Array = np.frombuffer(data, "<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _check_size(datatype: str, shape: tuple[int, ...], size: int, itemsize: int) -> None:
    expected = _count(shape) * itemsize
    if size != expected:
        msg = f"{datatype} of shape {list(shape)} has {expected} bytes, got {size}"
        raise ValueError(msg)


def decode_typed(datatype: str, shape: Sequence[int], contents: InferTensorContents) -> Array:
    """Return the array of a tensor whose elements are in typed fields, as some servers reply.

    :raises ValueError: when datatype, shape and contents do not agree.
    """
    if datatype == "BYTES":
        return _objects(list(contents.bytes_contents), shape)
    if datatype not in TYPED_FIELDS:
        msg = f"{datatype!r} has no typed contents"
        raise ValueError(msg)
    field, dtype = TYPED_FIELDS[datatype]
    wide: Array = np.array(getattr(contents, field), dtype)
    flat: Array = wide.astype(DTYPES[datatype])
    if wide.dtype.itemsize != flat.dtype.itemsize and (wide != flat).any():
        msg = f"an element is out of the range of {datatype}"
        raise ValueError(msg)
    if len(flat) != _count(shape):
        msg = f"{datatype} of shape {list(shape)} has {_count(shape)} elements, got {len(flat)}"
        raise ValueError(msg)
    return flat.reshape(shape)


def _count(shape: Sequence[int]) -> int:
    if shape and min(shape) < 0:
        msg = f"the shape {list(shape)} has a negative size"
        raise ValueError(msg)
    return math.prod(shape)


def _split(data: bytes) -> list[bytes]:
    elements = []
    position = 0
    while position < len(data):
        start = position + LENGTH.size
        if start > len(data):
            msg = "BYTES end within the length of an element"
            raise ValueError(msg)
        position = start + LENGTH.unpack_from(data, start - LENGTH.size)[0]
        if position > len(data):
            msg = "BYTES end within an element"
            raise ValueError(msg)
        elements.append(data[start:position])
    return elements


def _objects(elements: Sequence[bytes], shape: Sequence[int]) -> Array:
    count = _count(shape)
    if len(elements) != count:
        msg = f"BYTES of shape {list(shape)} have {count} elements, got {len(elements)}"
        raise ValueError(msg)
    # Filled, not converted: np.array(elements) would make dtype S and drop trailing zero bytes.
    array: Array = np.empty(count, object)
    array[:] = elements
    return array.reshape(shape)
