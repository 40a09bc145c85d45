from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from calls import add_sub, tensors
from live_server import wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc
from waiting import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from live_server import LiveServer

FINAL = "triton_final_response"


@pytest.fixture
def stream(server: LiveServer) -> Iterator[Stream]:
    """Return an open stream."""
    with Stream(server.address) as opened:
        yield opened


def repeat(values: list[int], delay: int = 0, wait: int = 0) -> Any:
    """Return inputs of the decoupled model; milliseconds."""
    return tensors(
        IN=np.array(values, np.int32),
        DELAY=np.full(len(values), delay, np.uint32),
        WAIT=np.array([wait], np.uint32),
    )


def final_of(result: Any) -> bool:
    """Return the flag of a reply."""
    flag: bool = result.get_response().parameters[FINAL].bool_param
    return flag


def test_replies_come_in_order(stream: Stream) -> None:
    """One reply for each request, in the order in which they were sent."""
    for i in range(50):
        stream.send("simple", add_sub(i % 8 + 1), request_id=str(i))
    assert [str(i) for i in range(50)] == [stream.reply().get_response().id for _ in range(50)]


def test_a_slow_model_holds_back_a_fast_one(stream: Stream) -> None:
    """Order holds across models."""
    stream.send(
        "custom_identity_int32", tensors(INPUT0=np.zeros((1, 1), np.int32)), request_id="slow"
    )
    stream.send("simple", add_sub(), request_id="fast")
    assert ["slow", "fast"] == [stream.reply().get_response().id for _ in range(2)]


def test_the_only_reply_is_final(stream: Stream) -> None:
    """The reply of a plain model says that it is the last."""
    stream.send("simple", add_sub())
    reply = stream.reply()
    assert FINAL in reply.get_response().parameters
    assert final_of(reply)


def test_answers_are_right(stream: Stream) -> None:
    """Tensors come as in a single call."""
    stream.send("simple", add_sub())
    np.testing.assert_array_equal(
        np.arange(16, dtype=np.int32)[None] + 1, stream.reply().as_numpy("OUTPUT0")
    )


def test_errors_do_not_end_a_stream(stream: Stream) -> None:
    """An error comes in its place, and the next request is answered."""
    stream.send("simple", add_sub(), request_id="1")
    stream.send("nobody", add_sub(), request_id="2")
    stream.send("simple", add_sub(), request_id="3")
    assert "1" == stream.reply().get_response().id
    assert "unknown model: 'nobody' is not found" in str(stream.error())
    assert "3" == stream.reply().get_response().id


def test_decoupled_replies(stream: Stream) -> None:
    """One reply for each element, none of them final, and nothing more."""
    stream.send("repeat_int32", repeat([4, 2, 0]), request_id="r")
    replies = [stream.reply() for _ in range(3)]
    assert [4, 2, 0] == [int(reply.as_numpy("OUT")[0]) for reply in replies]
    assert [0, 1, 2] == [int(reply.as_numpy("IDX")[0]) for reply in replies]
    assert [False] * 3 == [final_of(reply) for reply in replies]
    stream.send("simple", add_sub(), request_id="next")
    assert "next" == stream.reply().get_response().id


def test_the_empty_final_reply(stream: Stream) -> None:
    """On request the end is told by a reply without outputs."""
    stream.send("repeat_int32", repeat([1, 2]), request_id="r", enable_empty_final_response=True)
    for _ in range(2):
        assert not final_of(stream.reply())
    last = stream.reply()
    response = last.get_response()
    assert (True, "r", "repeat_int32", 0) == (
        final_of(last),
        response.id,
        response.model_name,
        len(response.outputs),
    )


def test_no_elements_no_replies(stream: Stream) -> None:
    """A decoupled request may have no reply but its end."""
    stream.send("repeat_int32", repeat([]), request_id="r", enable_empty_final_response=True)
    assert final_of(stream.reply())


def test_decoupled_requests_run_side_by_side(stream: Stream) -> None:
    """A decoupled request that takes its time does not hold back others."""
    stream.send("repeat_int32", repeat([1, 2, 3], delay=200), request_id="slow")
    stream.send("repeat_int32", repeat([9]), request_id="fast")
    ids = [stream.reply().get_response().id for _ in range(4)]
    assert ("fast", 3) == (ids[0], ids.count("slow"))


def test_decoupled_and_plain_on_one_stream(stream: Stream) -> None:
    """Both kinds of models share a stream."""
    stream.send("repeat_int32", repeat([1, 2], delay=100), request_id="r")
    stream.send("simple", add_sub(), request_id="s")
    ids = [stream.reply().get_response().id for _ in range(3)]
    assert (2, 1) == (ids.count("r"), ids.count("s"))


def test_wrong_lengths_of_the_decoupled_model(stream: Stream) -> None:
    """What the built-in model cannot do is an error of that request."""
    inputs = tensors(
        IN=np.zeros(2, np.int32), DELAY=np.zeros(1, np.uint32), WAIT=np.zeros(1, np.uint32)
    )
    stream.send("repeat_int32", inputs)
    assert "DELAY" in str(stream.error())
    stream.send("simple", add_sub())
    assert final_of(stream.reply())


def talk(
    server: LiveServer, requests: Any, metadata: Any = None, timeout: float = 20
) -> list[service_pb2.ModelStreamInferResponse]:
    """Return what a stream through the public stubs replies."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    return list(stub.ModelStreamInfer(iter(requests), metadata=metadata, timeout=timeout))


def raw(model: str = "simple", **fields: Any) -> service_pb2.ModelInferRequest:
    """Return a request to ``simple``."""
    request = service_pb2.ModelInferRequest(model_name=model, **fields)
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(bytes(64))
    return request


def test_an_error_carries_the_id(server: LiveServer) -> None:
    """The reply with an error has the id of its request."""
    (reply,) = talk(server, [raw("nobody", id="x")])
    assert ("x", True) == (reply.infer_response.id, "nobody" in reply.error_message)


def test_half_close_finishes_what_runs(server: LiveServer) -> None:
    """A caller that has said all still gets every reply, and then OK."""
    replies = talk(server, [raw(id=str(i)) for i in range(20)])
    assert [str(i) for i in range(20)] == [reply.infer_response.id for reply in replies]


def test_a_stream_without_requests(server: LiveServer) -> None:
    """It ends well."""
    assert [] == talk(server, [])


def test_errors_as_status(server: LiveServer) -> None:
    """With triton_grpc_error an error ends the stream with its status."""
    with pytest.raises(grpc.RpcError) as caught:
        talk(server, [raw(), raw("nobody"), raw()], metadata=[("triton_grpc_error", "true")])
    assert grpc.StatusCode.NOT_FOUND is caught.value.code()


def test_a_deadline_of_the_stream(server: LiveServer) -> None:
    """The call's deadline is that of every request in it."""
    request = service_pb2.ModelInferRequest(model_name="custom_identity_int32")
    request.inputs.add(name="INPUT0", datatype="INT32", shape=[1024, 1])
    request.raw_input_contents.append(bytes(4096))
    late = []
    try:
        replies = talk(server, [request] * 20, timeout=0.4)
        late = [reply.error_message for reply in replies if reply.error_message]
    except grpc.RpcError as error:  # where the deadline passed before the last answer
        late = [error.code().name.title().replace("_", " ")]
    assert late
    assert all("Deadline Exceeded" in text or "request late" in text for text in late)
    wait_until(lambda: server.in_flight() == (0, 0), "in_flight is 0")


def test_a_cancelled_stream(server: LiveServer) -> None:
    """What waits is dropped when the stream is cancelled."""
    with Stream(server.address) as opened:
        for _ in range(20):
            opened.send("repeat_int32", repeat([1] * 50, delay=100))
        opened.reply()
        stop = opened.client.stop_stream
        try:
            stop(cancel_requests=True)
        except TypeError:
            pytest.skip("this version of the client cannot cancel")
    wait_until(lambda: server.in_flight() == (0, 0), "in_flight is 0")


def test_a_second_stream_of_one_client_is_refused(stream: Stream) -> None:
    """The client allows one stream at a time; ours changes nothing about it."""
    with pytest.raises(Exception, match="cannot start another stream"):
        stream.client.start_stream(lambda *_: None)


def test_statistics_of_decoupled_replies(server: LiveServer, stream: Stream) -> None:
    """Replies are counted by their place."""
    stream.send("repeat_int32", repeat([1, 2, 3]), enable_empty_final_response=True)
    for _ in range(4):
        stream.reply()
    wait_until(lambda: server.in_flight() == (0, 0), "in_flight is 0")
    stub = service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    stats = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="repeat_int32"))
    assert stats.model_stats[0].inference_stats.success.count > 0
    if hasattr(stats.model_stats[0], "response_stats"):
        assert {"0", "1", "2"} <= set(stats.model_stats[0].response_stats)
