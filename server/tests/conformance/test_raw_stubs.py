"""Typed contents, which the Python client never sends, through its generated stubs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    from live_server import LiveServer

FIELDS = {
    "BOOL": ("bool_contents", [True, False], [False, True], "?"),
    "INT8": ("int_contents", [-5, 7], [-15, 21], "b"),
    "INT16": ("int_contents", [-5, 7], [-15, 21], "h"),
    "INT32": ("int_contents", [-5, 7], [-15, 21], "i"),
    "INT64": ("int64_contents", [-5, 1 << 40], [-15, 3 << 40], "q"),
    "UINT8": ("uint_contents", [5, 7], [15, 21], "B"),
    "FP32": ("fp32_contents", [0.5, -1], [1.5, -3], "f"),
    "FP64": ("fp64_contents", [0.5, -1], [1.5, -3], "d"),
}


def infer(server: LiveServer, request: Any) -> Any:
    """Call ModelInfer through the public stubs."""
    return service_pb2_grpc.GRPCInferenceServiceStub(server.channel).ModelInfer(request, timeout=20)


def refusal(server: LiveServer, request: Any) -> str:
    """Return the text of the error with which such a call must end."""
    with pytest.raises(grpc.RpcError) as caught:
        infer(server, request)
    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
    return str(caught.value.details())


def typed(model: str, datatype: str, field: str, values: Any, **more: Any) -> Any:
    """Return a request with one typed input."""
    request = service_pb2.ModelInferRequest(model_name=model)
    given = request.inputs.add(
        name=more.get("name", "INPUT__0"), datatype=datatype, shape=more.get("shape", [1, 2])
    )
    getattr(given.contents, field).extend(values)
    return request


@pytest.mark.parametrize("datatype", sorted(FIELDS))
def test_typed_contents(server: LiveServer, datatype: str) -> None:
    """Every datatype has a field in which it may come; the reply is raw."""
    field, values, want, form = FIELDS[datatype]
    reply = infer(server, typed(f"libtorch_{datatype.lower()}", datatype, field, values))
    assert want == list(struct.unpack(f"<2{form}", reply.raw_output_contents[0]))


def test_typed_texts(server: LiveServer) -> None:
    """BYTES come one by one, without lengths."""
    request = typed(
        "identity_bytes", "BYTES", "bytes_contents", [b"a", b"\xff"], name="INPUT0", shape=[2]
    )
    raw = infer(server, request).raw_output_contents[0]
    assert b"\x01\0\0\0a\x01\0\0\0\xff" == raw


def test_typed_and_raw(server: LiveServer) -> None:
    """Both in one request are an error that names the input."""
    request = typed("libtorch_int32", "INT32", "int_contents", [1, 2])
    request.raw_input_contents.append(bytes(8))
    assert (
        "contents field must not be specified when using raw_input_contents for 'INPUT__0' for "
        "model 'libtorch_int32'"
    ) in refusal(server, request)


def test_the_field_of_another_datatype(server: LiveServer) -> None:
    """The first type is the field's, the second the tensor's."""
    request = typed("libtorch_int32", "INT32", "fp32_contents", [1, 2])
    assert (
        "unexpected explicit tensor data for input tensor 'INPUT__0' for model 'libtorch_int32' "
        "of type 'FP32', expected datatype 'INT32'"
    ) in refusal(server, request)


def test_values_out_of_range(server: LiveServer) -> None:
    """A value that its type cannot hold is refused rather than cut."""
    request = typed("libtorch_int8", "INT8", "int_contents", [1, 300])
    assert "outside the range of INT8" in refusal(server, request)


def test_too_few_values(server: LiveServer) -> None:
    """The number of values is the shape's."""
    request = typed("libtorch_int32", "INT32", "int_contents", [1])
    assert "INPUT__0" in refusal(server, request)


def test_too_few_raw_entries(server: LiveServer) -> None:
    """The input without data is named."""
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
    request.raw_input_contents.append(bytes(64))
    assert (
        "unable to find data for input tensor 'INPUT1' for model 'simple' in request."
    ) in refusal(server, request)


def test_too_many_raw_entries(server: LiveServer) -> None:
    """An entry that belongs to no input is an error."""
    request = service_pb2.ModelInferRequest(model_name="libtorch_int32")
    request.inputs.add(name="INPUT__0", datatype="INT32", shape=[1, 2])
    request.raw_input_contents.extend([bytes(8), bytes(8)])
    assert "raw_input_contents" in refusal(server, request)


@pytest.mark.parametrize("shape", [[-1, 2], [0, 2], [1, -2], [2], [1, 1, 2], [1 << 62, 4]])
def test_odd_shapes(server: LiveServer, shape: list[int]) -> None:
    """A shape that cannot be is refused, and the server lives on."""
    request = service_pb2.ModelInferRequest(model_name="libtorch_int32")
    request.inputs.add(name="INPUT__0", datatype="INT32", shape=shape)
    request.raw_input_contents.append(bytes(8))
    assert "libtorch_int32" in refusal(server, request)


def test_unknown_datatypes(server: LiveServer) -> None:
    """A datatype that is none is named."""
    request = service_pb2.ModelInferRequest(model_name="libtorch_int32")
    request.inputs.add(name="INPUT__0", datatype="INT4", shape=[1, 2])
    request.raw_input_contents.append(bytes(8))
    assert "INT4" in refusal(server, request)


def test_ten_mebi_texts(server: LiveServer) -> None:
    """A public test sends ten mebi elements in one request."""
    count = 10 << 20
    raw = np.zeros(count, "<u4").tobytes()
    request = service_pb2.ModelInferRequest(model_name="identity_bytes")
    request.inputs.add(name="INPUT0", datatype="BYTES", shape=[count])
    request.raw_input_contents.append(raw)
    reply = infer(server, request)
    assert (count, len(raw)) == (reply.outputs[0].shape[0], len(reply.raw_output_contents[0]))
