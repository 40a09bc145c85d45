from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from calls import add_sub, error_of

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    import tritonclient.grpc as triton
    from live_server import LiveServer

UNKNOWN = "Request for unknown model: 'nobody' is not found"


def test_server_is_live(client: triton.InferenceServerClient) -> None:
    """is_server_live is true of a server that answers."""
    assert client.is_server_live() is True


def test_server_is_ready(client: triton.InferenceServerClient) -> None:
    """is_server_ready is true once every model is."""
    assert client.is_server_ready() is True


def test_model_is_ready(client: triton.InferenceServerClient) -> None:
    """is_model_ready is true of a loaded model, without and with its version."""
    assert [True, True] == [client.is_model_ready("simple"), client.is_model_ready("simple", "1")]


def test_unknown_model_is_not_ready(client: triton.InferenceServerClient) -> None:
    """is_model_ready of an unknown model or version is false, and no error."""
    assert [False, False] == [client.is_model_ready("nobody"), client.is_model_ready("simple", "9")]


def test_a_version_must_be_a_number(client: triton.InferenceServerClient) -> None:
    """is_model_ready of a version that is no number is an error."""
    status, message = error_of(client.is_model_ready, "simple", "newest")
    assert "StatusCode.INVALID_ARGUMENT" == status
    assert "failed to get model version from specified version string" in message


def test_server_metadata(client: triton.InferenceServerClient) -> None:
    """The server says its own name, and which extensions work."""
    metadata = client.get_server_metadata()
    assert "jitney" == metadata.name
    assert {
        "classification",
        "sequence",
        "model_configuration",
        "system_shared_memory",
        "binary_tensor_data",
        "parameters",
        "statistics",
        "trace",
        "logging",
    } <= set(metadata.extensions)


def test_server_metadata_as_json(client: triton.InferenceServerClient) -> None:
    """The JSON form has the same names."""
    metadata = client.get_server_metadata(as_json=True)
    assert {"name", "version", "extensions"} == set(metadata)


def test_model_metadata(client: triton.InferenceServerClient) -> None:
    """Metadata has name, versions, platform, and tensors with -1 for the batch."""
    metadata = client.get_model_metadata("simple")
    assert ("simple", ["1"], "pytorch_libtorch") == (
        metadata.name,
        list(metadata.versions),
        metadata.platform,
    )
    assert [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])] == [
        (t.name, t.datatype, list(t.shape)) for t in metadata.inputs
    ]
    assert ["OUTPUT0", "OUTPUT1"] == [t.name for t in metadata.outputs]


def test_metadata_without_batch_dimension(client: triton.InferenceServerClient) -> None:
    """A model with max_batch_size 0 has its dims as they are."""
    metadata = client.get_model_metadata("densenet_onnx")
    assert [3, 224, 224] == list(metadata.inputs[0].shape)
    assert [1000] == list(metadata.outputs[0].shape)


def test_metadata_as_json(client: triton.InferenceServerClient) -> None:
    """The JSON form spells shapes as texts, as protobuf's does."""
    metadata = client.get_model_metadata("simple", as_json=True)
    assert ["-1", "16"] == metadata["inputs"][0]["shape"]


def test_sequence_controls_are_not_shown(client: triton.InferenceServerClient) -> None:
    """Clients of a sequence model see no control inputs."""
    metadata = client.get_model_metadata("simple_dyna_sequence")
    assert ["INPUT"] == [t.name for t in metadata.inputs]


def test_metadata_of_an_unknown_model(client: triton.InferenceServerClient) -> None:
    """Metadata of an unknown model is NOT_FOUND with Triton's words."""
    status, message = error_of(client.get_model_metadata, "nobody")
    assert ("StatusCode.NOT_FOUND", True) == (status, message.startswith(UNKNOWN))


def test_metadata_of_an_unknown_version(client: triton.InferenceServerClient) -> None:
    """Metadata of an unknown version names it."""
    status, message = error_of(client.get_model_metadata, "simple", "99")
    assert "StatusCode.NOT_FOUND" == status
    assert message.startswith("Request for unknown model: 'simple' version 99 is not found")


def test_config_of_simple(client: triton.InferenceServerClient) -> None:
    """The effective config has what its file said, and what was filled in."""
    config = client.get_model_config("simple").config
    assert ("simple", 8, "pytorch_libtorch") == (
        config.name,
        config.max_batch_size,
        config.platform,
    )
    assert [16] == list(config.input[0].dims)
    assert "model.pt" == config.default_model_filename
    assert config.HasField("dynamic_batching")
    assert len(config.instance_group) > 0
    assert config.HasField("version_policy")


def test_config_keeps_the_format_of_images(client: triton.InferenceServerClient) -> None:
    """Image clients read the layout from the config."""
    config = client.get_model_config("densenet_onnx").config
    assert 2 == config.input[0].format  # FORMAT_NCHW
    assert 1 == client.get_model_config("inception_onnx").config.input[0].format  # FORMAT_NHWC
    assert "labels.txt" == config.output[0].label_filename


def test_config_shows_sequence_batching(client: triton.InferenceServerClient) -> None:
    """perf_analyzer knows by the config whether a model wants sequences."""
    config = client.get_model_config("simple_dyna_sequence").config
    assert config.HasField("sequence_batching")
    assert not config.HasField("dynamic_batching")
    assert "oldest" == config.sequence_batching.WhichOneof("strategy_choice")


def test_config_shows_decoupled(client: triton.InferenceServerClient) -> None:
    """perf_analyzer knows by the config whether replies are decoupled."""
    assert client.get_model_config("repeat_int32").config.model_transaction_policy.decoupled


def test_config_claims_no_response_cache(client: triton.InferenceServerClient) -> None:
    """What is not done is not claimed."""
    assert not client.get_model_config("simple").config.response_cache.enable


def test_config_as_json(client: triton.InferenceServerClient) -> None:
    """The JSON form is under ``config``."""
    assert 8 == client.get_model_config("simple", as_json=True)["config"]["max_batch_size"]


def test_config_of_an_unknown_model(client: triton.InferenceServerClient) -> None:
    """Config of an unknown model is NOT_FOUND."""
    assert "StatusCode.NOT_FOUND" == error_of(client.get_model_config, "nobody")[0]


def test_repository_index(client: triton.InferenceServerClient) -> None:
    """The index has every model, its version and its state."""
    index = {model.name: model for model in client.get_model_repository_index().models}
    assert ("1", "READY") == (index["simple"].version, index["simple"].state)
    assert "repeat_int32" in index


def test_repository_index_by_name_is_refused(server: LiveServer) -> None:
    """A repository name is not supported, and said so."""
    with pytest.raises(grpc.RpcError) as caught:
        server.call("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="other"))
    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()
    assert "'repository_name' specification is not supported" == caught.value.details()


def test_statistics_begin_with_zero(client: triton.InferenceServerClient) -> None:
    """A model that nobody asked has statistics, of zeroes."""
    (stats,) = client.get_inference_statistics("untouched").model_stats
    assert (0, 0, 0) == (
        stats.inference_count,
        stats.execution_count,
        stats.inference_stats.success.count,
    )


def test_statistics_count_rows_batches_and_requests(client: triton.InferenceServerClient) -> None:
    """Rows, executions and requests are counted each for what they are."""
    before = client.get_inference_statistics("simple").model_stats[0]
    client.infer("simple", add_sub(rows=3))
    after = client.get_inference_statistics("simple").model_stats[0]
    assert 3 == after.inference_count - before.inference_count
    assert 1 == after.execution_count - before.execution_count
    assert 1 == after.inference_stats.success.count - before.inference_stats.success.count
    assert 1 == after.inference_stats.queue.count - before.inference_stats.queue.count
    assert after.last_inference > before.last_inference


def test_compute_counts_are_equal(client: triton.InferenceServerClient) -> None:
    """The three stages are counted together."""
    client.infer("simple", add_sub())
    stats = client.get_inference_statistics("simple").model_stats[0].inference_stats
    counts = {stats.compute_input.count, stats.compute_infer.count, stats.compute_output.count}
    assert {stats.success.count} == counts
    assert stats.compute_infer.ns > 0


def test_statistics_by_batch_size(client: triton.InferenceServerClient) -> None:
    """There is an entry for every size that ran."""
    client.infer("simple_int8", add_sub(rows=5, dtype="int8"))
    stats = client.get_inference_statistics("simple_int8").model_stats[0]
    sizes = {entry.batch_size: entry.compute_infer.count for entry in stats.batch_stats}
    assert 1 == sizes[5]


def test_statistics_of_all_models(client: triton.InferenceServerClient) -> None:
    """Without a name, every ready model is listed."""
    names = {stats.name for stats in client.get_inference_statistics().model_stats}
    assert {"simple", "simple_sequence", "repeat_int32", "densenet_onnx"} <= names


def test_statistics_of_an_unknown_model(client: triton.InferenceServerClient) -> None:
    """Statistics of an unknown model are an error that names it."""
    status, message = error_of(client.get_inference_statistics, "nobody")
    assert "StatusCode.INVALID_ARGUMENT" == status
    assert "requested model 'nobody' is not available" in message


@pytest.mark.parametrize("model", ["simple", "simple_string", "simple_identity", "identity_fp32"])
def test_failures_are_counted(client: triton.InferenceServerClient, model: str) -> None:
    """A refused request counts as a failure."""
    before = client.get_inference_statistics(model).model_stats[0].inference_stats.fail.count
    error_of(client.infer, model, [])
    after = client.get_inference_statistics(model).model_stats[0].inference_stats.fail.count
    assert 1 == after - before
