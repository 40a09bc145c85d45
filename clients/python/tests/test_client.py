"""The client against a small server that is made of the same stubs."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from jitney_client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidReply,
    InvalidRequest,
    JitneyError,
    ModelNotFound,
    NotSupported,
    Overloaded,
    ServerFault,
    Unavailable,
)
from jitney_client.protocol import inference, jitney_v1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney_client.protocol.message import Message

METADATA = {
    "one": ["x"],
    "two": ["a", "b"],
}


class Server:
    """A server that echoes: output ``<name>_out`` is input ``<name>``.

    ``reply`` replaces the reply of ModelInfer, ``failure`` makes every call fail with a code, a
    text and trailing metadata, ``release`` is awaited by a call to the model ``slow``.
    ``requests`` records what came.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.deadlines: list[float | None] = []
        self.reply: inference.ModelInferResponse | None = None
        self.failure: tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]] | None = None
        self.release = threading.Event()
        self.inputs = METADATA
        self._server = grpc.server(
            ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)]
        )
        for service, methods in (
            (inference.SERVICE, inference.METHODS),
            (jitney_v1.SERVICE, jitney_v1.METHODS),
        ):
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(
                    self._handle,
                    request_deserializer=methods[name].request.FromString,
                    response_serializer=methods[name].response.SerializeToString,
                )
                for name in methods
                if hasattr(self, name)
            }
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service, handlers)]
            )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Let waiting calls go, and end."""
        self.release.set()
        self._server.stop(None).wait()

    def _handle(self, request: Message, context: grpc.ServicerContext) -> Message:
        self.requests.append(request)
        self.deadlines.append(context.time_remaining())
        if self.failure is not None:
            code, text, trailer = self.failure
            context.set_trailing_metadata(trailer)
            context.abort(code, text)
        name = type(request).__name__.removesuffix("Request")
        reply: Message = getattr(self, name)(request)
        return reply

    def ModelInfer(self, request: inference.ModelInferRequest) -> inference.ModelInferResponse:
        """Echo."""
        if request.model_name == "slow":
            self.release.wait(10)
        if self.reply is not None:
            return self.reply
        reply = inference.ModelInferResponse(
            model_name=request.model_name, model_version="3", id=request.id
        )
        reply.parameters["seconds"].double_param = 0.5
        for tensor in request.inputs:
            reply.outputs.add(
                name=f"{tensor.name}_out", datatype=tensor.datatype, shape=tensor.shape
            )
        reply.raw_output_contents.extend(request.raw_input_contents)
        return reply

    def ModelMetadata(
        self, request: inference.ModelMetadataRequest
    ) -> inference.ModelMetadataResponse:
        """Return the input names of the table."""
        reply = inference.ModelMetadataResponse(name=request.name, versions=["3"])
        for name in self.inputs[request.name]:
            reply.inputs.add(name=name, datatype="FP32", shape=[-1, 2])
        return reply

    def ModelConfig(self, request: inference.ModelConfigRequest) -> inference.ModelConfigResponse:
        """Return a configuration with the name only."""
        return inference.ModelConfigResponse(config=inference.ModelConfig(name=request.name))

    def ModelStatistics(
        self, request: inference.ModelStatisticsRequest
    ) -> inference.ModelStatisticsResponse:
        """Return one row."""
        row = inference.ModelStatistics(name=request.name or "all", inference_count=5)
        return inference.ModelStatisticsResponse(model_stats=[row])

    def RepositoryIndex(
        self, request: inference.RepositoryIndexRequest
    ) -> inference.RepositoryIndexResponse:
        """Return one ready model, and one that failed unless only ready ones are wanted."""
        reply = inference.RepositoryIndexResponse()
        reply.models.add(name="one", version="3", state="READY")
        if not request.ready:
            reply.models.add(name="bad", version="1", state="UNAVAILABLE", reason="broken")
        return reply

    def ServerReady(self, _: inference.ServerReadyRequest) -> inference.ServerReadyResponse:
        """Return true."""
        return inference.ServerReadyResponse(ready=True)

    def ModelReady(self, request: inference.ModelReadyRequest) -> inference.ModelReadyResponse:
        """Return whether the table has the model."""
        return inference.ModelReadyResponse(ready=request.name in self.inputs)

    def GetStatus(self, request: jitney_v1.GetStatusRequest) -> jitney_v1.ServerStatus:
        """Return one model."""
        model = jitney_v1.ModelStatus(name=request.model_name, version=3)
        return jitney_v1.ServerStatus(version="0.1.0", models=[model])


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server on a free port of the loopback."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """Connect a client to it."""
    with Client(server.address, timeout=10) as client:
        yield client


def test_infer_sends_arrays_and_returns_arrays(client: Client) -> None:
    """Arrays go out by name with their dtypes and come back by name with the version that ran."""
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    second = np.array([[b"x"], [b"\0"]], object)

    result = client.infer("m", {"a": first, "b": second}, version="3", request_id="r-1")

    assert ["a_out", "b_out"] == list(result)
    np.testing.assert_array_equal(first, result["a_out"])
    np.testing.assert_array_equal(second, result["b_out"])
    assert ("m", "3", "r-1") == (result.model_name, result.model_version, result.request_id)
    assert {"seconds": 0.5} == result.parameters
    assert repr(result) == "<InferResult m/3 a_out: float32[2, 3], b_out: object[2, 1]>"


def test_infer_sends_what_was_asked(server: Server, client: Client) -> None:
    """Version, outputs and parameters are in the request, each parameter by its own type."""
    parameters: dict[str, bool | int | str | float] = {
        "flag": True,
        "count": 2,
        "text": "t",
        "ratio": 0.5,
    }
    client.infer("m", {"a": np.zeros(1)}, version="7", outputs=["p", "q"], parameters=parameters)

    (request,) = server.requests
    assert ("m", "7") == (request.model_name, request.model_version)
    assert ["p", "q"] == [output.name for output in request.outputs]
    assert {
        "flag": "bool_param",
        "count": "int64_param",
        "text": "string_param",
        "ratio": "double_param",
    } == {key: value.WhichOneof("parameter_choice") for key, value in request.parameters.items()}
    assert request.parameters["flag"].bool_param


def test_one_array_goes_to_the_only_input(server: Server, client: Client) -> None:
    """An array without a name is sent as the model's input, whose name is asked for once."""
    for _ in range(2):
        assert ["x_out"] == list(client.infer("one", np.zeros((1, 2), np.float32)))
    expected = ["ModelMetadataRequest", "ModelInferRequest", "ModelInferRequest"]
    assert expected == [type(request).__name__ for request in server.requests]


def test_one_array_asks_again_after_a_refusal(server: Server, client: Client) -> None:
    """When a model was replaced by one with another input, the call after the refused one works."""
    array = np.zeros((1, 2), np.float32)
    client.infer("one", array)
    server.inputs = {"one": ["renamed"]}
    server.failure = (grpc.StatusCode.INVALID_ARGUMENT, "unexpected input x", ())
    with pytest.raises(InvalidRequest):
        client.infer("one", array)
    server.failure = None
    assert ["renamed_out"] == list(client.infer("one", array))


def test_one_array_is_ambiguous_for_two_inputs(client: Client) -> None:
    """An array without a name is refused for a model with two inputs, and the text names them."""
    with pytest.raises(ValueError, match="two has the inputs a, b: give the arrays by name"):
        client.infer("two", np.zeros((1, 2), np.float32))


def test_messages_beyond_four_mebibytes_pass(client: Client) -> None:
    """The default limit of gRPC does not bound tensors."""
    array = np.zeros((6, 1024, 1024), np.uint8)
    assert client.infer("m", {"a": array})["a_out"].nbytes == array.nbytes


def test_missing_output_names_the_others(client: Client) -> None:
    """A wrong output name is a KeyError that lists what the reply has."""
    result = client.infer("m", {"a": np.zeros(1), "b": np.zeros(1)})
    assert "a" not in result
    assert "a_out" in result
    with pytest.raises(KeyError, match="no output 'a'; the reply has a_out, b_out"):
        result["a"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, ModelNotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, Cancelled),
        (grpc.StatusCode.UNIMPLEMENTED, NotSupported),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.UNKNOWN, ServerFault),
    ],
)
def test_every_status_has_its_type(
    server: Server, client: Client, code: grpc.StatusCode, kind: type[JitneyError]
) -> None:
    """A failed call raises the type of its status, with the server's text and code."""
    server.failure = (code, "what went wrong", ())
    with pytest.raises(JitneyError) as caught:
        client.metadata("one")
    assert (kind, "what went wrong", code, None) == (
        type(caught.value),
        str(caught.value),
        caught.value.code,
        caught.value.retry_after,
    )


@pytest.mark.parametrize(("pushback", "expected"), [("250", 0.25), ("-1", None), ("soon", None)])
def test_advice_to_wait_is_in_seconds(
    server: Server, client: Client, pushback: str, expected: float | None
) -> None:
    """The server's pushback becomes ``retry_after``; a negative one is no advice to wait."""
    server.failure = (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "queue full",
        (("grpc-retry-pushback-ms", pushback),),
    )
    with pytest.raises(Overloaded) as caught:
        client.metadata("one")
    assert expected == caught.value.retry_after


def test_timeout_ends_the_call(client: Client) -> None:
    """A call that takes longer than its timeout raises DeadlineExceeded."""
    with pytest.raises(DeadlineExceeded):
        client.infer("slow", {"a": np.zeros(1)}, timeout=0.05)


def test_timeout_of_the_client_reaches_the_server(server: Server, client: Client) -> None:
    """The client's timeout is the deadline that the server sees, unless the call has its own."""
    client.infer("m", {"a": np.zeros(1)})
    client.infer("m", {"a": np.zeros(1)}, timeout=100)
    first, second = server.deadlines
    assert first is not None
    assert second is not None
    # gRPC may round up what it sends by about one per cent.
    assert 0 < first < 11
    assert 11 < second < 110


def test_nobody_there_is_unavailable() -> None:
    """A call to a port where nobody listens raises Unavailable, and the server is not ready."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with Client(address, timeout=10) as client:
            assert not client.server_ready()
            with pytest.raises(Unavailable) as caught:
                client.metadata("one")
    assert caught.value.safe_to_retry


def test_contradicting_reply_is_a_fault_of_the_server(server: Server, client: Client) -> None:
    """A reply whose bytes do not fit its shape raises InvalidReply, and no array is made of it."""
    server.reply = inference.ModelInferResponse(model_name="m", raw_output_contents=[b"\0"])
    server.reply.outputs.add(name="y", datatype="FP32", shape=[1])
    with pytest.raises(InvalidReply, match=r"FP32 of shape \[1\] has 4 bytes, got 1"):
        client.infer("m", {"a": np.zeros(1)})
    server.reply.raw_output_contents.append(b"")
    with pytest.raises(InvalidReply, match="1 outputs, and the bytes of 2"):
        client.infer("m", {"a": np.zeros(1)})


def test_typed_reply_is_read(server: Server, client: Client) -> None:
    """A server that replies in typed fields is understood too."""
    server.reply = inference.ModelInferResponse(model_name="m", model_version="1")
    contents = inference.InferTensorContents(fp32_contents=[1.5, 2.5])
    server.reply.outputs.add(name="y", datatype="FP32", shape=[2], contents=contents)
    assert [1.5, 2.5] == client.infer("m", {"a": np.zeros(1)})["y"].tolist()


def test_other_calls_return_the_protocols_messages(client: Client) -> None:
    """Metadata, configuration, statistics, index, readiness and status are one call each."""
    assert ["a", "b"] == [tensor.name for tensor in client.metadata("two").inputs]
    assert client.config("one").name == "one"
    assert [("all", 5)] == [(row.name, row.inference_count) for row in client.statistics()]
    assert ["one", "bad"] == [model.name for model in client.models()]
    assert ["one"] == [model.name for model in client.models(ready=True)]
    assert client.server_ready()
    assert client.model_ready("one")
    assert not client.model_ready("three")
    assert [("one", 3)] == [(model.name, model.version) for model in client.status("one").models]
