"""The load generator's connection against a real gRPC server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.wallclock.connection import OpenConnection, template

CALLS = 60
PATIENCE = 20.0


class Ends:
    """Remembers how calls ended."""

    def __init__(self, count: int) -> None:
        self.all: dict[int, tuple[int, bytes, bytes]] = {}
        self.over = asyncio.Event()
        self._count = count

    def ended(self, number: int, at: float, code: int, reason: bytes, reply: bytes) -> None:
        """Note an end."""
        assert at > 0
        self.all[number] = (code, reason, reply)
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


async def call_all() -> dict[int, tuple[int, bytes, bytes]]:
    """Make the calls; return their ends."""
    server = grpc.aio.server()
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    ends = Ends(CALLS)
    connection = OpenConnection(ends)
    try:
        await connection.connect(address)
        for number in range(CALLS):
            metadata = [("x-tenant", f"t{number % 4}"), ("grpc-timeout", "20S")]
            call = template("/test.Test/Do", address, bytes([number]), metadata)
            connection.send(number, call)
        connection.flush()
        await asyncio.wait_for(ends.over.wait(), PATIENCE)
    finally:
        connection.close()
        await server.stop(None)
    return ends.all


def test_every_call_ends_with_its_own_status() -> None:
    """Answers, codes and reasons come to the calls that they belong to."""
    ends = asyncio.run(call_all())

    expected = {}
    for number in range(CALLS):
        reply = bytes([number]) + f"t{number % 4}".encode() + b"!" * (100 * number)
        refused = (8, f"REASON_{number}".encode(), b"")
        expected[number] = refused if number % 3 == 0 else (0, b"", reply)
    assert ends == expected
