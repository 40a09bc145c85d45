"""Arrays to tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jitney_client.protocol import inference
from jitney_client.tensors import DTYPES, Bfloat16, Tensor, decode, decode_typed, encode

Array = np.ndarray[Any, np.dtype[Any]]

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: st.tuples(st.just(name), hnp.arrays(DTYPES[name], SHAPES))
)
OBJECTS = hnp.arrays(object, SHAPES, elements=st.binary(max_size=6), fill=st.nothing())
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32))


@given(NUMBERS)
def test_numbers_survive_the_round_trip(case: tuple[str, Array]) -> None:
    """Every number's datatype, shape and bits come back, empty arrays and scalars included."""
    name, array = case
    tensor = encode(array)
    actual = decode(tensor)
    assert (name, array.shape, array.tobytes()) == (tensor.datatype, actual.shape, actual.tobytes())
    assert array.dtype == actual.dtype


@given(NUMBERS)
def test_layout_is_row_by_row_whatever_the_strides(case: tuple[str, Array]) -> None:
    """A transposed view is sent in the order of its own indices."""
    _, array = case
    np.testing.assert_array_equal(array.T, decode(encode(array.T)))


@pytest.mark.parametrize("dtype", [">i2", ">u8", ">f4", ">f8"])
def test_bytes_are_little_endian(dtype: str) -> None:
    """Big-endian arrays are swapped before they leave."""
    array = np.array([1, 258], dtype)
    assert array.astype(dtype.replace(">", "<")).tobytes() == encode(array).data


@given(OBJECTS)
def test_bytes_survive_the_round_trip(array: Array) -> None:
    """Any bytes come back, trailing zeros and empty strings included."""
    actual = decode(encode(array))
    assert array.shape == actual.shape
    assert array.ravel().tolist() == actual.ravel().tolist()


@given(hnp.arrays(object, SHAPES, elements=st.text(max_size=4), fill=st.nothing()))
def test_texts_travel_as_utf8(array: Array) -> None:
    """Objects of type str are sent as UTF-8 and come back as bytes."""
    expected = [text.encode() for text in array.ravel()]
    assert expected == decode(encode(array)).ravel().tolist()


def test_fixed_width_strings_are_bytes() -> None:
    """The dtypes S and U are sent as BYTES, each element with its length before it."""
    expected = Tensor("BYTES", (2,), b"\x01\x00\x00\x00a\x02\x00\x00\x00bc")
    assert expected == encode(np.array([b"a", b"bc"]))
    assert expected == encode(np.array(["a", "bc"]))


@given(FLOATS)
def test_bfloat16_rounds_to_nearest_even(values: Array) -> None:
    """Wrapped floats become what ml_dtypes makes of them, and infinities stay infinite."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(over="ignore"):
        rounded = values.astype(ml_dtypes.bfloat16)
    expected = rounded.astype(np.float32)
    actual = decode(encode(Bfloat16(values)))
    np.testing.assert_array_equal(expected, actual)
    assert ("BF16", values.shape) == encode(Bfloat16(values))[:2]
    np.testing.assert_array_equal(expected, decode(encode(rounded)))


def test_bfloat16_keeps_nan() -> None:
    """A NaN whose payload lies only in the lower bits does not become infinite."""
    values = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(decode(encode(Bfloat16(values)))).all()


def test_bfloat16_takes_floats_only() -> None:
    """Integers are not silently made into bfloat16."""
    with pytest.raises(TypeError, match="float16, float32 or float64, got int64"):
        Bfloat16(np.arange(3, dtype=np.int64))


@pytest.mark.parametrize("dtype", [np.complex64, "M8[s]", np.longdouble])
def test_foreign_dtypes_are_refused(dtype: str) -> None:
    """An array that the protocol has no datatype for is a TypeError that says what to do."""
    with pytest.raises(TypeError, match=r"convert with \.astype"):
        encode(np.zeros(2, dtype))


def test_foreign_objects_are_refused() -> None:
    """An object array may only hold bytes and str."""
    with pytest.raises(TypeError, match="holds a float, expected bytes or str"):
        encode(np.array([b"a", 1.5], object))


def test_numbers_are_decoded_without_a_copy() -> None:
    """A decoded array is a read-only view of the bytes it came in."""
    data = bytes(8)
    array = decode(Tensor("FP32", (2,), data))
    assert array.base is not None
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor("FP32", (2, 2), bytes(15)), r"FP32 of shape \[2, 2\] has 16 bytes, got 15"),
        (Tensor("FP32", (-1,), b""), "negative size"),
        (Tensor("FP8", (1,), b"\0"), "unknown datatype 'FP8'"),
        (Tensor("BYTES", (1,), b"\1\0\0"), "within the length"),
        (Tensor("BYTES", (1,), b"\2\0\0\0a"), "within an element"),
        (Tensor("BYTES", (2,), b"\1\0\0\0a"), r"\[2\] have 2 elements, got 1"),
    ],
)
def test_contradictions_are_refused(tensor: Tensor, text: str) -> None:
    """Datatype, shape and bytes that do not agree are a ValueError that names the sizes."""
    with pytest.raises(ValueError, match=text):
        decode(tensor)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -1.0]),
        ("FP64", "fp64_contents", [0.1, 1e300]),
        ("BYTES", "bytes_contents", [b"", b"a\0"]),
    ],
)
def test_typed_contents_are_read(datatype: str, field: str, values: list[Any]) -> None:
    """Replies with typed fields, as other servers send them, give the same arrays."""
    contents = inference.InferTensorContents()
    getattr(contents, field).extend(values)
    actual = decode_typed(datatype, [2, 1], contents)
    assert ((2, 1), values) == (actual.shape, actual.ravel().tolist())


@pytest.mark.parametrize(
    ("datatype", "values", "text"),
    [
        ("INT8", [200], "out of the range of INT8"),
        ("INT8", [1, 2], "has 1 elements, got 2"),
        ("FP16", [], "'FP16' has no typed contents"),
    ],
)
def test_wrong_typed_contents_are_refused(datatype: str, values: list[int], text: str) -> None:
    """Typed fields that do not fit the datatype or the shape are a ValueError."""
    contents = inference.InferTensorContents(int_contents=values)
    with pytest.raises(ValueError, match=text):
        decode_typed(datatype, [1], contents)
