"""Typed tensor contents (``InferTensorContents``) to raw bytes.

Only the requests that were written by hand come this way: every client library sends raw bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.strings import LENGTH, run_length
from jitney.transport.framing import read_varint
from jitney_client.protocol.message import DecodeError

if TYPE_CHECKING:
    from jitney.types import Bytes
    from jitney_client.protocol.inference import InferTensorContents, ModelInferRequest

__all__ = ["Allowance", "raw_of", "raw_of_wire"]

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


MAX_CONTENTS: Final = 1 << 20
"""Bytes of a request's contents that are parsed by protobuf, which makes a number of every value,
all inputs together."""
MAX_SINGLES: Final = 1 << 18
"""Strings of a request that are copied one by one, on the event loop, at about a quarter of a
microsecond each, all inputs together; those in runs of equally long ones take a few nanoseconds."""
STRETCH: Final = 1024
"""Strings that are copied one by one before a run is looked for again."""
FEW: Final = 64
"""Strings of one length that are worth a copy of their own."""
STRING: Final = 8 << 3 | 2
"""The tag of an element of ``bytes_contents``."""
PACKED: Final = {DataType.FP32: 6 << 3 | 2, DataType.FP64: 7 << 3 | 2}
"""The tags of fields whose packed form is the raw layout."""


class Allowance:
    """What the inputs of one request may still cost, after those before.

    For each input by itself the limits would be 64 times as high, and nobody else is served
    meanwhile.
    """

    __slots__ = ("nbytes", "strings")

    def __init__(self) -> None:
        self.nbytes = MAX_CONTENTS
        self.strings = MAX_SINGLES


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
            parts += (LENGTH.pack(len(value)), value)
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


def raw_of_wire(
    contents: memoryview,
    tensor: ModelInferRequest.InferInputTensor,
    datatype: DataType,
    model: str,
    allowance: Allowance,
) -> Bytes:
    """Return typed contents that were not parsed, since they are large, as the raw layout.

    Floating point numbers are that layout already, and texts are put into it run by run. Whole
    numbers, which have as many bytes as they need, go through protobuf and are limited.

    :param allowance: of the request; what this input costs is taken off.
    :raises InvalidRequest: as ``raw_of``, and when they are malformed or over the limits.
    """
    tag = PACKED.get(datatype)
    if tag is not None and len(contents) and contents[0] == tag:
        try:
            size, at = read_varint(contents, 1)
        except IndexError:
            raise _malformed() from None
        if at + size == len(contents):
            return contents[at:]
    if datatype is DataType.BYTES:
        raw = _raw_strings(bytes(contents), tensor.name, model, allowance)
        if raw is not None:
            return raw
    if len(contents) > allowance.nbytes:
        of = "input" if len(contents) > MAX_CONTENTS else "the inputs up to"
        msg = (
            f"the contents of {of} '{tensor.name}' for model '{model}' have more than "
            f"{MAX_CONTENTS} bytes; send them as raw_input_contents"
        )
        raise InvalidRequest(msg)
    allowance.nbytes -= len(contents)
    try:
        tensor.contents.MergeFromString(bytes(contents))
    except DecodeError:
        raise _malformed() from None
    return raw_of(tensor, datatype, model)


def _raw_strings(wire: bytes, name: str, model: str, allowance: Allowance) -> bytes | None:
    """Return strings in the raw layout, None where there is anything else beside them."""
    parts: list[Bytes] = []
    at, end, singles = 0, len(wire), 0
    pack = LENGTH.pack
    try:
        while at < end:
            length = wire[at + 1]
            step = 2 + length
            # Tag and length, together, for as long as they repeat themselves.
            begin = wire[at] | length << 8
            count = run_length(wire, at, step, (end - at) // step, "<u2", begin)
            if wire[at] == STRING and length < 0x80 and count > FEW:  # noqa: PLR2004  # one byte
                last = at + count * step
                made = np.empty((count, LENGTH.size + length), np.uint8)
                made[:, : LENGTH.size] = np.frombuffer(LENGTH.pack(length), np.uint8)
                made[:, LENGTH.size :] = np.frombuffer(wire[at:last], np.uint8).reshape(-1, step)[
                    :, 2:
                ]
                parts.append(made.data)
                at = last
                singles += FEW
                continue
            for _ in range(STRETCH):
                if at == end:
                    break
                if wire[at] != STRING:
                    return None
                length, start = wire[at + 1], at + 2
                if length >= 0x80:  # noqa: PLR2004  # more bytes follow
                    length, start = read_varint(wire, at + 1)
                at = start + length
                if at > end:
                    raise _malformed()
                parts += (pack(length), wire[start:at])
                singles += 1
            if singles > allowance.strings:
                alone = singles > MAX_SINGLES
                of, have = ("input", "has") if alone else ("the inputs up to", "have")
                msg = (
                    f"{of} '{name}' for model '{model}' {have} more than {MAX_SINGLES} strings of "
                    "different lengths; send them as raw_input_contents"
                )
                raise InvalidRequest(msg)
    except IndexError:
        raise _malformed() from None
    allowance.strings -= singles
    return b"".join(parts)


def _malformed() -> InvalidRequest:
    return InvalidRequest("the message is not a ModelInferRequest: it ends inside a field")
