"""Both clients against a small server that is made of the same stubs."""

from __future__ import annotations

import inspect
import math
import socket
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from fake_server import Failure

from jitney_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidReply,
    InvalidRequest,
    JitneyError,
    Overloaded,
    Unavailable,
)
from jitney_client.protocol import inference

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server import FakeServer

    Connect = Callable[..., Any]

ROW = np.zeros((1, 2), np.float32)


def test_both_clients_have_the_same_surface() -> None:
    """Every public method of one is one of the other, with the same parameters."""

    def surface(kind: type) -> dict[str, list[str]]:
        return {
            name: [
                str(parameter).replace(" | AsyncIterable[Inputs]", "")
                for parameter in inspect.signature(method).parameters.values()
            ]
            for name, method in vars(kind).items()
            if inspect.isfunction(method) and (not name.startswith("_") or name == "__init__")
        }

    assert surface(Client) == surface(AsyncClient)


# -- requests -------------------------------------------------------------------------------------


def test_infer_sends_arrays_and_returns_arrays(client: Any) -> None:
    """Arrays go out by name with their dtypes and come back by name with the version that ran."""
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    second = np.array([[b"x"], [b"\0"]], object)

    result = client.infer("m", {"a": first, "b": second}, version="3", request_id="r-1")

    assert ["a_out", "b_out"] == list(result)
    np.testing.assert_array_equal(first, result["a_out"])
    np.testing.assert_array_equal(second, result["b_out"])
    assert ("m", "3", "r-1") == (result.model_name, result.model_version, result.request_id)
    assert {"seconds": 0.5} == result.parameters
    assert result.timing is None
    assert repr(result) == "<InferResult m/3 a_out: float32[2, 3], b_out: object[2, 1]>"


def test_infer_sends_what_was_asked(server: FakeServer, client: Any) -> None:
    """Version, outputs and parameters are in the request, each parameter by its own type."""
    client.infer(
        "m",
        {"a": np.zeros(1)},
        version="7",
        outputs=["p", "q"],
        parameters={"flag": True, "count": 2, "text": "t", "ratio": 0.5},
        priority=1,
        queue_timeout=0.25,
        timing=True,
        sequence_id="s",
        sequence_start=True,
    )

    (request,) = server.infers
    assert ("m", "7") == (request.model_name, request.model_version)
    assert ["p", "q"] == [output.name for output in request.outputs]
    found = {
        key: (kind := value.WhichOneof("parameter_choice"), getattr(value, str(kind)))
        for key, value in request.parameters.items()
    }
    assert {
        "flag": ("bool_param", True),
        "count": ("int64_param", 2),
        "text": ("string_param", "t"),
        "ratio": ("double_param", 0.5),
        "priority": ("uint64_param", 1),
        "timeout": ("int64_param", 250_000),
        "jitney_timing": ("bool_param", True),
        "sequence_id": ("string_param", "s"),
        "sequence_start": ("bool_param", True),
        "sequence_end": ("bool_param", False),
    } == found


def test_equal_requests_differ_by_what_is_theirs(server: FakeServer, client: Any) -> None:
    """Ids and tensors are sent anew each time, also where the rest of a request is remembered."""
    for name, value in (("r1", 1.0), ("r2", 2.0), ("", 3.0)):
        client.infer("one", ROW + np.float32(value), request_id=name)
    assert ["r1", "r2", ""] == [request.id for request in server.infers]
    values = [np.frombuffer(r.raw_input_contents[0], "<f4")[0] for r in server.infers]
    assert [1.0, 2.0, 3.0] == values


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"outptus": ["y"]}, TypeError, "unknown option 'outptus'; there are outputs, parameters"),
        ({"queue_timeout": 0.0}, ValueError, "queue_timeout: expected seconds above 0"),
        ({"outputs": "y"}, TypeError, r"outputs: expected a list of names, such as \['y'\]"),
        ({"version": 1}, TypeError, "version: expected a str, got 1"),
        ({"request_id": 7}, TypeError, "request_id: expected a str, got 7"),
        ({"parameters": {"x": [1]}}, TypeError, "a bool, an int, a str or a float, got list"),
    ],
)
def test_options_are_checked(
    server: FakeServer, client: Any, options: Any, error: type[Exception], text: str
) -> None:
    """A misspelt option, or one without sense, is refused here."""
    with pytest.raises(error, match=text):
        client.infer("m", {"a": ROW}, **options)
    assert [] == server.infers


def test_what_is_no_array_is_refused(server: FakeServer, client: Any) -> None:
    """Of which type it should be, nobody can guess."""
    with pytest.raises(TypeError, match=r"expected an array of NumPy, got list: numpy\.asarray"):
        client.infer("m", {"a": [[1.0]]})
    assert [] == server.infers


def test_an_infinite_timeout_is_none(client: Any) -> None:
    """To gRPC it would be one that is over."""
    assert "a_out" in client.infer("m", {"a": ROW}, timeout=math.inf)


def test_messages_beyond_four_mebibytes_pass(client: Any) -> None:
    """The default limit of gRPC does not bound tensors, and replies are views of the message."""
    array = np.arange(6 << 20, dtype=np.uint8).reshape(6, 1024, 1024)
    output = client.infer("m", {"a": array})["a_out"]
    np.testing.assert_array_equal(array, output)
    assert not output.flags.owndata
    assert not output.flags.writeable


def test_missing_output_names_the_others(client: Any) -> None:
    """A wrong output name is a KeyError that lists what the reply has."""
    result = client.infer("m", {"a": np.zeros(1), "b": np.zeros(1)})
    assert "a" not in result
    assert "a_out" in result
    with pytest.raises(KeyError, match="no output 'a'; the reply has a_out, b_out"):
        result["a"]


def test_classes_are_read(server: FakeServer, client: Any) -> None:
    """The classes of each row have value, number and label, colons in the label included."""
    server.reply = inference.ModelInferResponse(model_name="m")
    server.reply.outputs.add(name="y", datatype="BYTES", shape=[2, 1])
    elements = (b"0.500000:3:a:b", b"7:0")
    data = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    server.reply.raw_output_contents.append(data)

    result = client.infer("m", {"x": ROW}, top_k={"y": 1})

    (request,) = server.infers
    assert [("y", 1)] == [
        (output.name, output.parameters["classification"].int64_param) for output in request.outputs
    ]
    assert {"y": [[(0.5, 3, "a:b")], [(7.0, 0, "")]]} == result.classes
    assert [[elements[0]], [elements[1]]] == result["y"].tolist()


# -- the model's contract -------------------------------------------------------------------------


def test_one_array_goes_to_the_only_input(server: FakeServer, client: Any) -> None:
    """An array without a name is sent as the model's input; the contract is asked for once."""
    for _ in range(2):
        assert ["x_out"] == list(client.infer("one", ROW))
    assert ["ModelMetadata", "ModelConfig", "ModelInfer", "ModelInfer"] == server.names


def test_one_array_is_ambiguous_for_two_inputs(client: Any) -> None:
    """An array without a name is refused for a model with two inputs, and the text names them."""
    with pytest.raises(ValueError, match="two has the inputs a, b: give the arrays by name"):
        client.infer("two", ROW)


def test_one_array_needs_a_server_that_tells(client: Any) -> None:
    """Where the server offers no metadata, inputs need their names; then nothing is checked."""
    with pytest.raises(ValueError, match="does not tell what m takes: give the arrays by name"):
        client.infer("m", ROW)
    assert ["x_out"] == list(client.infer("m", {"x": ROW}))


def test_what_does_not_fit_is_not_sent(server: FakeServer, client: Any) -> None:
    """A wrong dtype is refused here, after the server was asked whether it is still wrong."""
    with pytest.raises(InvalidRequest, match="data-type is 'FP64', but model 'one' expects 'FP32'"):
        client.infer("one", ROW.astype(np.float64))
    assert [] == server.infers
    assert ["ModelMetadata", "ModelConfig"] * 2 == server.names


def test_checks_can_be_off(server: FakeServer, connect: Connect) -> None:
    """Without checks, the server sees everything, and metadata is not asked for."""
    connect(server.address, check=False).infer("one", {"z": np.zeros(3)})
    assert ["ModelInfer"] == server.names


def test_a_server_without_configuration_is_checked_less(
    server: FakeServer, connect: Connect
) -> None:
    """Where only metadata is offered, inputs may be missing: they may be optional."""
    server.config = None
    client = connect(server.address)
    assert ["a_out"] == list(client.infer("two", {"a": ROW}))
    with pytest.raises(InvalidRequest, match="unexpected inference input 'c' for model 'two'"):
        client.infer("two", {"c": ROW})


def test_a_replaced_model_is_no_error(server: FakeServer, client: Any) -> None:
    """When a model was replaced by one with another input, calls go on to work."""
    client.infer("one", ROW)
    server.models = {"one": ["renamed"]}
    server.failures = [Failure(grpc.StatusCode.INVALID_ARGUMENT, "unexpected input x")]
    assert ["renamed_out"] == list(client.infer("one", ROW))
    server.models = {"one": ["again"]}
    assert ["again_out"] == list(client.infer("one", {"again": ROW}))


def test_a_refusal_of_the_server_stands(server: FakeServer, client: Any) -> None:
    """When the contract is what it was, the server's refusal is raised, and not tried again."""
    client.infer("one", ROW)
    server.failures = [Failure(grpc.StatusCode.INVALID_ARGUMENT, "this value is too large")]
    with pytest.raises(InvalidRequest, match="this value is too large"):
        client.infer("one", ROW)
    assert 2 == len(server.infers)


def test_a_sequence_is_not_sent_again(server: FakeServer, client: Any) -> None:
    """A refused request of a sequence is not repeated, whatever became of the model."""
    client.infer("one", ROW)
    server.models = {"one": ["renamed"]}
    server.failures = [Failure(grpc.StatusCode.INVALID_ARGUMENT, "unexpected input x")]
    with pytest.raises(InvalidRequest):
        client.infer("one", ROW, sequence_id=4, sequence_start=True)
    assert 2 == len(server.infers)


# -- the clock ------------------------------------------------------------------------------------


def test_timeout_ends_the_call(client: Any) -> None:
    """A call that takes longer than its timeout raises DeadlineExceeded."""
    with pytest.raises(DeadlineExceeded):
        client.infer("slow", {"a": np.zeros(1)}, timeout=0.05)


def test_timeout_of_the_client_reaches_the_server(server: FakeServer, connect: Connect) -> None:
    """The client's timeout is the deadline that the server sees, unless the call has its own."""
    client = connect(server.address, check=False)
    client.infer("m", {"a": np.zeros(1)})
    client.infer("m", {"a": np.zeros(1)}, timeout=100)
    first, second = server.deadlines
    assert first is not None
    assert second is not None
    # gRPC may round up what it sends by about one per cent.
    assert 0 < first < 11
    assert 11 < second < 110


# -- failures -------------------------------------------------------------------------------------


def test_nobody_there_is_unavailable(connect: Connect) -> None:
    """A call to a port where nobody listens raises Unavailable, and the server is not ready."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        client = connect(f"127.0.0.1:{bound.getsockname()[1]}", retries=None)
        assert not client.server_ready()
        with pytest.raises(Unavailable) as caught:
            client.metadata("one")
    assert caught.value.safe_to_retry


def test_contradicting_reply_is_a_fault_of_the_server(server: FakeServer, client: Any) -> None:
    """A reply whose bytes do not fit its shape raises InvalidReply, and no array is made of it."""
    server.reply = inference.ModelInferResponse(model_name="m", raw_output_contents=[b"\0"])
    server.reply.outputs.add(name="y", datatype="FP32", shape=[1])
    with pytest.raises(InvalidReply, match=r"FP32 of shape \[1\] has 4 bytes, got 1"):
        client.infer("m", {"a": np.zeros(1)})
    server.reply.raw_output_contents.append(b"")
    with pytest.raises(InvalidReply, match="1 outputs, and the bytes of 2"):
        client.infer("m", {"a": np.zeros(1)})


def test_typed_reply_is_read(server: FakeServer, client: Any) -> None:
    """A server that replies in typed fields is understood too."""
    server.reply = inference.ModelInferResponse(model_name="m", model_version="1")
    contents = inference.InferTensorContents(fp32_contents=[1.5, 2.5])
    server.reply.outputs.add(name="y", datatype="FP32", shape=[2], contents=contents)
    assert [1.5, 2.5] == client.infer("m", {"a": np.zeros(1)})["y"].tolist()


def test_a_closed_client_says_so(server: FakeServer, connect: Connect) -> None:
    """Calls after close are a ValueError; closing twice is nothing."""
    client = connect(server.address)
    client.metadata("one")
    client.close()
    client.close()
    with pytest.raises(ValueError, match="the client is closed"):
        client.metadata("one")


# -- other calls ----------------------------------------------------------------------------------


def test_other_calls_return_the_protocols_messages(client: Any) -> None:
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
    assert "fake" == client.server_metadata().name


def test_loading_sends_the_configuration_and_files(
    server: FakeServer, client: Any, tmp_path: Any
) -> None:
    """A mapping becomes JSON, files are sent under their names, and the contract is forgotten."""
    (tmp_path / "model.pt").write_bytes(b"model")
    client.infer("one", ROW)
    client.load("one", config={"max_batch_size": 8}, files={"1/model.pt": tmp_path / "model.pt"})
    server.models = {"one": ["renamed"]}
    assert ["renamed_out"] == list(client.infer("one", ROW))
    (load,) = [r for r in server.requests if isinstance(r, inference.RepositoryModelLoadRequest)]
    assert '{"max_batch_size": 8}' == load.parameters["config"].string_param
    assert b"model" == load.parameters["file:1/model.pt"].bytes_param
    client.unload("one")
    assert "RepositoryModelUnload" == server.names[-1]


def test_loading_is_not_repeated(server: FakeServer, client: Any) -> None:
    """What changes the server is tried once."""
    server.failure = Failure(grpc.StatusCode.UNAVAILABLE, "busy")
    for call in (client.load, client.unload):
        with pytest.raises(Unavailable):
            call("one")
    assert ["RepositoryModelLoad", "RepositoryModelUnload"] == server.names


def test_waiting_for_a_server_that_comes(server: FakeServer, connect: Connect) -> None:
    """The wait ends when the server, or a model, is ready."""
    client = connect(server.address)
    server.failures = [Failure(grpc.StatusCode.UNAVAILABLE, "starting")]
    client.wait_until_ready()
    client.wait_until_ready("one")
    assert ["ServerReady", "ServerReady", "ModelReady"] == server.names


def test_waiting_in_vain_says_why(server: FakeServer, client: Any) -> None:
    """The error at the end of the wait tells what the server says of the model."""
    server.ready = False
    with pytest.raises(DeadlineExceeded, match=r"the server at .* is not ready within 0.1 s"):
        client.wait_until_ready(timeout=0.1)
    with pytest.raises(DeadlineExceeded, match=r"model 'bad' .* within 0.1 s: bad/1: broken"):
        client.wait_until_ready("bad", timeout=0.1)


# -- retries --------------------------------------------------------------------------------------


def overload(pushback: int | None) -> Failure:
    """Return a full queue."""
    trailer = (("grpc-retry-pushback-ms", str(pushback)),) if pushback is not None else ()
    return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", trailer)


LOST = Failure(grpc.StatusCode.UNAVAILABLE, "lost")


@pytest.mark.parametrize("failure", [LOST, overload(1)])
def test_what_passes_is_tried_again(server: FakeServer, client: Any, failure: Failure) -> None:
    """A lost worker, and overload with advice, are followed by another attempt."""
    client.infer("one", ROW)
    server.failures = [failure, failure]
    client.infer("one", ROW)
    assert 4 == len(server.infers)


@pytest.mark.parametrize(
    ("failure", "options"),
    [
        (overload(None), {}),
        (overload(-1), {}),
        (Failure(grpc.StatusCode.INTERNAL, "bug"), {}),
        (Failure(LOST.code, "stop", (("grpc-retry-pushback-ms", "-1"),)), {}),
        (LOST, {"sequence_id": 7}),
        (overload(1), {"sequence_id": 7}),
    ],
)
def test_what_does_not_pass_is_not_tried_again(
    server: FakeServer, client: Any, failure: Failure, options: Any
) -> None:
    """Nor is what the server asks not to repeat, nor a request of a sequence."""
    client.infer("one", ROW)
    server.failures = [failure]
    with pytest.raises(JitneyError):
        client.infer("one", ROW, **options)
    assert 2 == len(server.infers)


def test_retries_can_be_off(server: FakeServer, connect: Connect) -> None:
    """Without retries, the first failure is raised."""
    server.failure = overload(1)
    with pytest.raises(Overloaded):
        connect(server.address, retries=None, check=False).infer("one", {"x": ROW})
    assert 1 == len(server.infers)


def test_a_wait_beyond_the_timeout_is_not_begun(server: FakeServer, client: Any) -> None:
    """When the server says to come back after the deadline, its refusal is raised at once."""
    client.infer("one", ROW)
    server.failure = overload(60_000)
    with pytest.raises(Overloaded) as caught:
        client.infer("one", ROW)
    assert 60.0 == caught.value.retry_after
    assert 2 == len(server.infers)


# -- what goes along ------------------------------------------------------------------------------


def test_tenant_token_and_headers_go_along(server: FakeServer, connect: Connect) -> None:
    """Each call carries them as metadata; a call's own tenant wins; a token may be made anew."""
    tokens = iter(["t1", "t2", "t3", "t4", "t5"])
    client = connect(
        server.address,
        check=False,
        tenant="a",
        tenant_key="x-who",
        token=lambda: next(tokens),
        headers={"X-Route": "r"},
    )
    client.infer("m", {"a": ROW})
    client.infer("m", {"a": ROW}, tenant="b")
    client.metadata("one")
    found = [(m["x-who"], m["authorization"], m["x-route"]) for m in server.metadata]
    assert [("a", "Bearer t1", "r"), ("b", "Bearer t2", "r"), ("a", "Bearer t3", "r")] == found


def test_several_addresses_take_turns(connect: Connect) -> None:
    """Calls are spread over all servers, and go on when one of them is gone."""
    from fake_server import FakeServer  # noqa: PLC0415  # two of them

    with FakeServer() as first, FakeServer() as second:
        client = connect([first.address, second.address], check=False)
        client.infer("m", {"a": ROW})
        while not (first.requests and second.requests):
            client.infer("m", {"a": ROW})
        second.__exit__()
        for _ in range(8):
            client.infer("m", {"a": ROW})
        with pytest.raises(ValueError, match="a sequence belongs to one server"):
            client.infer("m", {"a": ROW}, sequence_id=1)


def test_a_server_that_is_about_to_stop_is_left_out(connect: Connect) -> None:
    """Of several servers, those that say that they do not serve get no calls."""
    from fake_server import FakeServer  # noqa: PLC0415  # several of them

    with FakeServer(serving=False) as stopping, FakeServer(serving=True) as serving:
        client = connect([stopping.address, serving.address], check=False)
        for _ in range(8):
            client.infer("m", {"a": ROW})
        assert (0, 8) == (len(stopping.requests), len(serving.requests))


def test_a_call_that_the_server_dropped_is_tried_again(server: FakeServer, client: Any) -> None:
    """CANCELLED without a word, by nobody here: a server that stops has taken it in and lost it."""
    client.infer("one", ROW)
    server.failures = [Failure(grpc.StatusCode.CANCELLED, "CANCELLED")]

    client.infer("one", ROW)

    assert 3 == len(server.infers)


def test_several_channels_take_turns(server: FakeServer, connect: Connect) -> None:
    """Calls over several connections all arrive."""
    client = connect(server.address, channels=3, check=False)
    for index in range(7):
        client.infer("m", {"a": ROW}, request_id=str(index))
    assert [str(index) for index in range(7)] == [request.id for request in server.infers]
