"""Typed tensor contents (``InferTensorContents``) to raw bytes.

Only the requests that were written by hand come this way: every client library sends raw bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest

if TYPE_CHECKING:
    from jitney_client.protocol.inference import InferTensorContents, ModelInferRequest

__all__ = ["raw_of"]

FIELDS: Final = {
    "bool_contents": (DataType.BOOL,),
    "int_contents": (DataType.INT32, DataType.INT8, DataType.INT16),
    "int64_contents": (DataType.INT64,),
    "uint_contents": (DataType.UINT32, DataType.UINT8, DataType.UINT16),
    "uint64_contents": (DataType.UINT64,),
    "fp32_contents": (DataType.FP32,),
    "fp64_contents": (DataType.FP64,),
    "bytes_contents": (DataType.BYTES,),
}
"""The datatypes that each field may carry; the first one names the field in error texts."""

NUMPY: Final = {
    DataType.BOOL: "?",
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


def raw_of(tensor: ModelInferRequest.InferInputTensor, datatype: DataType, model: str) -> bytes:
    """Return the typed contents of an input as the protocol's raw layout.

    :raises InvalidRequest: when two fields are filled, the wrong one is, or a value is outside the
        range of its type (Triton cuts such values off without a word).
    """
    contents = tensor.contents
    filled = [name for name in FIELDS if len(getattr(contents, name))]
    for name in filled:
        if datatype not in FIELDS[name]:
            msg = (
                f"unexpected explicit tensor data for input tensor '{tensor.name}' for model "
                f"'{model}' of type '{FIELDS[name][0].value}', expected datatype "
                f"'{datatype.value}'"
            )
            raise InvalidRequest(msg)
    if not filled:
        return b""  # an empty tensor, or nothing came: the length check tells
    return _encode(contents, filled[0], datatype, tensor.name, model)


def _encode(
    contents: InferTensorContents, field: str, datatype: DataType, name: str, model: str
) -> bytes:
    values = getattr(contents, field)
    if datatype is DataType.BYTES:
        parts: list[bytes] = []
        for value in values:
            parts += (struct.pack("<I", len(value)), value)
        return b"".join(parts)
    wide = np.array(values)
    narrow = wide.astype(NUMPY[datatype])
    if datatype.is_integer and not np.array_equal(wide, narrow):
        msg = (
            f"a value of input '{name}' for model '{model}' is outside the range of "
            f"{datatype.value}"
        )
        raise InvalidRequest(msg)
    return narrow.tobytes()
