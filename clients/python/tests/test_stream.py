"""Streams of both clients."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jitney_client import Cancelled, InvalidRequest, RequestFailed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server import FakeServer

    Connect = Callable[..., Any]

ROW = np.zeros((1, 2), np.float32)


def test_every_request_gets_its_reply(client: Any) -> None:
    """Replies belong to their requests, in whatever order they are read."""
    with client.stream() as stream:
        pendings = [
            stream.submit("m", {"a": np.full((1, 2), n, np.float32)}, request_id=f"r{n}")
            for n in range(5)
        ]
        for n in (3, 0, 4, 1, 2, 2):
            result = pendings[n].result()
            assert (float(n), f"r{n}") == (result["a_out"][0, 0], result.request_id)
            assert {"seconds": 0.5} == result.parameters
        assert "<Stream 0 open>" == repr(stream)
    assert "<Stream closed>" == repr(stream)


def test_decoupled_replies_are_iterated_over(client: Any) -> None:
    """All replies come, and the mark of their end does not."""
    with client.stream() as stream:
        pending = stream.submit("repeat", {"a": ROW})
        assert [["a_out"]] * 3 == [list(result) for result in pending]
        assert [] == list(pending)


def test_several_replies_are_no_result(client: Any) -> None:
    """To ask for the only one of several replies is an error that says what to do."""
    with client.stream() as stream:
        pending = stream.submit("repeat", {"a": ROW})
        with pytest.raises(ValueError, match="the model sent several replies: iterate over them"):
            pending.result()


def test_one_failure_leaves_the_others_alone(client: Any) -> None:
    """A request that fails raises its own error, as often as it is asked for."""
    with client.stream() as stream:
        wrong, right = stream.submit("wrong", {"a": ROW}), stream.submit("m", {"a": ROW})
        for _ in range(2):
            with pytest.raises(RequestFailed, match="something is wrong"):
                wrong.result()
        assert ["a_out"] == list(right.result())
        with pytest.raises(RequestFailed):
            list(stream.submit("wrong", {"a": ROW}))


def test_requests_are_checked_before_they_are_sent(server: FakeServer, client: Any) -> None:
    """What does not fit the model is refused here, and names may be left out."""
    with client.stream() as stream:
        with pytest.raises(InvalidRequest, match="data-type is 'FP64'"):
            stream.submit("one", np.zeros((1, 2)))
        assert ["x_out"] == list(stream.submit("one", ROW).result())
        with pytest.raises(TypeError, match="unknown option 'timeout'"):
            stream.submit("one", ROW, timeout=1)
    assert 1 == len(server.infers)


def test_an_id_is_used_once_at_a_time(client: Any, server: FakeServer) -> None:
    """Two open requests cannot have one id, since replies are told apart by it."""
    with client.stream() as stream:
        slow = stream.submit("slow", {"a": ROW}, request_id="x")
        with pytest.raises(ValueError, match="the stream has a request 'x' already"):
            stream.submit("m", {"a": ROW}, request_id="x")
        server.release.set()
        slow.result()
        stream.submit("m", {"a": ROW}, request_id="x").result()


def test_the_end_of_the_call_ends_what_is_open(server: FakeServer, client: Any) -> None:
    """When the connection fails, everything open fails, and so does what is sent later."""
    with client.stream() as stream:
        answered, first, second = (stream.submit(name, {"a": ROW}) for name in ("slow", "end", "m"))
        server.release.set()
        assert ["a_out"] == list(answered.result())
        for pending in (first, second):
            with pytest.raises(Unavailable, match="going away"):
                pending.result()
        with pytest.raises(Unavailable, match="going away"):
            stream.submit("m", {"a": ROW})


def test_leaving_the_block_waits_for_what_is_open(client: Any) -> None:
    """After the block, every reply is there; nothing more can be sent."""
    with client.stream() as stream:
        pendings = [stream.submit("m", {"a": ROW}) for _ in range(20)]
    assert [["a_out"]] * 20 == [list(pending.result()) for pending in pendings]
    with pytest.raises(ValueError, match="the stream is closed"):
        stream.submit("m", {"a": ROW})


def test_an_error_in_the_block_gives_up_what_is_open(client: Any) -> None:
    """What was not answered ends with Cancelled."""
    pendings = []

    def fail() -> None:
        with client.stream() as stream:
            pendings.append(stream.submit("slow", {"a": ROW}))
            msg = "stop"
            raise RuntimeError(msg)

    with contextlib.suppress(RuntimeError):
        fail()
    with pytest.raises(Cancelled):
        pendings[0].result()


def test_more_than_may_be_in_flight_wait(server: FakeServer, client: Any) -> None:
    """Submitting blocks while too many requests are not answered."""
    done = threading.Event()

    def submit() -> None:
        with client.stream(max_in_flight=1) as stream:
            stream.submit("slow", {"a": ROW})
            stream.submit("m", {"a": ROW})
            done.set()

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        assert not done.wait(0.1)
    finally:
        server.release.set()
        thread.join()
    assert done.is_set()


def test_a_result_can_be_waited_for_so_long(server: FakeServer, client: Any) -> None:
    """After a wait in vain, the reply may still come."""
    with client.stream() as stream:
        pending = stream.submit("slow", {"a": ROW})
        with pytest.raises(TimeoutError, match=r"no reply within 0.01 s"):
            pending.result(0.01)
        server.release.set()
        assert ["a_out"] == list(pending.result(10))


def test_a_stream_has_its_own_timeout_and_tenant(server: FakeServer, connect: Connect) -> None:
    """The client's timeout is for calls, not for streams, whose tenant is said once."""
    client = connect(server.address, timeout=5)
    with client.stream() as stream:
        stream.submit("m", {"a": ROW}).result()
    with client.stream(timeout=50, tenant="t") as stream:
        stream.submit("m", {"a": ROW}).result()
    (first, second) = [
        (deadline, metadata.get("x-tenant"))
        for deadline, metadata, name in zip(
            server.deadlines, server.metadata, server.names, strict=True
        )
        if name == "ModelInfer"
    ]
    assert first[0] is None or first[0] > 1e6
    assert second[0] is not None
    assert 5 < second[0] < 60
    assert (None, "t") == (first[1], second[1])
