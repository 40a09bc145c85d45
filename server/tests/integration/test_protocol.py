"""Every RPC of the protocol, as public clients see it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from live_server import CALL_TIMEOUT, LiveServer, infer_request

from jitney_client import Bfloat16, NotSupported
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

SERVED = {
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig"),
    *("ModelStatistics", "RepositoryIndex", "ModelInfer"),
}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ROW = np.arange(4, dtype=np.float32).reshape(1, 4)


def ending(server: LiveServer, name: str, request: Any) -> tuple[grpc.StatusCode, str]:
    """Return the status and the text with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        server.call(name, request)
    return caught.value.code(), caught.value.details()


# -- the server -----------------------------------------------------------------------------------


def test_the_server_is_live_and_ready(server: LiveServer) -> None:
    """With every model loaded, the server says that it lives and is ready."""
    live = server.call("ServerLive", pb.ServerLiveRequest()).live
    ready = server.call("ServerReady", pb.ServerReadyRequest()).ready
    assert (True, True) == (live, ready)


def test_the_server_names_itself(server: LiveServer) -> None:
    """ServerMetadata has the name, the release, and the extensions that work."""
    reply = server.call("ServerMetadata", pb.ServerMetadataRequest())
    assert ("jitney", server.client.status().version) == (reply.name, reply.version)
    assert "statistics" in reply.extensions


@pytest.mark.parametrize("name", sorted(set(pb.METHODS) - SERVED))
def test_what_is_not_offered_says_so(server: LiveServer, name: str) -> None:
    """Every other RPC of the protocol, the streaming one included, is UNIMPLEMENTED by name."""
    assert (
        grpc.StatusCode.UNIMPLEMENTED,
        f"{name} is not offered by this server yet",
    ) == ending(server, name, pb.METHODS[name].request())


# -- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("simple", "", True),
        ("simple", "1", True),
        ("simple", "2", False),
        ("nobody", "", False),
        ("", "", False),
    ],
)
def test_an_unknown_model_is_not_ready(
    server: LiveServer, name: str, version: str, *, ready: bool
) -> None:
    """ModelReady of what does not exist is an answer, not an error."""
    request = pb.ModelReadyRequest(name=name, version=version)
    assert ready == server.call("ModelReady", request).ready


def test_a_malformed_version_is_an_error(server: LiveServer) -> None:
    """ModelReady of a version that is no number is INVALID_ARGUMENT."""
    code, _ = ending(server, "ModelReady", pb.ModelReadyRequest(name="simple", version="one"))
    assert grpc.StatusCode.INVALID_ARGUMENT == code


def test_metadata_describes_the_tensors(server: LiveServer) -> None:
    """ModelMetadata has names, datatypes, and -1 for the batch and for what varies."""
    reply = server.client.metadata("simple")
    assert ("simple", ["1"], "pytorch_libtorch") == (
        reply.name,
        list(reply.versions),
        reply.platform,
    )
    assert [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])] == [
        (tensor.name, tensor.datatype, list(tensor.shape)) for tensor in reply.inputs
    ]
    assert [("OUTPUT0", "INT32", [-1, 16]), ("OUTPUT1", "INT32", [-1, 16])] == [
        (tensor.name, tensor.datatype, list(tensor.shape)) for tensor in reply.outputs
    ]


def test_metadata_lists_ready_versions(server: LiveServer) -> None:
    """Without a version, metadata has all that are ready; with one, only that."""
    assert (["1", "2"], ["1"]) == (
        list(server.client.metadata("versions").versions),
        list(server.client.metadata("versions", version="1").versions),
    )


@pytest.mark.parametrize("name", ["ModelMetadata", "ModelConfig"])
def test_metadata_of_an_unknown_model(server: LiveServer, name: str) -> None:
    """Metadata and config of a model or version that does not exist are NOT_FOUND."""
    request = pb.METHODS[name].request
    text = "Request for unknown model: "
    assert (
        (NOT_FOUND, f"{text}'nobody' is not found"),
        (NOT_FOUND, f"{text}'simple' version 99 is not found; known versions: 1"),
    ) == (
        ending(server, name, request(name="nobody")),
        ending(server, name, request(name="simple", version="99")),
    )


def test_config_is_what_is_in_force(server: LiveServer) -> None:
    """ModelConfig has the batch limit, dims without the batch, and batching where there is some."""
    batched, alone = server.client.config("simple"), server.client.config("unbatched")
    assert (8, [16], "TYPE_INT32", True) == (
        batched.max_batch_size,
        list(batched.input[0].dims),
        pb.DataType.Name(batched.input[0].data_type),
        batched.HasField("dynamic_batching"),
    )
    assert (0, [2, -1], False) == (
        alone.max_batch_size,
        list(alone.input[0].dims),
        alone.HasField("dynamic_batching"),
    )


def test_a_model_that_mixes_rows_is_not_batched(server: LiveServer) -> None:
    """The load-time proof finds it out: its batch limit is one row, and it says why."""
    (status,) = server.client.status("centred").models
    assert (1, False) == (
        status.max_batch_size,
        server.client.config("centred").HasField("dynamic_batching"),
    )
    assert any(
        "changes with the other rows of its batch" in text
        for i in status.instances
        for text in [*i.warnings, i.why]
    )


# -- statistics -----------------------------------------------------------------------------------


def test_statistics_add_up(server: LiveServer) -> None:
    """Each request raises queue.count and the three compute counts; batches add up to the rows."""
    before = server.figures("same_fp64")
    for rows in (1, 3, 3):
        server.client.infer("same_fp64", np.ones((rows, 2)))
    after = server.figures("same_fp64")
    assert (7, 3) == (
        after.inference_count - before.inference_count,
        after.execution_count - before.execution_count,
    )
    new, old = after.inference_stats, before.inference_stats
    stages = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert [3] * 5 == [getattr(new, s).count - getattr(old, s).count for s in stages]
    assert new.success.ns >= sum(getattr(new, stage).ns for stage in stages[1:])
    assert (0, 0, 0) == (new.fail.count, new.cache_hit.count, new.cache_miss.count)
    assert [(1, 1), (3, 2)] == [(b.batch_size, b.compute_infer.count) for b in after.batch_stats]
    assert after.inference_count == sum(
        b.batch_size * b.compute_infer.count for b in after.batch_stats
    )
    assert after.last_inference > 0


def test_statistics_of_everything(server: LiveServer) -> None:
    """Without a name every ready version is listed, used or not; with one, its versions."""
    listed = {(s.name, s.version) for s in server.client.statistics()}
    ready = {(m.name, m.version) for m in server.client.models(ready=True)}
    assert ready == listed
    assert ["1", "2"] == [s.version for s in server.client.statistics("versions")]
    assert ["2"] == [s.version for s in server.client.statistics("versions", version="2")]


def test_statistics_of_an_unknown_model(server: LiveServer) -> None:
    """They are INVALID_ARGUMENT, in words that clients compare."""
    code, text = ending(server, "ModelStatistics", pb.ModelStatisticsRequest(name="nobody"))
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert text.startswith("requested model 'nobody' is not available")


# -- the repository and the status ----------------------------------------------------------------


def test_the_index_lists_every_version(server: LiveServer) -> None:
    """RepositoryIndex has a line per version with its state, and may be asked for what is ready."""
    index = server.client.models()
    assert [("versions", "1", "READY", ""), ("versions", "2", "READY", "")] == [
        (m.name, m.version, m.state, m.reason) for m in index if m.name == "versions"
    ]
    assert list(index) == list(server.client.models(ready=True))


def test_a_repository_has_no_name(server: LiveServer) -> None:
    """Asking for the index of a named repository is UNIMPLEMENTED."""
    assert (
        grpc.StatusCode.UNIMPLEMENTED,
        "'repository_name' specification is not supported",
    ) == ending(server, "RepositoryIndex", pb.RepositoryIndexRequest(repository_name="mine"))


def test_the_status_has_devices_and_models(server: LiveServer) -> None:
    """GetStatus tells the device's state, and a model's digest, contract and form."""
    status = server.client.status("same_bytes")
    (device,), (model,) = status.devices, status.models
    assert ("cpu", "up", "grpcio") == (device.name, device.state, status.transport)
    assert ("READY", 64, 8, ["N", "-1"]) == (
        model.state,
        len(model.digest_sha256),
        model.max_batch_size,
        list(model.inputs[0].shape),
    )
    assert [("cpu", [1, 2, 4, 8])] == [(i.device, list(i.buckets)) for i in model.instances]


def test_the_status_of_an_unknown_model(server: LiveServer) -> None:
    """GetStatus of a name that we do not have is NOT_FOUND."""
    with pytest.raises(Exception, match="Request for unknown model: 'nobody'") as caught:
        server.client.status("nobody")
    assert NOT_FOUND == caught.value.code  # type: ignore[attr-defined]


# -- inference ------------------------------------------------------------------------------------

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
    stages = ("queue", "compute_input", "compute_infer", "compute_output", "total")
    assert ({}, {f"jitney_{stage}_seconds" for stage in stages}) == (
        plain.parameters,
        set(timed.parameters),
    )


def test_the_order_of_fields_does_not_matter(server: LiveServer) -> None:
    """A message whose tensors stand before its names means the same, as protobuf says."""
    request = infer_request("same_fp32", x=ROW)
    raw = pb.ModelInferRequest(raw_input_contents=request.raw_input_contents)
    del request.raw_input_contents[:]
    request.id = "9"
    reply = server.infer_raw(raw.SerializeToString() + request.SerializeToString())
    response = pb.ModelInferResponse.FromString(reply)
    assert ("9", ROW.tobytes()) == (response.id, response.raw_output_contents[0])


# -- health and reflection ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "readiness", "liveness", "simple", "versions"])
def test_health_knows_the_server_and_its_models(server: LiveServer, name: str) -> None:
    """Check says SERVING, and Watch begins with the same."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    request = health_pb2.HealthCheckRequest(service=name)
    watch = stub.Watch(request, timeout=CALL_TIMEOUT)
    assert (SERVING, SERVING) == (
        stub.Check(request, timeout=CALL_TIMEOUT).status,
        next(watch).status,
    )
    watch.cancel()


def test_health_of_an_unknown_name(server: LiveServer) -> None:
    """Check is NOT_FOUND, Watch says SERVICE_UNKNOWN and stays."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    request = health_pb2.HealthCheckRequest(service="nobody")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(request, timeout=CALL_TIMEOUT)
    watch = stub.Watch(request, timeout=CALL_TIMEOUT)
    assert (NOT_FOUND, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN) == (
        caught.value.code(),
        next(watch).status,
    )
    watch.cancel()


def test_reflection_describes_the_services(server: LiveServer) -> None:
    """Reflection lists every service, and gives the file of each."""
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    ask = reflection_pb2.ServerReflectionRequest

    def answer(request: Any) -> Any:
        return next(stub.ServerReflectionInfo(iter([request]), timeout=CALL_TIMEOUT))

    services = {s.name for s in answer(ask(list_services="")).list_services_response.service}
    assert {
        "inference.GRPCInferenceService",
        "jitney.v1.Status",
        "grpc.health.v1.Health",
    } == services - {"grpc.reflection.v1alpha.ServerReflection"}
    for service in sorted(services):
        reply = answer(ask(file_containing_symbol=service))
        files = reply.file_descriptor_response.file_descriptor_proto
        names = [
            f"{file.package}.{found.name}"
            for file in map(FileDescriptorProto.FromString, files)
            for found in file.service
        ]
        assert service in names


# -- Triton's own client --------------------------------------------------------------------------


def triton_inputs() -> list[tritonclient.grpc.InferInput]:
    """Return what the example clients send to ``simple``."""
    inputs = []
    for name, array in (
        ("INPUT0", np.arange(16, dtype=np.int32).reshape(1, 16)),
        ("INPUT1", np.ones((1, 16), np.int32)),
    ):
        inputs.append(tritonclient.grpc.InferInput(name, [1, 16], "INT32"))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def test_tritonclient_infers(server: LiveServer) -> None:
    """The unmodified public client gets the sums and the differences."""
    with tritonclient.grpc.InferenceServerClient(server.address) as client:
        outputs = [tritonclient.grpc.InferRequestedOutput(f"OUTPUT{i}") for i in (0, 1)]
        result = client.infer("simple", triton_inputs(), outputs=outputs, request_id="t")
        assert (list(range(1, 17)), list(range(-1, 15)), "t") == (
            result.as_numpy("OUTPUT0")[0].tolist(),
            result.as_numpy("OUTPUT1")[0].tolist(),
            result.get_response().id,
        )


def test_tritonclient_asks_about_everything(server: LiveServer) -> None:
    """Its calls about the server and its models find what they read."""
    with tritonclient.grpc.InferenceServerClient(server.address) as client:
        assert (True, True, True, False) == (
            client.is_server_live(),
            client.is_server_ready(),
            client.is_model_ready("simple"),
            client.is_model_ready("nobody"),
        )
        assert "jitney" == client.get_server_metadata().name
        assert "simple" == client.get_model_metadata("simple").name
        assert 8 == client.get_model_config("simple").config.max_batch_size
        assert "simple" in {m.name for m in client.get_model_repository_index().models}
        (statistics,) = client.get_inference_statistics("simple").model_stats
        assert "1" == statistics.version
        with pytest.raises(
            tritonclient.grpc.InferenceServerException, match="not offered by this server"
        ):
            client.load_model("simple")


def test_our_client_understands_what_is_not_offered(server: LiveServer) -> None:
    """UNIMPLEMENTED arrives as NotSupported."""
    request = infer_request("same_fp32", x=ROW)
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(NotSupported, match="Client shared memory is disabled"):
        server.client._call(  # the request cannot be made with its methods
            pb.METHODS["ModelInfer"], request, pb.ModelInferResponse, CALL_TIMEOUT
        )


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
