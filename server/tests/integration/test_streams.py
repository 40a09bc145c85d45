"""Streams, traces and compressed calls of a live server: what they hold, and how they end."""

from __future__ import annotations

import json
import queue
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
import psutil
import pytest
from conftest import held_flags
from live_server import CALL_TIMEOUT, LiveServer, infer_request, wait_until

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tiny_models import Gate

    Start = Callable[..., LiveServer]
    Busy = Callable[[LiveServer], AbstractContextManager[None]]

ROW = np.ones((1, 4), np.float32)
MIB = 1 << 20


class Talk:
    """An open stream: what is sent goes out at once, what comes is received when asked for."""

    def __init__(self, server: LiveServer, **options: Any) -> None:
        method = pb.METHODS["ModelStreamInfer"]
        self._requests = queue.Queue[pb.ModelInferRequest | None]()
        self.call = server.channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )(iter(self._requests.get, None), **{"timeout": CALL_TIMEOUT, **options})

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever is left."""
        self.half_close()
        self.call.cancel()

    def send(self, request: pb.ModelInferRequest, name: str = "") -> None:
        """Send a request."""
        request.id = name
        self._requests.put(request)

    def half_close(self) -> None:
        """Send nothing more."""
        self._requests.put(None)

    def receive(self) -> pb.ModelStreamInferResponse:
        """Return the next message."""
        return next(self.call)

    def rest(self) -> list[pb.ModelStreamInferResponse]:
        """Half-close; return what still comes."""
        self.half_close()
        return list(self.call)


def same() -> pb.ModelInferRequest:
    """Return a request to a model that answers at once."""
    return infer_request("same_fp32", x=ROW)


def held() -> pb.ModelInferRequest:
    """Return a request that runs while the gate is shut."""
    return infer_request("held", x=ROW)


def repeat(count: int, delay: int = 0) -> pb.ModelInferRequest:
    """Return a request to the decoupled model: so many replies, so many milliseconds apart."""
    return infer_request(
        "repeat",
        IN=np.arange(count, dtype=np.int32),
        DELAY=np.full(count, delay, np.uint32),
        WAIT=np.zeros(1, np.uint32),
    )


@pytest.fixture(scope="module")
def live(
    few_and_repeat: Path, gate: Gate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """Return a server whose streams may hold little, and which writes traces."""
    folder = tmp_path_factory.mktemp("live")
    flags = (
        *("--max-stream-bytes", str(MIB), f"--trace-file={folder / 'traces'}"),
        *held_flags(gate),
    )
    with LiveServer(few_and_repeat, folder / "log", f"--slot-bytes={MIB}", *flags) as server:
        yield server


@pytest.fixture(scope="module")
def few_and_repeat(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a decoupled model."""
    root = tmp_path_factory.mktemp("few_and_repeat")
    shutil.copytree(few, root, dirs_exist_ok=True)
    (root / "repeat").mkdir()
    (root / "repeat" / "model.toml").write_text(
        'max_batch_size = 0\n[builtin]\nhandler = "repeat"\n', encoding="utf-8"
    )
    return root


# -- streams --------------------------------------------------------------------------------------


def test_a_slow_request_holds_back_the_replies_behind_it(live: LiveServer, busy: Busy) -> None:
    """Replies come in the order of requests, also where they were made in another one."""
    with Talk(live) as talk:
        with busy(live):
            talk.send(held(), "slow")
            talk.send(repeat(2), "many")
            assert ["many", "many"] == [talk.receive().infer_response.id for _ in range(2)]
            talk.send(same(), "fast")
        rest = talk.rest()

    assert ["slow", "fast"] == [reply.infer_response.id for reply in rest]
    assert grpc.StatusCode.OK is talk.call.code()


def test_requests_of_a_stream_are_counted_one_by_one(live: LiveServer) -> None:
    """By their model and their own status; the stream is not counted itself."""

    def counted() -> dict[str, float]:
        return {
            code: live.metric("jitney_requests_total", method="ModelStreamInfer", code=code)
            for code in ("OK", "NOT_FOUND")
        }

    before = counted()
    with Talk(live) as talk:
        for request in (same(), infer_request("nobody", x=ROW), same()):
            talk.send(request)
        talk.rest()

    assert {"OK": 2, "NOT_FOUND": 1} == {
        code: count - before[code] for code, count in counted().items()
    }


def test_a_stream_that_is_cancelled_leaves_nothing(live: LiveServer, busy: Busy) -> None:
    """What waits is dropped, what is decoupled stops."""
    with busy(live), Talk(live) as talk:
        for i in range(5):
            talk.send(same(), str(i))
        talk.send(repeat(1000, 100))
        talk.receive()
        talk.call.cancel()
        wait_until(lambda: live.in_flight()[0] == 1, "only the held request is left")


def test_a_caller_who_does_not_read_is_held_back(live: LiveServer) -> None:
    """Replies that nobody reads end the stream before they fill the memory."""
    before = psutil.Process(live.pid).memory_info().rss
    with Talk(live) as talk:
        for i in range(20):
            talk.send(repeat(20_000), str(i))
        wait_until(
            lambda: (
                live.metric("jitney_requests_total", method="ModelStreamInfer", code="CANCELLED")
                > 0
            ),
            "the server stops what the stream asked for",
        )
        wait_until(lambda: live.in_flight() == (0, 0), "nothing is left")
        grown = psutil.Process(live.pid).memory_info().rss - before
        with pytest.raises(grpc.RpcError) as caught:
            list(talk.call)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    assert grown < 64 * MIB


def test_a_stopping_server_finishes_its_streams(
    few_and_repeat: Path, start: Start, gate: Gate
) -> None:
    """What was accepted is answered, what comes later is refused on the stream."""
    server = start(few_and_repeat)
    with Talk(server) as talk:
        before = server.metric("jitney_batches_total", model="held")
        gate.shut()
        talk.send(held(), "accepted")
        wait_until(lambda: server.metric("jitney_batches_total", model="held") > before, "it runs")
        server.terminate()
        wait_until(
            lambda: not server.call("ServerReady", pb.ServerReadyRequest()).ready, "it drains"
        )
        talk.send(same(), "late")
        wait_until(
            lambda: server.metric("jitney_rejected_total", reason="draining") > 0, "it is refused"
        )
        gate.open()
        first, second = talk.receive(), talk.receive()

    assert ("accepted", "") == (first.infer_response.id, first.error_message)
    assert ("late", "the server is shutting down") == (
        second.infer_response.id,
        second.error_message,
    )
    assert 0 == server.wait()


# -- traces ---------------------------------------------------------------------------------------


def test_traces_are_written_while_somebody_wants_them(live: LiveServer) -> None:
    """Of unary calls and of streams alike, to the operator's file."""

    def trace(**settings: list[str]) -> str:
        request = pb.TraceSettingRequest(model_name="same_fp32")
        for key, values in settings.items():
            request.settings[key].value.extend(values)
        reply = live.call("TraceSetting", request)
        (name,) = reply.settings["trace_file"].value
        return str(name)

    file = live.log.with_name(trace(trace_level=["TIMESTAMPS"], trace_rate=["1"]))
    unary = same()
    unary.id = "unary"
    live.start_infer(unary).result()
    with Talk(live) as talk:
        talk.send(same(), "stream")
        talk.rest()
    trace(trace_level=[], trace_rate=[])
    live.start_infer(same()).result()
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    assert ["unary", "stream"] == [line["id"] for line in lines]
    for line in lines:
        assert 0 < line["compute_infer_ns"] < line["total_ns"]


# -- compression ----------------------------------------------------------------------------------


def test_a_message_that_inflates_to_much_costs_no_memory(live: LiveServer) -> None:
    """256 MiB of zeros are 256 KiB on the wire, and never 256 MiB in the server."""

    def peak() -> int:
        status = Path(f"/proc/{live.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    before = peak()
    with pytest.raises(grpc.RpcError) as caught:
        live.infer_raw(bytes(256 * MIB), compression=grpc.Compression.Gzip)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    assert peak() - before < 32 * MIB


def test_a_compressed_request_is_answered_as_any(live: LiveServer) -> None:
    """The reply is that of the request as it was before."""
    message = same().SerializeToString()

    plain = live.infer_raw(message)

    assert plain == live.infer_raw(message, compression=grpc.Compression.Gzip)
    assert plain == live.infer_raw(message, compression=grpc.Compression.Deflate)
