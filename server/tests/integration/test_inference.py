"""ModelInfer carries every datatype, in both forms, and gives back what was asked for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from live_server import LiveServer, infer_request

from jitney_client import Bfloat16, NotSupported
from jitney_client.protocol import inference as pb
from jitney_client.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

ROW = np.arange(4, dtype=np.float32).reshape(1, 4)

EXTREMES = {
    "BOOL": np.array([[True, False, True]]),
    "FP16": np.array([[0.1, -65504, np.inf]], np.float16),
    "FP32": np.array([[0.1, -3e38, np.nan]], np.float32),
    "FP64": np.array([[0.1, -1e308, -0.0]], np.float64),
    **{
        name.upper(): np.array([[np.iinfo(name).min, 1, np.iinfo(name).max]], name)
        for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    },
}
TYPED = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


@pytest.mark.parametrize("datatype", EXTREMES)
def test_raw_contents_come_back_bit_for_bit(server: LiveServer, datatype: str) -> None:
    """Every numeric datatype goes through a model unchanged, its extreme values included."""
    array = EXTREMES[datatype]
    request = infer_request(f"same_{datatype.lower()}", x=array)
    (output,) = (reply := server.call("ModelInfer", request)).outputs
    assert (datatype, [1, 3], array.tobytes()) == (
        output.datatype,
        list(output.shape),
        reply.raw_output_contents[0],
    )


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_equal_raw_ones(server: LiveServer, datatype: str) -> None:
    """Typed contents give the reply that the same values give as raw bytes."""
    array = EXTREMES[datatype]
    request = pb.ModelInferRequest(model_name=f"same_{datatype.lower()}")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(tensor.contents, TYPED[datatype]).extend(array[0].tolist())
    raw = infer_request(f"same_{datatype.lower()}", x=array)
    assert server.call("ModelInfer", raw) == server.call("ModelInfer", request)


def test_bfloat16_comes_back_bit_for_bit(server: LiveServer) -> None:
    """BF16 goes through unchanged."""
    values = np.array([[1.0, -2.5, 3e38]], np.float32)
    sent = Bfloat16(values)
    reply = server.call(
        "ModelInfer", infer_request("same_bf16", [("x", "BF16", [1, 3], sent.bits.tobytes())])
    )
    assert ("BF16", sent.bits.tobytes()) == (
        reply.outputs[0].datatype,
        reply.raw_output_contents[0],
    )


def test_texts_come_back(server: LiveServer) -> None:
    """BYTES keep empty texts, zero bytes and every script, raw and typed."""
    texts = [b"", b"bus", "ジットニー".encode(), b"a\0b", b"x" * 10_000, "🚌".encode()]
    data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    raw = infer_request("same_bytes", [("x", "BYTES", [2, 3], data)])
    typed = pb.ModelInferRequest(model_name="same_bytes")
    typed.inputs.add(name="x", datatype="BYTES", shape=[2, 3]).contents.bytes_contents.extend(texts)
    for request in (raw, typed):
        reply = server.call("ModelInfer", request)
        assert ([2, 3], data) == (list(reply.outputs[0].shape), reply.raw_output_contents[0])


@pytest.mark.parametrize(
    ("model", "datatype", "shape"),
    [("same_fp32", "FP32", [2, 0]), ("same_bytes", "BYTES", [3, 0])],
)
def test_empty_tensors_come_back(
    server: LiveServer, model: str, datatype: str, shape: list[int]
) -> None:
    """A 0 in the shape means an empty entry, which is there all the same."""
    reply = server.call("ModelInfer", infer_request(model, [("x", datatype, shape, b"")]))
    assert (shape, [b""]) == (list(reply.outputs[0].shape), list(reply.raw_output_contents))


@pytest.mark.parametrize(("model", "shape"), [("scalar", ()), ("unbatched", (2, 3))])
def test_models_without_a_batch_dimension(
    server: LiveServer, model: str, shape: tuple[int, ...]
) -> None:
    """Their shapes are as they are; an empty one is a scalar."""
    result = server.client.infer(model, {"x": np.full(shape, 41, np.float32)})["y"]
    assert (shape, 42.0) == (result.shape, float(result.min()))


def test_outputs_come_in_the_order_of_the_model(server: LiveServer) -> None:
    """Only the outputs named come back, in the model's order and not that of the request."""
    two, one = np.full((1, 16), 2, np.int32), np.ones((1, 16), np.int32)
    request = infer_request("simple", INPUT0=two, INPUT1=one)
    for names in (["OUTPUT1"], ["OUTPUT1", "OUTPUT0"], []):
        del request.outputs[:]
        for name in names:
            request.outputs.add(name=name)
        reply = server.call("ModelInfer", request)
        assert sorted(names) or ["OUTPUT0", "OUTPUT1"] == [o.name for o in reply.outputs]
        answers = {
            output.name: np.frombuffer(data, np.int32)[0]
            for output, data in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
        assert {"OUTPUT0": 3, "OUTPUT1": 1} | answers == {"OUTPUT0": 3, "OUTPUT1": 1}


def test_inputs_come_in_any_order(server: LiveServer) -> None:
    """Inputs are told apart by their names."""
    two, one = np.full((1, 16), 2, np.int32), np.ones((1, 16), np.int32)
    result = server.client.infer("simple", {"INPUT1": one, "INPUT0": two})
    assert 1 == result["OUTPUT1"][0, 0]


@pytest.mark.parametrize("id_", ["", "7", "ü" * 1000])
def test_the_id_is_echoed(server: LiveServer, id_: str) -> None:
    """A reply has the id of its request."""
    assert id_ == server.client.infer("same_fp32", ROW, request_id=id_).request_id


@pytest.mark.parametrize(("asked", "ran"), [("", "2"), ("1", "1"), ("2", "2"), ("01", "1")])
def test_the_reply_names_the_version_that_ran(server: LiveServer, asked: str, ran: str) -> None:
    """Without a version the highest runs; the values show that it is the one named."""
    result = server.client.infer("versions", ROW, version=asked)
    assert ("versions", ran, float(ran)) == (
        result.model_name,
        result.model_version,
        result["y"][0, 0],
    )


def test_timings_come_on_request(server: LiveServer) -> None:
    """``jitney_timing`` adds the stages to the reply; other parameters are accepted in silence."""
    plain = server.client.infer("same_fp32", ROW, parameters={"mine": "yours", "n": 1, "f": 0.5})
    timed = server.client.infer("same_fp32", ROW, parameters={"jitney_timing": True})
    assert ({}, {}, None) == (plain.parameters, timed.parameters, plain.timing)
    stages = ("queue", "compute_input", "compute_infer", "compute_output", "total")
    assert timed.timing is not None
    assert stages == timed.timing._fields
    assert all(0 <= seconds <= timed.timing.total for seconds in timed.timing)


def test_the_order_of_fields_does_not_matter(server: LiveServer) -> None:
    """A message whose tensors stand before its names means the same, as protobuf says."""
    request = infer_request("same_fp32", x=ROW)
    raw = pb.ModelInferRequest(raw_input_contents=request.raw_input_contents)
    del request.raw_input_contents[:]
    request.id = "9"
    reply = server.infer_raw(raw.SerializeToString() + request.SerializeToString())
    response = pb.ModelInferResponse.FromString(reply)
    assert ("9", ROW.tobytes()) == (response.id, response.raw_output_contents[0])


def test_our_client_understands_what_is_not_offered(server: LiveServer) -> None:
    """UNIMPLEMENTED arrives as NotSupported."""
    request = infer_request("same_fp32", x=ROW)
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(grpc.RpcError) as caught:
        server.infer_raw(request.SerializeToString())
    error = from_rpc_error(caught.value)
    assert (NotSupported, "Client shared memory is disabled") == (type(error), str(error))


def test_a_reply_is_not_mixed_up_with_another(
    server: LiveServer, busy: Callable[[LiveServer], AbstractContextManager[None]]
) -> None:
    """Requests that differ only in their ids share a batch, and each gets its own id and rows."""
    with busy(server):
        calls = []
        for number in range(6):
            request = infer_request("same_fp32", x=np.full((1, 3), number, np.float32))
            request.id = f"id {number}"
            calls.append(server.start_infer(request))
    replies = [call.result() for call in calls]
    assert [(f"id {n}", float(n)) for n in range(6)] == [
        (reply.id, np.frombuffer(reply.raw_output_contents[0], np.float32)[0]) for reply in replies
    ]
