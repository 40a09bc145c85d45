"""Typed contents become the raw layout, value by value, or are refused."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.transport.contents import FIELDS, raw_of
from jitney_client.protocol import inference as pb

FORMATS = {
    DataType.BOOL: "?",
    DataType.INT8: "b",
    DataType.INT16: "h",
    DataType.INT32: "i",
    DataType.INT64: "q",
    DataType.UINT8: "B",
    DataType.UINT16: "H",
    DataType.UINT32: "I",
    DataType.UINT64: "Q",
    DataType.FP32: "f",
    DataType.FP64: "d",
}
FIELD_OF = {datatype: field for field, datatypes in FIELDS.items() for datatype in datatypes}


def values_of(datatype: DataType) -> st.SearchStrategy[Any]:
    """Return a strategy of values that a datatype can hold."""
    if datatype is DataType.BOOL:
        return st.booleans()
    if datatype.is_float:
        return st.floats(width=32 if datatype is DataType.FP32 else 64)
    bits = 8 * datatype.item_size
    if datatype.value.startswith("U"):
        return st.integers(0, (1 << bits) - 1)
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


def tensor(**contents: Any) -> Any:
    """Return an input ``x`` with typed contents."""
    return pb.ModelInferRequest.InferInputTensor(
        name="x", contents=pb.InferTensorContents(**contents)
    )


@given(st.data(), st.sampled_from(list(FORMATS)))
def test_every_value_becomes_its_raw_bytes(data: st.DataObject, datatype: DataType) -> None:
    """Whatever values of a datatype are written, the bytes are those of the raw form."""
    values = data.draw(st.lists(values_of(datatype), min_size=1, max_size=8))

    raw = raw_of(tensor(**{FIELD_OF[datatype]: values}), datatype, "m")

    assert len(values) * datatype.item_size == len(raw)
    read = struct.unpack(f"<{len(values)}{FORMATS[datatype]}", raw)
    for expected, actual in zip(values, read, strict=True):
        assert expected == actual or (math.isnan(expected) and math.isnan(actual))


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_strings_get_their_lengths(values: list[bytes]) -> None:
    """Each element of bytes_contents is preceded by its length, whatever its bytes."""
    expected = b"".join(struct.pack("<I", len(value)) + value for value in values)

    assert expected == raw_of(tensor(bytes_contents=values), DataType.BYTES, "m")


def test_no_values_are_no_bytes() -> None:
    """An empty contents message is an empty tensor; the length check says if that is right."""
    assert b"" == raw_of(tensor(), DataType.FP32, "m")


@pytest.mark.parametrize(
    ("field", "datatype", "value"),
    [
        ("int_contents", DataType.INT8, 128),
        ("int_contents", DataType.INT8, -129),
        ("int_contents", DataType.INT16, 1 << 15),
        ("uint_contents", DataType.UINT8, 256),
        ("uint_contents", DataType.UINT16, 1 << 16),
    ],
)
def test_a_value_outside_its_range_is_refused(field: str, datatype: DataType, value: int) -> None:
    """A value is not cut to the low bytes: the text names the input and the type."""
    with pytest.raises(InvalidRequest) as caught:
        raw_of(tensor(**{field: [1, value]}), datatype, "m")

    assert f"a value of input 'x' for model 'm' is outside the range of {datatype.value}" == str(
        caught.value
    )


@pytest.mark.parametrize("datatype", DataType)
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_carries_its_own_datatypes_only(field: str, datatype: DataType) -> None:
    """The field of another datatype is refused with the protocol's text; FP16 has no field."""
    value = b"a" if field == "bytes_contents" else 1
    wrong = tensor(**{field: [value]})
    if datatype in FIELDS[field]:
        assert raw_of(wrong, datatype, "m")
        return

    with pytest.raises(InvalidRequest) as caught:
        raw_of(wrong, datatype, "m")

    assert (
        "unexpected explicit tensor data for input tensor 'x' for model 'm' of type "
        f"'{FIELDS[field][0].value}', expected datatype '{datatype.value}'"
    ) == str(caught.value)


def test_two_filled_fields_are_refused() -> None:
    """A tensor has one kind of contents; the error names the one that is wrong."""
    with pytest.raises(InvalidRequest) as caught:
        raw_of(tensor(fp32_contents=[1.0], int_contents=[1]), DataType.FP32, "m")

    assert "of type 'INT32', expected datatype 'FP32'" in str(caught.value)
