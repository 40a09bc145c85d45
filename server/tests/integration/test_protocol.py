"""Every RPC of the protocol, as public clients see it."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from live_server import CALL_TIMEOUT, LiveServer

from jitney_client.protocol import inference as pb

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


@pytest.mark.parametrize("name", sorted(set(pb.METHODS) - {"ModelStreamInfer"}))
def test_every_rpc_is_served(server: LiveServer, name: str) -> None:
    """An empty request is answered, or refused for what it lacks; none ends in a bug."""
    try:
        server.call(name, pb.METHODS[name].request())
    except grpc.RpcError as error:
        assert error.code() is not grpc.StatusCode.INTERNAL  # noqa: PT017  # which RPC, may differ
        assert "not offered" not in error.details()  # noqa: PT017


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
    """The load-time proof finds it out: requests share no batches, and it says why."""
    (status,) = server.client.status("centred").models
    assert not server.client.config("centred").HasField("dynamic_batching")
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
    sizes = [
        {b.batch_size: b.compute_infer.count for b in figures.batch_stats}
        for figures in (before, after)
    ]
    assert {1: 1, 3: 2} == {s: n - sizes[0].get(s, 0) for s, n in sizes[1].items()}
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
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="explicit model load"):
            client.load_model("simple")
