"""Tests of how other servers are asked and understood."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.dialects import OIP, PLAIN, TORCHSERVE, Named
from benchmarks.workload import Workload

from jitney_client.protocol import inference as pb

TENSORS = [
    Named("a", "INT32", np.arange(3, dtype="<i4").reshape(1, 3)),
    Named("b", "INT32", np.arange(3, 6, dtype="<i4").reshape(1, 3)),
]
BODY = np.arange(6, dtype="<i4").tobytes()


def reply(model: str, identity: str, *outputs: bytes) -> bytes:
    """Return a reply of the Open Inference Protocol."""
    response = pb.ModelInferResponse(model_name=model, id=identity, raw_output_contents=outputs)
    data: bytes = response.SerializeToString()
    return data


def test_a_request_of_the_protocol_has_raw_contents() -> None:
    """Names, datatypes and shapes go beside the bytes of each tensor."""
    request = pb.ModelInferRequest.FromString(OIP.request("m", "r1", TENSORS))
    assert ("m", "r1") == (request.model_name, request.id)
    assert [("a", "INT32", [1, 3]), ("b", "INT32", [1, 3])] == [
        (one.name, one.datatype, list(one.shape)) for one in request.inputs
    ]
    assert b"".join(request.raw_input_contents) == BODY


def test_outputs_of_the_protocol_follow_each_other() -> None:
    """All raw contents of a reply, in its order, are the answer."""
    request = OIP.request("m", "r1", TENSORS)
    assert OIP.answer(request, reply("m", "r1", b"ab", b"cd")) == b"abcd"


@pytest.mark.parametrize(("model", "identity"), [("m", "r2"), ("n", "r1")])
def test_a_reply_to_another_call_is_no_answer(model: str, identity: str) -> None:
    """A reply with another model's name or another id belongs to somebody else."""
    assert OIP.answer(OIP.request("m", "r1", TENSORS), reply(model, identity, b"ab")) is None


def test_a_plain_body_is_the_tensors_alone() -> None:
    """Tensors go one after the other, and what comes back is the answer."""
    assert PLAIN.request("m", "r1", TENSORS) == BODY
    assert PLAIN.answer(BODY, b"xyz") == b"xyz"


@pytest.mark.parametrize("count", [1, 31, 32, 127, 128, 20_000])
def test_a_request_of_torchserve_is_read_by_protobuf(count: int) -> None:
    """Our few lines write what protobuf reads, with lengths of one byte and of more."""
    array = np.arange(count, dtype="<i4")
    request = TORCHSERVE.request("model", "r1", [Named("x", "INT32", array)])
    # Any message whose fields have these numbers reads it: 1 is a string, the body is in 3.
    fields = dict(_fields(request))
    entry = dict(_fields(fields[3]))
    assert (b"model", b"body", array.tobytes()) == (fields[1], entry[1], entry[2])


@pytest.mark.parametrize("count", [0, 1, 127, 128, 70_000])
def test_a_prediction_of_torchserve_is_unpacked(count: int) -> None:
    """The only field of the reply is the answer."""
    prediction = bytes(count)
    message = pb.ModelInferRequest(model_name=prediction.decode()).SerializeToString()
    if count:  # protobuf leaves out an empty field
        assert prediction == TORCHSERVE.answer(b"", message)
    else:
        with pytest.raises(ValueError, match="no prediction"):
            TORCHSERVE.answer(b"", message)


@pytest.mark.parametrize("bad", [b"\x12\x01a", b"\x0a\x05a", b"\x0a\x01ab", b"\x0a\xff", b"\x0a"])
def test_a_broken_prediction_is_told(bad: bytes) -> None:
    """Another field, a wrong length and a number without an end are errors, not answers."""
    with pytest.raises(ValueError, match=r"prediction|without an end"):
        TORCHSERVE.answer(b"", bad)


def test_a_workload_keeps_its_dialect(tmp_path: Path) -> None:
    """A caller's process reads the file and knows in which dialect replies are."""
    workload = Workload([b"in"], [b"out"], 0.5, PLAIN.name)
    assert workload == Workload.read(workload.write(tmp_path / "file"))


def test_answers_of_a_dialect_are_checked_with_its_tolerance() -> None:
    """An answer off by less than the tolerance is right; more, another length, or NaN is not."""
    right = np.array([1.0, 2.0], "<f4")
    workload = Workload([b""], [right.tobytes()], 0.01, PLAIN.name)
    checker = workload.checker()
    assert checker.is_right(0, (right + np.float32(0.005)).tobytes())
    assert not checker.is_right(0, (right + np.float32(0.02)).tobytes())
    assert not checker.is_right(0, right[:1].tobytes())
    assert not checker.is_right(0, np.array([1.0, np.nan], "<f4").tobytes())


def test_a_reply_that_cannot_be_read_is_wrong() -> None:
    """What a dialect cannot read counts as a wrong answer and ends no caller."""
    assert not Workload([b""], [b"x"], 0.0, TORCHSERVE.name).checker().is_right(0, b"\x12\x01a")


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    """Return the fields of a message of length-delimited fields, read by protobuf's own decoder."""
    from google.protobuf import unknown_fields  # noqa: PLC0415  # only here
    from google.protobuf.empty_pb2 import Empty  # noqa: PLC0415  # only here

    found = unknown_fields.UnknownFieldSet(Empty.FromString(message))
    return [(one.field_number, one.data) for one in found]
