"""A call whose path is no text ends, and nothing else does."""

from __future__ import annotations

import asyncio
import codecs
from typing import TYPE_CHECKING

import grpc
import pytest
import uvloop

from jitney.loadgen.frames import END_HEADERS, HEADERS, data_frame, frame, greeting
from jitney.transport.undecodable import tolerate_undecodable_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ECHO = "/test.Echo/Echo"
CALL_TIMEOUT = 10.0
RULES = codecs.lookup_error("strict")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Let Python be as strict as ever when a test is over."""
    yield
    codecs.register_error("strict", RULES)


def request_to(path: bytes) -> bytes:
    """Return all that a client sends to call a method, whatever its path is made of."""
    block = b"\x83\x86\x44" + bytes((len(path),)) + path
    block += b"\x41\x01a\x5f\x10application/grpc\x40\x02te\x08trailers"
    data = bytearray(data_frame(b""))
    data[5:9] = (1).to_bytes(4, "big")
    return greeting() + frame(HEADERS, END_HEADERS, 1, block) + data


async def answers_after(data: bytes) -> list[str]:
    """Return the status of a call before and after a stranger sent something to the server."""

    async def echo(message: bytes, _: object) -> bytes:
        return message

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    codes = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(ECHO)
        codes.append(await status_of(call))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), CALL_TIMEOUT)  # until it has ended
        writer.close()
        codes.append(await status_of(call))
    await server.stop(0)
    return codes


async def status_of(call: Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]]) -> str:
    """Return how a call ends."""
    try:
        await call(b"x", timeout=CALL_TIMEOUT)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("path", [b"/\xe3", b"/test.Echo/\xff\xfe", b"\xff", b"/test.Echo/Ech\xc3"])
def test_a_path_that_is_no_text_ends_one_call_only(
    path: bytes, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Whoever sends it is told that there is no such method; others are answered as before."""
    tolerate_undecodable_paths()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert ["OK", "OK"] == runner.run(answers_after(request_to(path)))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_python_code_goes_on_being_told(encoding: str) -> None:
    """What a line of Python decodes raises, whatever the bytes begin with."""
    tolerate_undecodable_paths()

    with pytest.raises(UnicodeDecodeError):
        b"/\xe3".decode(encoding)
    with pytest.raises(UnicodeEncodeError):
        "\ud800".encode()
