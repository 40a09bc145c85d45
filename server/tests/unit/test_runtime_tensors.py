"""Protocol bytes, torch values, and their comparison."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import InputRejected
from jitney.runtime.tensors import (
    DTYPES,
    Value,
    compare,
    decode_texts,
    encode_texts,
    pad,
    tensor_from,
)


@pytest.mark.parametrize("datatype", [d for d in DataType if d is not DataType.BYTES])
def test_every_datatype_reads_its_own_bytes(datatype: DataType) -> None:
    """The bytes of a tensor make an equal tensor of the declared shape."""
    tensor = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(DTYPES[datatype])
    data = bytearray(tensor.view(torch.uint8).numpy().tobytes())

    made = tensor_from(data, datatype, (3, 2))

    assert (made.dtype, made.tolist()) == (tensor.dtype, tensor.tolist())
    assert len(data) == 6 * datatype.item_size


def test_a_bool_is_true_for_every_byte_but_zero() -> None:
    """Bytes beyond 1 never reach a bool tensor."""
    made = tensor_from(bytearray([0, 1, 2, 255]), DataType.BOOL, (4,))

    assert made.view(torch.uint8).tolist() == [0, 1, 1, 1]


def test_no_bytes_make_a_tensor_without_elements() -> None:
    """torch.frombuffer refuses empty buffers; this does not."""
    assert tensor_from(b"", DataType.FP32, (2, 0)).shape == (2, 0)


@given(st.lists(st.text()))
def test_texts_survive_the_protocol_form(texts: list[str]) -> None:
    """Decoding what was encoded gives the same texts."""
    texts = [t.encode(errors="ignore").decode() for t in texts]  # hypothesis likes surrogates

    assert decode_texts("t", b"".join(encode_texts(texts)), len(texts)) == texts


@given(st.binary(), st.integers(0, 5))
def test_malformed_texts_are_the_requests_fault(data: bytes, count: int) -> None:
    """Any bytes either are ``count`` texts, or raise InputRejected."""
    try:
        texts = decode_texts("t", data, count)
    except InputRejected:
        return
    assert b"".join(encode_texts(texts)) == data


def test_bytes_that_are_no_text_are_named() -> None:
    """The text says which element of which input is wrong."""
    data = struct.pack("<I1sI2s", 1, b"a", 2, b"b\xff")

    with pytest.raises(InputRejected, match=r"input 'words': element 1 is not UTF-8 \(byte 1"):
        decode_texts("words", data, 2)


def test_padding_repeats_the_last_row() -> None:
    """Tensors and texts of several elements per row are padded alike."""
    padded = pad([torch.tensor([[1], [2]]), ["a", "b", "c", "d"], None], 2, 4)

    assert isinstance(padded[0], torch.Tensor)
    assert padded[0].tolist() == [[1], [2], [2], [2]]
    assert padded[1:] == [["a", "b", "c", "d", "c", "d", "c", "d"], None]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (torch.tensor([1.0]), torch.tensor([1.00005]), True),
        (torch.tensor([1.0]), torch.tensor([1.001]), False),
        (torch.tensor([1e4, 0.0]), torch.tensor([1e4, 0.01]), True),
        (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.01]), False),
        (torch.tensor([NAN, INF]), torch.tensor([NAN, INF]), True),
        (torch.tensor([INF]), torch.tensor([1.0]), False),
        (torch.tensor([1.0]), torch.tensor([NAN]), False),
        (torch.tensor([INF]), torch.tensor([-INF]), False),
        (torch.tensor([1 << 60]), torch.tensor([(1 << 60) + 1]), False),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64), False),
        (torch.ones(2), torch.ones(2, 1), False),
        (torch.ones(0, 3), torch.ones(0, 3), True),
        (torch.ones(2, dtype=torch.uint16), torch.ones(2, dtype=torch.uint16), True),
        (torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool), False),
        (torch.ones(2).half(), torch.full((2,), 1.005).half(), True),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a"], torch.ones(1), False),
    ],
)
def test_values_are_compared_within_their_types_tolerance(
    left: Value, right: Value, *, expected: bool
) -> None:
    """Floats have a tolerance relative to the largest element; all else is exact."""
    assert compare(left, right)[0] is expected


def test_the_largest_difference_is_told() -> None:
    """It is absolute, in the tensor's own unit."""
    assert compare(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 4.0])) == (False, 2.0)
