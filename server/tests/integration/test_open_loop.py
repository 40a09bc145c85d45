"""The load generator's connection against a real gRPC server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from jitney.loadgen.connection import LOST, OpenConnection, template
from jitney.loadgen.frames import SETTINGS, frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from jitney.loadgen.connection import Template

    Answer = Callable[[bytes, Any], Awaitable[bytes]]
    Ended = tuple[int, bytes, bytes]

CALLS = 60
PATIENCE = 20.0
LARGE = 1 << 20
LIMIT = 4


class Ends:
    """Remembers how calls ended."""

    def __init__(self, count: int) -> None:
        self.all: dict[int, Ended] = {}
        self.over = asyncio.Event()
        self._count = count

    def ended(self, number: int, at: float, code: int, reason: bytes, body: bytes) -> None:
        """Note an end."""
        assert at > 0
        self.all[number] = (code, reason, body)
        if len(self.all) == self._count:
            self.over.set()


async def answer(message: bytes, context: Any) -> bytes:
    """Refuse every third call, in words of its own; echo the others."""
    number = message[0]
    if number % 3 == 0:
        metadata = (("jitney-reason", f"REASON_{number}"),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"no {number} ü", metadata)
    tenant = dict(context.invocation_metadata())["x-tenant"]
    return message + tenant.encode() + b"!" * (100 * number)


async def echo(message: bytes, _: Any) -> bytes:
    """Return the message."""
    return message


def call_of(address: str, message: bytes, *metadata: tuple[str, str]) -> Template:
    """Return a call of the test's server."""
    return template("/test.Test/Do", address, message, metadata)


async def call_all(
    answer: Answer,
    make: Callable[[str], Sequence[Template]],
    options: Sequence[tuple[str, Any]] = (),
) -> dict[int, Ended]:
    """Make the calls on one connection, all at once; return their ends."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.aio.server(options=[*unlimited, *options])
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    calls = make(address)
    ends = Ends(len(calls))
    connection = OpenConnection(ends)
    try:
        await connection.connect(address)
        for number, call in enumerate(calls):
            connection.send(number, call)
        connection.flush()
        await asyncio.wait_for(ends.over.wait(), PATIENCE)
    finally:
        connection.close()
        await server.stop(None)
    return ends.all


def test_every_call_ends_with_its_own_status() -> None:
    """Answers, codes, reasons and texts come to the calls that they belong to."""

    def make(address: str) -> list[Template]:
        return [
            call_of(address, bytes([n]), ("x-tenant", f"t{n % 4}"), ("grpc-timeout", "20S"))
            for n in range(CALLS)
        ]

    ends = asyncio.run(call_all(answer, make))

    expected = {}
    for number in range(CALLS):
        reply = bytes([number]) + f"t{number % 4}".encode() + b"!" * (100 * number)
        refused = (8, f"REASON_{number}".encode(), f"no {number} ü".encode())
        expected[number] = refused if number % 3 == 0 else (0, b"", reply)
    assert expected == ends


def test_messages_of_many_frames_arrive_whole() -> None:
    """Requests and replies of a megabyte pass both windows, beside small ones."""
    messages = [bytes([n]) * (LARGE + n if n % 2 else 10 + n) for n in range(12)]

    ends = asyncio.run(call_all(echo, lambda a: [call_of(a, message) for message in messages]))

    assert {n: (0, b"", message) for n, message in enumerate(messages)} == ends


def test_no_more_calls_are_open_than_the_server_takes() -> None:
    """Calls beyond the limit wait for others to end, and none is refused."""
    open_calls, most = 0, 0

    async def count(message: bytes, _: Any) -> bytes:
        nonlocal open_calls, most
        open_calls += 1
        most = max(most, open_calls)
        await asyncio.sleep(0)
        open_calls -= 1
        return message

    def make(address: str) -> list[Template]:
        return [call_of(address, bytes([n])) for n in range(CALLS)]

    limit = [("grpc.max_concurrent_streams", LIMIT)]
    ends = asyncio.run(call_all(count, make, limit))

    assert {n: (0, b"", bytes([n])) for n in range(CALLS)} == ends
    assert most <= LIMIT


async def meet(greeting: bytes, *, hang_up: bool) -> dict[int, Ended]:
    """Call a server that says only this; return what became of a call before and after its end."""
    met: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if hang_up:
            writer.close()
        met.set_result(writer)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    ends = Ends(1)
    connection = OpenConnection(ends)
    try:
        await connection.connect(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connection.send(0, call_of("h", b"a"))
        connection.flush()
        (await met).close()
        await asyncio.wait_for(ends.over.wait(), PATIENCE)
        connection.send(1, call_of("h", b"b"))
    finally:
        connection.close()
        (await met).close()
        server.close()
        await server.wait_closed()
    return ends.all


def test_calls_of_a_server_that_goes_away_are_lost() -> None:
    """What was open when the connection went, and what is sent later, ends so and says why."""
    ends = asyncio.run(meet(frame(SETTINGS, 0, 0), hang_up=False))

    assert {0: LOST, 1: LOST} == {number: code for number, (code, *_) in ends.items()}
    assert all(b"connection" in body for *_, body in ends.values())


def test_who_hangs_up_is_no_server() -> None:
    """A connection that is closed before a word of HTTP/2 is told about."""
    with pytest.raises(OSError, match="is it the gRPC port"):
        asyncio.run(meet(b"", hang_up=True))
