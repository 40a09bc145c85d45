"""Methods read their messages by themselves, and nobody who calls them notices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct, Value

from jitney.errors import ModelNotFound
from jitney.telemetry.metrics import Metrics
from jitney.transport.arrivals import Arrivals
from jitney.transport.receiver import SMALL_REQUEST, Receiver
from jitney.transport.status import Statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


async def length(message: bytes, _: object) -> bytes:
    """Take bytes."""
    return str(len(message)).encode()


async def count(request: Struct, _: object) -> Value:
    """Take a message."""
    return Value(number_value=len(request.fields))


async def counts(request: Struct, _: object) -> AsyncIterator[Value]:
    """Answer with several messages."""
    for number in range(len(request.fields)):
        yield Value(number_value=number)


async def sizes(messages: AsyncIterator[bytes], context: Any) -> None:
    """Take a stream of bytes, and write replies."""
    async for message in messages:
        await context.write(str(len(message)).encode())


async def echo(messages: AsyncIterator[Struct], _: object) -> AsyncIterator[Struct]:
    """Take a stream of messages."""
    async for message in messages:
        yield message


async def missing(_: bytes, __: object) -> bytes:
    """Find nothing."""
    msg = "there is none"
    raise ModelNotFound(msg)


STRUCT, VALUE = Struct.FromString, Value.SerializeToString
METHODS = {
    "Length": grpc.unary_unary_rpc_method_handler(length),
    "Count": grpc.unary_unary_rpc_method_handler(count, STRUCT, VALUE),
    "Large": grpc.unary_unary_rpc_method_handler(count, STRUCT, VALUE),
    "Counts": grpc.unary_stream_rpc_method_handler(counts, STRUCT, VALUE),
    "Sizes": grpc.stream_stream_rpc_method_handler(sizes),
    "Echo": grpc.stream_stream_rpc_method_handler(echo, STRUCT, Struct.SerializeToString),
    "Missing": grpc.unary_unary_rpc_method_handler(missing),
}


class Bench:
    """A server of these methods and a channel to it."""

    def __init__(self, channel: grpc.aio.Channel, arrivals: Arrivals, metrics: Metrics) -> None:
        self.arrivals = arrivals
        self.metrics = metrics
        self._channel = channel

    async def call(self, method: str, *messages: bytes) -> list[bytes]:
        """Send messages, and return those that come back; everything is bytes here."""
        call = self._channel.stream_stream(f"/test.Test/{method}")(iter(messages), timeout=20)
        return [message async for message in call]

    async def failure(self, method: str, *messages: bytes) -> tuple[str, str]:
        """Return how a call fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, *messages)
        return caught.value.code().name, caught.value.details() or ""

    async def waits_for(self, count: int) -> None:
        """Return when so many calls wait for a message."""
        while self.arrivals.statistics().waiting != count:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)

    def half(self, method: str) -> Any:
        """Begin a call and send nothing."""
        return self._channel.stream_stream(f"/test.Test/{method}")(timeout=20)


def run(scenario: Callable[[Bench], Awaitable[None]], **limits: Any) -> None:
    """Run a scenario with a server of its own."""

    async def serve() -> None:
        arrivals = Arrivals(**{"timeout": 600, "free": 15, "most": 100, **limits})
        metrics = Metrics()
        handlers = [
            grpc.method_handlers_generic_handler("other.Other", {}),
            grpc.method_handlers_generic_handler("test.Test", METHODS),
        ]
        receiver = Receiver(
            handlers, arrivals, Statuses(), metrics, {"/test.Test/Large": 10 * SMALL_REQUEST}
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((receiver,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await scenario(Bench(channel, arrivals, metrics))
            assert 0 == arrivals.statistics().waiting
        finally:
            await server.stop(0)

    asyncio.run(serve())


def struct(fields: int) -> bytes:
    """Return a message of several parts."""
    message = Struct()
    for number in range(fields):
        message[str(number)] = number
    return message.SerializeToString()


def test_every_kind_of_method_works() -> None:
    """Bytes and messages, one and many of them."""

    async def scenario(bench: Bench) -> None:
        assert [b"3"] == await bench.call("Length", b"abc")
        assert [b"0"] == await bench.call("Length", b"")
        assert [Value(number_value=2).SerializeToString()] == await bench.call("Count", struct(2))
        assert 3 == len(await bench.call("Counts", struct(3)))
        assert [b"1", b"2"] == await bench.call("Sizes", b"a", b"bc")
        assert [] == await bench.call("Sizes")
        echoed = await bench.call("Echo", struct(1), struct(2))
        assert [1, 2] == [len(STRUCT(message).fields) for message in echoed]

    run(scenario)


def test_what_is_no_message_of_a_method_is_refused() -> None:
    """It is the caller's fault, and no bug; counted like every other refusal."""

    async def scenario(bench: Bench) -> None:
        expected = ("INVALID_ARGUMENT", "the request is no message of this method")
        for method in ("Count", "Counts", "Echo"):
            assert expected == await bench.failure(method, b"\xff" * 10)
        assert 1 == bench.metrics.requests.value(("_unknown", "", "Count", "INVALID_ARGUMENT"))

    run(scenario)


def test_messages_are_small_before_they_are_parsed() -> None:
    """But for methods that say otherwise; bytes are for whoever takes them to look at."""

    async def scenario(bench: Bench) -> None:
        large = struct(10_000)
        assert len(large) > SMALL_REQUEST
        code, text = await bench.failure("Count", large)
        expected = f"the request has {len(large)} bytes, of this method at most 65536 are taken"
        assert ("INVALID_ARGUMENT", expected) == (code, text)
        assert 1 == len(await bench.call("Large", large))
        assert [str(len(large)).encode()] == await bench.call("Length", large)

    run(scenario)


def test_a_call_without_a_request_is_refused() -> None:
    """As the protocol has it for a wrong number of messages."""

    async def scenario(bench: Bench) -> None:
        expected = ("UNIMPLEMENTED", "the call ended without a request")
        assert expected == await bench.failure("Length")
        assert expected == await bench.failure("Counts")

    run(scenario)


def test_methods_that_are_not_there_are_not_remembered() -> None:
    """Callers could fill a dictionary with them."""

    async def scenario(bench: Bench) -> None:
        for name in ("Nothing", "x" * 1000):
            assert "UNIMPLEMENTED" == (await bench.failure(name, b""))[0]

    run(scenario)


def test_an_error_of_a_method_is_its_status() -> None:
    """Methods that turn no errors into statuses may leave that to who calls them."""

    async def scenario(bench: Bench) -> None:
        assert ("NOT_FOUND", "there is none") == await bench.failure("Missing", b"")

    run(scenario)


def test_who_sends_nothing_is_told_in_the_end() -> None:
    """A stream is not: its next message may take hours."""

    async def scenario(bench: Bench) -> None:
        call, stream = bench.half("Length"), bench.half("Sizes")
        await call.wait_for_connection()
        await stream.write(b"one")
        assert b"3" == await stream.read()
        while not bench.arrivals.evicted:
            bench.arrivals.beat()
            await asyncio.sleep(0)
        assert "RESOURCE_EXHAUSTED" == (await call.code()).name
        await stream.write(b"more")
        assert b"4" == await stream.read()
        await stream.done_writing()
        assert grpc.aio.EOF is await stream.read()

    run(scenario, timeout=20)


def test_who_goes_away_is_forgotten() -> None:
    """In the middle of a request or of a stream."""

    async def scenario(bench: Bench) -> None:
        calls = [bench.half("Length"), bench.half("Sizes")]
        for call in calls:
            await call.wait_for_connection()
        await bench.waits_for(len(calls))
        for call in calls:
            call.cancel()
        await bench.waits_for(0)

    run(scenario)
