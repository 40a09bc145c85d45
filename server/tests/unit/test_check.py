"""The contract of a model, checked per request: literal texts, and shapes that mean harm."""

from __future__ import annotations

import math
import struct
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import BatchTooLarge, InvalidRequest
from jitney.repository.check import CLASSIFIABLE, Checked, check_data, check_header
from jitney.signature import Signature, TensorSpec
from jitney.types import RequestHeader, TensorHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

FP32, INT32, INT64, TEXT = DataType.FP32, DataType.INT32, DataType.INT64, DataType.BYTES

IMAGE = Signature(
    (TensorSpec("image", FP32, ("N", 3, -1)),),
    (TensorSpec("score", FP32, ("N", 10)), TensorSpec("label", INT64, ("N",))),
)
THREE = Signature(
    tuple(TensorSpec(f"INPUT{i}", INT32, ("N", 16)) for i in range(3)),
    (TensorSpec("OUTPUT0", INT32, ("N", 16)),),
)
TOKENS = Signature(
    (TensorSpec("ids", INT64, ("N", "L")), TensorSpec("mask", INT64, ("N", "L"))),
    (TensorSpec("vector", FP32, ("N", 384)),),
)
TEXTS = Signature((TensorSpec("text", TEXT, ("N", 2)),), (TensorSpec("y", FP32, ("N",)),))
PLAIN = Signature((TensorSpec("x", FP32, (2, -1)),), (TensorSpec("y", FP32, (-1,)),))
SCALAR = Signature((TensorSpec("x", FP32, ()),), (TensorSpec("y", FP32, ()),))


def header(
    *tensors: tuple[str, DataType, tuple[int, ...]], outputs: tuple[str, ...] = ()
) -> RequestHeader:
    """Return the header of a request to the model ``m``."""
    return RequestHeader("m", "", tuple(TensorHeader(*tensor) for tensor in tensors), outputs)


def refusal(request: RequestHeader, signature: Signature, max_rows: int = 8) -> str:
    """Return the text with which a header is refused."""
    with pytest.raises(InvalidRequest) as caught:
        check_header(request, signature, max_rows)
    return str(caught.value)


def texts(*elements: bytes) -> bytes:
    """Return a BYTES tensor."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


# -- what is accepted ---------------------------------------------------------------------------


def test_everything_that_follows_from_a_header() -> None:
    """Inputs in another order than the model's: rows, dims, order and sizes are worked out."""
    request = header(("mask", INT64, (2, 7)), ("ids", INT64, (2, 7)))

    assert Checked(
        rows=2, dims=((7,), (7,)), order=(1, 0), outputs=(0,), sizes=(112, 112)
    ) == check_header(request, TOKENS, 8)


def test_requested_outputs_come_in_the_models_order() -> None:
    """Asking for label, score gives score, label; asking for one gives one."""
    image = ("image", FP32, (1, 3, 4))

    both = check_header(header(image, outputs=("label", "score")), IMAGE, 8)
    one = check_header(header(image, outputs=("label",)), IMAGE, 8)

    assert ((0, 1), (1,)) == (both.outputs, one.outputs)


def test_without_batch_dimension_a_request_is_one_row() -> None:
    """The first dimension is like any other then, and no batch limit applies."""
    checked = check_header(header(("x", FP32, (2, 100))), PLAIN, 1)

    assert Checked(1, ((2, 100),), (0,), (0,), (800,)) == checked


def test_a_scalar_is_one_element() -> None:
    """An empty shape has one element."""
    assert (4,) == check_header(header(("x", FP32, ())), SCALAR, 1).sizes


def test_a_dimension_of_zero_is_a_tensor_without_elements() -> None:
    """Where a dimension varies it may be 0, and 0 bytes are expected."""
    request = header(("image", FP32, (2, 3, 0)))

    checked = check_header(request, IMAGE, 8)

    assert (0,) == checked.sizes
    assert 0 == check_data(request, checked.sizes, [b""])


def test_bytes_count_elements_and_are_summed() -> None:
    """A BYTES tensor is walked; empty, long and multi-byte texts are elements."""
    request = header(("text", TEXT, (2, 2)))
    data = texts(b"", b"a" * 1000, "ü".encode(), b"\0")

    checked = check_header(request, TEXTS, 8)

    assert (-5,) == checked.sizes
    assert len(data) == check_data(request, checked.sizes, [memoryview(data)])


# -- literal texts ------------------------------------------------------------------------------


def test_unknown_input() -> None:
    """An input that the model does not have."""
    request = header(("image", FP32, (1, 3, 4)), ("extra", FP32, (1,)))

    assert "unexpected inference input 'extra' for model 'm'" == refusal(request, IMAGE)


def test_missing_inputs() -> None:
    """Inputs that are missing, with no blanks between the names."""
    assert (
        "expected 3 inputs but got 1 inputs for model 'm'. Got input(s) ['INPUT0'], but missing "
        "required input(s) ['INPUT1','INPUT2']. Please provide all required input(s)."
    ) == refusal(header(("INPUT0", INT32, (1, 16))), THREE)


def test_no_inputs_at_all() -> None:
    """An empty list of names is []."""
    assert (
        "expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing "
        "required input(s) ['image']. Please provide all required input(s)."
    ) == refusal(header(), IMAGE)


def test_repeated_input() -> None:
    """The same input twice."""
    image = ("image", FP32, (1, 3, 4))

    assert "input 'image' already exists in request" == refusal(header(image, image), IMAGE)


def test_datatype() -> None:
    """Another datatype than the model's."""
    assert (
        "inference input 'image' data-type is 'INT32', but model 'm' expects 'FP32'"
    ) == refusal(header(("image", INT32, (1, 3, 4))), IMAGE)


@pytest.mark.parametrize("shape", [(1, 4, 17), (1, 3), (1, 3, 4, 1), (), (1, 3, -1), (-1, 3, 4)])
def test_shape(shape: tuple[int, ...]) -> None:
    """A fixed dimension, the rank or a sign that is not the model's."""
    got = ",".join(map(str, shape))

    assert (
        f"unexpected shape for input 'image' for model 'm'. Expected [-1,3,-1], got [{got}]."
    ) == refusal(header(("image", FP32, shape)), IMAGE)


def test_named_dimensions_must_agree() -> None:
    """Two inputs that share a named dimension have it in common."""
    assert (
        "unexpected shape for input 'mask' for model 'm'. Its dimension L is 8, but that of input "
        "'ids' is 7."
    ) == refusal(header(("ids", INT64, (1, 7)), ("mask", INT64, (1, 8))), TOKENS)


def test_too_many_rows() -> None:
    """More rows than the batch limit are BatchTooLarge."""
    with pytest.raises(BatchTooLarge) as caught:
        check_header(header(("image", FP32, (9, 3, 4))), IMAGE, 8)

    assert "inference request batch-size must be <= 8 for 'm', got 9" == str(caught.value)


def test_no_rows() -> None:
    """A batch of 0 rows is refused."""
    assert "inference request batch-size must be >= 1 for 'm', got 0" == refusal(
        header(("image", FP32, (0, 3, 4))), IMAGE
    )


def test_inputs_with_different_numbers_of_rows() -> None:
    """All inputs have the same number of rows."""
    assert (
        "input 'mask' batch-size does not match other inputs for 'm': 2 rows, the others have 1"
    ) == refusal(header(("ids", INT64, (1, 7)), ("mask", INT64, (2, 7))), TOKENS)


def test_unknown_output() -> None:
    """An output that the model does not have."""
    request = header(("image", FP32, (1, 3, 4)), outputs=("score", "Score"))

    assert "unexpected inference output 'Score' for model 'm'" == refusal(request, IMAGE)


def test_repeated_output() -> None:
    """The same output twice."""
    request = header(("image", FP32, (1, 3, 4)), outputs=("score", "score"))

    assert "output 'score' already exists in request" == refusal(request, IMAGE)


@pytest.mark.parametrize("length", [0, 31, 33, 40])
def test_byte_length(length: int) -> None:
    """The exact number of bytes must come."""
    request = header(("x", FP32, (2, 4)))

    with pytest.raises(InvalidRequest) as caught:
        check_data(request, check_header(request, PLAIN, 1).sizes, [bytes(length)])

    assert (
        f"input byte size mismatch for input 'x' for model 'm'. Expected 32, got {length}"
    ) == str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (texts(b"a"), "expected 2 string elements for inference input 'text' for model 'm', got 1"),
        (b"", "expected 2 string elements for inference input 'text' for model 'm', got 0"),
        (
            texts(b"a", b"b", b"c"),
            (
                "unexpected number of string elements 3 for inference input 'text' for model 'm', "
                "expecting 2"
            ),
        ),
        (
            texts(b"a", b"bcd")[:-1],
            (
                "incomplete string element 1 of inference input 'text' for model 'm': it ends 1 "
                "bytes behind the data"
            ),
        ),
        (
            texts(b"a") + b"\1\0\0",
            (
                "incomplete string element 1 of inference input 'text' for model 'm': it ends 1 "
                "bytes behind the data"
            ),
        ),
        (
            texts(b"a", b"\xff"),
            "string element 1 of input 'text' for model 'm' is not UTF-8",
        ),
    ],
)
def test_texts_of_string_elements(data: bytes, text: str) -> None:
    """Too few, too many, cut off and undecodable elements."""
    request = header(("text", TEXT, (1, 2)))

    with pytest.raises(InvalidRequest) as caught:
        check_data(request, check_header(request, TEXTS, 8).sizes, [data])

    assert text == str(caught.value)


def test_a_flood_of_empty_elements_is_not_walked_to_its_end() -> None:
    """A million elements where two are expected are noticed at the third."""
    request = header(("text", TEXT, (1, 2)))
    sizes = check_header(request, TEXTS, 8).sizes

    with pytest.raises(InvalidRequest) as caught:
        check_data(request, sizes, [bytes(4_000_000)])

    assert "unexpected number of string elements 3 " in str(caught.value)


@pytest.mark.parametrize(
    ("data", "expected", "text"),
    [
        (bytes(4), 1 << 24, None),
        (bytes(4 * ((1 << 24) + 1)), (1 << 24) + 1, "at most 16777216 are allowed in a request"),
        (bytes(4) * (10 << 20), 10 << 20, None),
        (texts(b"", b"a") * (1 << 19), 1 << 20, None),
        (
            texts(b"", b"a") * (1 << 19) + texts(b""),
            (1 << 20) + 1,
            "more than 1048576 string elements of different lengths; send them in several requests",
        ),
    ],
    ids=["few bytes", "too many", "ten million", "a million", "too many of different lengths"],
)
def test_how_many_string_elements_are_walked(data: bytes, expected: int, text: str | None) -> None:
    """Millions of equal lengths, a million of different ones, and no more than came."""
    request = header(("text", TEXT, (1, expected)))
    if text is None and len(data) > 4:
        assert len(data) == check_data(request, (-expected - 1,), [data])
        return
    with pytest.raises(InvalidRequest) as caught:
        check_data(request, (-expected - 1,), [data])

    assert (text or f"expected {expected} string elements") in str(caught.value)


@pytest.mark.parametrize("count", [1, 3, 200, 3000])
def test_only_a_model_of_texts_minds_what_is_no_text(count: int) -> None:
    """Anything is an element for others; of texts, the one that is none is named."""
    request = header(("text", TEXT, (1, count + 1)))
    data = texts(*("ü".encode() * (i % 3) for i in range(count)), b"\xfc")

    assert len(data) == check_data(request, (-count - 2,), [data], text=False)
    with pytest.raises(InvalidRequest) as caught:
        check_data(request, (-count - 2,), [data])
    assert f"string element {count} of input 'text' for model 'm' is not UTF-8" == str(caught.value)


@pytest.mark.parametrize("datatype", [d for d in DataType if d not in CLASSIFIABLE])
def test_classes_of_what_has_no_order_are_refused(datatype: DataType) -> None:
    """Before anything runs, and only where they are asked for."""
    signature = Signature(
        PLAIN.inputs, (TensorSpec("y", datatype, (-1,)), TensorSpec("z", FP32, (-1,)))
    )
    x = header(("x", FP32, (2, 1)), outputs=("z", "y"))
    assert (0, 1) == check_header(replace(x, classes=(1, 0)), signature, 1).outputs

    assert (
        f"class result not available for output due to unsupported type '{datatype.value}'"
    ) == refusal(replace(x, classes=(0, 1)), signature)


# -- shapes that mean harm ----------------------------------------------------------------------

EXTREME = st.sampled_from(
    [-(1 << 63), -2, -1, 0, 1, 2, 3, 7, 1 << 31, (1 << 32) + 1, 1 << 62, (1 << 63) - 1]
)
SHAPES = st.lists(EXTREME | st.integers(-(1 << 63), (1 << 63) - 1), max_size=17).map(tuple)
SIGNATURES = st.sampled_from(
    [
        Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", FP32, out),))
        for datatype in (FP32, TEXT, DataType.BOOL)
        for shape, out in (
            (("N", -1, -1), ("N",)),
            (("N", 3), ("N",)),
            ((-1, -1, -1, -1), (1,)),
            (tuple([-1] * 16), (1,)),
            ((), ()),
        )
    ]
)


@settings(max_examples=400)
@given(SIGNATURES, SHAPES, st.sampled_from([b"", b"\0" * 4, bytes(64), b"\xff" * 24]))
def test_a_claimed_size_is_believed_only_when_the_bytes_came(
    signature: Signature, shape: tuple[int, ...], data: bytes
) -> None:
    """Whatever shape is claimed, it is refused as InvalidRequest or agrees with the bytes."""
    spec = signature.inputs[0]
    request = header(("x", spec.datatype, shape))
    try:
        checked = check_header(request, signature, 1 << 16)
        nbytes = check_data(request, checked.sizes, [data])
    except InvalidRequest:
        return
    assert len(data) == nbytes
    assert all(size >= 0 for size in shape)
    elements = math.prod(shape)
    if spec.datatype is TEXT:
        assert 4 * elements <= len(data)
    else:
        assert elements * spec.datatype.item_size == len(data)


@pytest.mark.parametrize("shape", [(1, 0, (1 << 63) - 1), (1, 1 << 40, 0, 1 << 40)])
def test_an_empty_tensor_has_dimensions_that_fit_a_machine(shape: tuple[int, ...]) -> None:
    """No bytes agree with any dimensions beside a 0, so those are bounded by themselves."""
    signature = Signature(
        (TensorSpec("x", FP32, ("N", *[-1] * (len(shape) - 1))),), (TensorSpec("y", FP32, ("N",)),)
    )
    got = ",".join(map(str, shape))

    assert (
        f"input 'x' for model 'm' has the shape [{got}], whose strides are too large"
    ) == refusal(header(("x", FP32, shape)), signature)


def test_nothing_is_allocated_from_a_claimed_size() -> None:
    """Shapes of up to 2^(63·16) elements are refused within a few kilobytes of memory."""
    claims: Sequence[tuple[int, ...]] = [
        ((1 << 63) - 1,) * 16,
        (1 << 40,) * 16,
        (*[1] * 15, 1 << 48),
    ]
    signature = Signature((TensorSpec("x", FP32, (-1,) * 16),), (TensorSpec("y", FP32, (1,)),))
    tracemalloc.start()
    try:
        for shape in claims:
            request = header(("x", FP32, shape))
            sizes = check_header(request, signature, 1).sizes
            with pytest.raises(InvalidRequest):
                check_data(request, sizes, [b"1234"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
