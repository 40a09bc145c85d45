"""What calls of ``jitney bench`` are made of, and how their answers are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jitney.errors import ConfigError
from jitney.loadgen.inputs import DTYPES, Call, Choice, drawn, from_file, message
from jitney.loadgen.judge import Judge, outputs_of
from jitney.loadgen.replies import Reply
from jitney_client.protocol import inference as pb
from jitney_client.tensors import encode

if TYPE_CHECKING:
    from pathlib import Path


def metadata(*tensors: tuple[str, str, list[int]]) -> pb.ModelMetadataResponse:
    """Return the metadata of a model with these inputs, and an output y of FP32."""
    made = pb.ModelMetadataResponse(name="m")
    for name, datatype, shape in tensors:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
    made.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
    return made


def reply(**arrays: np.ndarray[Any, Any]) -> bytes:
    """Return a server's reply with these outputs."""
    made = pb.ModelInferResponse(model_name="m")
    for name, array in arrays.items():
        tensor = encode(array)
        made.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        made.raw_output_contents.append(bytes(tensor.data))
    return made.SerializeToString()


def test_inputs_fit_the_metadata() -> None:
    """Varying sizes are 16, the batch as asked for, and floats lie between 0 and 1."""
    model = metadata(("x", "FP32", [-1, 3, -1]), ("ids", "INT64", [-1, -1]))

    calls = drawn(model, batched=True, choice=Choice(variants=3, rows=2))

    assert 3 == len(calls)
    assert [(2, 3, 16), (2, 16)] == [a.shape for a in calls[0].inputs.values()]
    assert calls[0].inputs["x"].min() >= 0
    assert {0, 1} == set(calls[0].inputs["ids"].ravel().tolist())
    assert not np.array_equal(calls[0].inputs["x"], calls[1].inputs["x"])


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_inputs_of_every_datatype_can_be_sent(datatype: str) -> None:
    """Whatever the protocol has is drawn, and the request names the datatype."""
    model = metadata(("x", datatype, [2, 3]))

    (call,) = drawn(model, batched=False, choice=Choice(variants=1))
    request = pb.ModelInferRequest.FromString(message(model, call, version="3", priority=2))

    assert (datatype, [2, 3]) == (request.inputs[0].datatype, list(request.inputs[0].shape))
    assert ("m", "3") == (request.model_name, request.model_version)
    assert 2 == request.parameters["priority"].uint64_param


def test_shapes_and_ranges_are_heeded() -> None:
    """A varying dimension takes the size asked for, values lie in the range, ends included."""
    model = metadata(("ids", "INT32", [-1, -1]))
    choice = Choice(shapes={"ids": (500,)}, ranges={"ids": (5, 7)})

    (call, *_) = drawn(model, batched=True, choice=choice)

    assert (1, 500) == call.inputs["ids"].shape
    assert {5, 6, 7} == set(call.inputs["ids"].ravel().tolist())


def test_zeros_are_one_call() -> None:
    """Inputs that are all the same need not be sent in many copies."""
    (call,) = drawn(metadata(("x", "UINT8", [-1, 2])), batched=True, choice=Choice(zeros=True))

    assert [[0, 0]] == call.inputs["x"].tolist()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(shapes={"z": (1,)}), "--shape z: the model has the inputs x"),
        (Choice(ranges={"z": (0, 1)}), "--range z: the model has the inputs x"),
        (Choice(shapes={"x": (4, 2)}), r"a row has \[3, -1\] \(-1 varies\), got \[4, 2\]"),
        (Choice(shapes={"x": (3,)}), r"got \[3\]"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choice: Choice, words: str) -> None:
    """The error says what the model has."""
    with pytest.raises(ConfigError, match=words):
        drawn(metadata(("x", "FP32", [-1, 3, -1])), batched=True, choice=choice)


def test_a_file_is_cut_into_calls(tmp_path: Path) -> None:
    """Of five rows two calls of two are made, with what is expected of them."""
    file = tmp_path / "in.npz"
    x, y = np.arange(10.0).reshape(5, 2), np.ones((5, 2), np.float32)
    np.savez(file, x=x, y=y)

    calls = from_file(file, metadata(("x", "FP32", [-1, 2])), batched=True, rows=2)

    assert [x[:2].tolist(), x[2:4].tolist()] == [c.inputs["x"].tolist() for c in calls]
    assert np.float32 == calls[0].inputs["x"].dtype
    assert (2, 2) == calls[1].outputs["y"].shape


def test_without_a_batch_dimension_the_first_axis_counts_calls(tmp_path: Path) -> None:
    """Each element along the first axis is an input as it stands."""
    file = tmp_path / "in.npz"
    np.savez(file, x=np.zeros((3, 2), np.float32))

    calls = from_file(file, metadata(("x", "FP32", [2])), batched=False, rows=1)

    assert [(2,)] * 3 == [call.inputs["x"].shape for call in calls]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.zeros(2)}, "'z' is no input or output"),
        ({"y": np.zeros((2, 2))}, "no array 'x'; the model takes x"),
        ({"x": np.zeros((2, 2)), "y": np.zeros((3, 2))}, "first axes differ: x 2, y 3"),
        ({"x": np.zeros((1, 2))}, "fewer than 2 rows"),
        ({"x": np.full((2, 2), "a")}, "x: the model takes INT8, got <U1"),
        ({"x": np.full((2, 2), 300)}, "a value does not fit INT8"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    """The error names the file and the array."""
    file = tmp_path / "in.npz"
    np.savez(file, **arrays)

    with pytest.raises(ConfigError, match=words):
        from_file(file, metadata(("x", "INT8", [-1, 2])), batched=True, rows=2)


def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path) -> None:
    """A file that is missing, is text, or holds one array is told about."""
    (tmp_path / "text").write_text("no")
    np.save(tmp_path / "one.npy", np.zeros(2))
    for name, words in (("none", "cannot be read"), ("text", "not an"), ("one.npy", "not an")):
        with pytest.raises(ConfigError, match=words):
            from_file(tmp_path / name, metadata(("x", "FP32", [-1])), batched=True, rows=1)


# -- answers --------------------------------------------------------------------------------------

ONE = np.array([[1.0, -2.0]], np.float32)


def test_answers_may_differ_by_what_batching_changes() -> None:
    """A thousandth of the largest value is allowed, and counted calls are all those it came to."""
    judge = Judge([{"y": ONE}])
    near, far = ONE + np.float32(0.0019), ONE + np.float32(0.0021)

    assert (0, "") == judge.wrong([Reply(0, 5, reply(y=ONE)), Reply(0, 7, reply(y=near))])
    count, example = judge.wrong([Reply(0, 3, reply(y=far)), Reply(0, 1, reply(y=far + 1))])
    assert 4 == count
    assert example.startswith("output 'y': differs by 0.0021")


@pytest.mark.parametrize(
    ("right", "got", "words"),
    [
        (np.array([1, 2]), np.array([1, 3]), "another value"),
        (np.array([b"a"], object), np.array([b"b"], object), "another value"),
        (np.array([1.0, np.nan]), np.array([1.0, 1.0]), "differs"),
        (np.array([0.0]), np.array([1e-9]), "differs"),
        (np.array([1.0, np.inf]), np.array([1.0, -np.inf]), "differs"),
        (np.array([1.0]), np.array([[1.0]]), r"expected the shape \[1\], got \[1, 1\]"),
    ],
)
def test_other_answers_are_wrong(right: Any, got: Any, words: str) -> None:
    """Whole numbers and texts have to be equal; so has what is not finite, and the shape."""
    assert "" == Judge([{"y": right}]).fault(0, reply(y=right))

    with pytest.raises(AssertionError, match=words):
        raise AssertionError(Judge([{"y": right}]).fault(0, reply(y=got)))


def test_texts_of_a_file_are_the_bytes_of_a_reply() -> None:
    """What a person wrote down as text is compared in UTF-8."""
    right = np.array([["é"]], object)

    assert "" == Judge([{"y": right}]).fault(0, reply(y=right))


def test_replies_that_are_none_are_wrong() -> None:
    """Bytes of no message, a missing output, and outputs without bytes are faults with words."""
    judge = Judge([{"y": ONE}])
    torn = pb.ModelInferResponse(raw_output_contents=[b"", b""])
    torn.outputs.add(name="y", datatype="FP32", shape=[1])

    assert "cannot be read" in judge.fault(0, b"\xff\xff")
    assert "the output 'y' is missing" == judge.fault(0, reply(z=ONE))
    assert "cannot be read: 1 outputs, and the bytes of 2" in judge.fault(
        0, torn.SerializeToString()
    )


def test_outputs_in_typed_fields_are_read() -> None:
    """Some servers reply with typed contents instead of raw ones."""
    made = pb.ModelInferResponse()
    output = made.outputs.add(name="y", datatype="FP32", shape=[2])
    output.contents.fp32_contents.extend([1.0, 2.0])

    assert [1.0, 2.0] == outputs_of(made.SerializeToString())["y"].tolist()


def test_a_call_needs_no_expected_outputs() -> None:
    """Inputs alone are a call."""
    assert {} == Call({}).outputs
