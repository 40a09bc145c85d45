"""Bad input ends one call with a clear text, and nothing else."""

from __future__ import annotations

from typing import Any

import bad_contents
import bad_requests
import grpc
import numpy as np
import pytest
from bad_requests import INVALID, ZEROS, Case, changed, first, same, simple
from live_server import CALL_TIMEOUT, LiveServer

from jitney_client.protocol import inference as pb


def ending(server: LiveServer, request: pb.ModelInferRequest | bytes) -> grpc.RpcError:
    """Return how a call fails."""
    message = request if isinstance(request, bytes) else request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        server.infer_raw(message)
    return caught.value


def assert_unharmed(server: LiveServer) -> None:
    """Check that nothing is left behind, and that the next request is answered."""
    assert (0, 0) == server.in_flight()
    ones = np.ones((1, 16), np.int32)
    sums = server.client.infer("simple", {"INPUT0": ones, "INPUT1": ones})["OUTPUT0"]
    assert [2] * 16 == sums[0].tolist()


CASES = [*bad_requests.CASES, *bad_contents.CASES]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_bad_input(server: LiveServer, case: Case) -> None:
    """The call ends at once with the protocol's status and text; no batch runs for it."""
    before = server.metric("jitney_batches_total")
    error = ending(server, case.request)
    assert (case.code, case.text) == (error.code(), error.details()[: len(case.text)])
    assert before == server.metric("jitney_batches_total")
    assert_unharmed(server)


def test_every_refusal_is_counted(server: LiveServer) -> None:
    """A refused request counts once each: as a call, as rejected, as the model's failure."""

    def figures() -> tuple[float, float, int]:
        return (
            server.metric("jitney_requests_total", method="ModelInfer", code="INVALID_ARGUMENT"),
            server.metric("jitney_rejected_total", model="simple", reason="bad_input"),
            server.figures("simple").inference_stats.fail.count,
        )

    before = figures()
    ending(server, first("FP32", [1, 16], ZEROS))
    assert tuple(figure + 1 for figure in before) == figures()


def test_gauges_are_back_at_zero(server: LiveServer) -> None:
    """After refusals of every kind, the gauges of what is in flight show nothing."""
    for request in (simple(version="9"), first("FP32", [1, 16], ZEROS), b"\xff"):
        ending(server, request)
    gauges = ("jitney_inflight_requests", "jitney_inflight_bytes", "jitney_queue_depth")
    assert (0, 0, 0) == tuple(server.metric(gauge) for gauge in gauges)


def test_the_largest_message_is_refused_by_its_size(server: LiveServer) -> None:
    """A message over the limit is RESOURCE_EXHAUSTED, before any of it is looked at."""
    error = ending(server, bytes(3 << 20))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == error.code()
    assert "larger than max (3145728 vs. 2097152)" in error.details()
    assert_unharmed(server)


def test_what_inflates_beyond_the_limit_is_refused(server: LiveServer) -> None:
    """Inflating stops at the limit of a message: a few KiB that would become 64 MiB are refused."""
    with pytest.raises(grpc.RpcError) as caught:
        server.infer_raw(bytes(64 << 20), compression=grpc.Compression.Gzip)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == caught.value.code()
    assert_unharmed(server)


@pytest.mark.parametrize("shape", [[1, 0, 1000], [2, 1 << 30, 0], [8, 0, 0]])
def test_empty_tensors_of_any_shape_are_answered(server: LiveServer, shape: list[int]) -> None:
    """A tensor without elements is a tensor, whatever its other sizes are."""
    reply = server.infer_raw(same("planes", "FP32", shape, b"").SerializeToString())
    response = pb.ModelInferResponse.FromString(reply)
    assert (shape, [b""]) == (
        list(response.outputs[0].shape),
        list(response.raw_output_contents),
    )


@pytest.mark.parametrize(
    ("rpc", "request_type", "field"),
    [
        ("ModelMetadata", pb.ModelMetadataRequest, "name"),
        ("ModelConfig", pb.ModelConfigRequest, "name"),
        ("ModelStatistics", pb.ModelStatisticsRequest, "name"),
        ("ModelMetadata", pb.ModelMetadataRequest, "version"),
    ],
)
def test_long_names_come_back_short(
    server: LiveServer, rpc: str, request_type: Any, field: str
) -> None:
    """A name of 60 kB is refused as what it is, and does not fill the reply's trailers."""
    request = request_type(**{"name": "simple", field: "é" * 30_000})
    with pytest.raises(grpc.RpcError) as caught:
        server.call(rpc, request)
    expected = (
        INVALID if field == "version" or rpc == "ModelStatistics" else grpc.StatusCode.NOT_FOUND
    )
    assert expected == caught.value.code()
    assert_unharmed(server)


@pytest.mark.parametrize(
    "request_",
    [
        simple(outputs=["é" * 100_000]),
        simple(version="9" * 100_000),
        simple(version="é" * 100_000),
        first("é" * 100_000, [1, 16], ZEROS),
        changed(lambda r: r.parameters["é" * 100_000].SetInParent()),
    ],
    ids=["output", "digits", "version", "datatype", "parameter"],
)
def test_long_texts_in_a_request_come_back_short(
    server: LiveServer, request_: pb.ModelInferRequest
) -> None:
    """Whatever a request is wrong about, its status arrives, however long the wrong text is."""
    assert INVALID == ending(server, request_).code()
    assert_unharmed(server)


def test_a_known_head_is_checked_again_with_other_bytes(server: LiveServer) -> None:
    """A request whose like was accepted before is still refused for its own bytes."""
    right = same("same_fp32", "FP32", [1, 2], bytes(8)).SerializeToString()
    server.infer_raw(right)
    error = ending(server, same("same_fp32", "FP32", [1, 2], bytes(4)))
    assert (
        "input byte size mismatch for input 'x' for model 'same_fp32'. Expected 8, got 4"
        == error.details()
    )
    server.infer_raw(right, timeout=CALL_TIMEOUT)
