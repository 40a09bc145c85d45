"""Replies of a form that came before are read as they would be otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney_client import InferResult, InvalidReply
from jitney_client.protocol import inference
from jitney_client.reply_memory import MOST_MISSES, ReplyForm, ReplyMemory
from jitney_client.tensors import encode

DTYPES = st.sampled_from(["f4", "i8", "u1", "?", "f2"])
SHAPES = st.sampled_from([(), (0, 3), (1,), (2, 3), (1, 200)])
OUTPUTS = st.lists(st.tuples(DTYPES, SHAPES), min_size=1, max_size=3)


def write(outputs: list[tuple[str, Any]], seed: int, **fields: str) -> bytes:
    """Return a reply with random elements."""
    rng = np.random.default_rng(seed)
    reply = inference.ModelInferResponse(model_name="m", model_version="1", **fields)
    for n, (dtype, shape) in enumerate(outputs):
        tensor = encode((rng.random(shape) * 100).astype(dtype))
        reply.outputs.add(name=f"y{n}", datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.append(tensor.data)
    return reply.SerializeToString()


def assert_same(expected: InferResult, actual: InferResult) -> None:
    """Compare everything that a result tells."""
    assert list(expected) == list(actual)
    for name, array in expected.items():
        np.testing.assert_array_equal(array, actual[name])
        assert (array.dtype, array.shape) == (actual[name].dtype, actual[name].shape)
        assert not actual[name].flags.writeable
    assert (expected.model_version, expected.request_id, expected.parameters, {}) == (
        actual.model_version,
        actual.request_id,
        actual.parameters,
        actual.classes,
    )


@given(st.lists(st.sampled_from(range(3)), max_size=8), st.lists(OUTPUTS, min_size=3, max_size=3))
def test_a_remembered_form_changes_nothing(turns: list[int], forms: list[Any]) -> None:
    """Whatever forms replies come in, each is read with its own values."""
    memory = ReplyMemory()
    for seed, turn in enumerate(turns):
        message = write(forms[turn], seed)
        expected = InferResult(inference.ModelInferResponse.FromString(message))
        assert_same(expected, memory.read(message, "m"))


def test_the_second_of_a_form_is_not_parsed() -> None:
    """Only the elements are looked at, and they are views of the message."""
    first, second = (write([("f4", (2, 3)), ("i8", (1,))], seed) for seed in (1, 2))
    form = ReplyForm.of(first, inference.ModelInferResponse.FromString(first))
    assert form is not None
    arrays = form.read(second)
    assert arrays is not None
    assert second is arrays["y0"].base
    assert form.read(write([("f4", (3, 2)), ("i8", (1,))], 3)) is None
    assert form.read(write([("f4", (2, 3)), ("i8", (1,))], 3, id="x")) is None
    assert form.read(first[:-1]) is None


def test_other_cuts_of_the_same_length_are_noticed() -> None:
    """A reply whose tensors are of other lengths than its shapes say is refused as ever."""
    memory = ReplyMemory()
    good = inference.ModelInferResponse(model_name="m")
    for name in ("a", "b"):
        good.outputs.add(name=name, datatype="UINT8", shape=[4])
        good.raw_output_contents.append(b"0123")
    memory.read(good.SerializeToString(), "m")
    del good.raw_output_contents[:]
    good.raw_output_contents.extend([b"012", b"01234"])
    with pytest.raises(InvalidReply, match=r"UINT8 of shape \[4\] has 4 bytes, got 3"):
        memory.read(good.SerializeToString(), "m")


def test_what_has_no_simple_form_is_not_remembered() -> None:
    """Texts have lengths of their own, and a tensor may stand before its name."""
    text = write([("u1", (1,))], 1)
    reply = inference.ModelInferResponse.FromString(text)
    assert ReplyForm.of(text + b"\x1a\x01r", reply) is None
    reply.outputs[0].datatype = "BYTES"
    assert ReplyForm.of(text, reply) is None
    assert ReplyForm.of(b"", inference.ModelInferResponse()) is None


def test_replies_that_never_repeat_are_not_remembered_for_ever() -> None:
    """Where each reply has another form, learning ends; one hit would have begun it anew."""
    memory = ReplyMemory()
    for n in range(MOST_MISSES + 3):
        memory.read(write([("u1", (1,))], n, id=f"{n}"), "m")
    assert MOST_MISSES == memory._misses
