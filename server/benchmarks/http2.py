"""A gRPC caller that costs next to nothing: HTTP/2 frames that are made beforehand.

Only for measuring against servers that are known: unary calls of one method, messages that fit
one frame, no TLS, header blocks of the server not read. A reply with the right bytes cannot have
ended with an error, and one without is counted as lost, so the status need not be decoded.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from jitney.loadgen.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    MESSAGE_PREFIX,
    NUMBER_AT,
    PING,
    RESET,
    SETTINGS,
    TOP_UP,
    WINDOW_UPDATE,
    data_frame,
    frame,
    grant,
    greeting,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Http2Connection", "Ledger"]

AGAIN: Final = bytes((0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62))
"""The header block of every request but the first: POST, http, and the five entries that the
first one put into the server's table, as gRPC's own clients do."""


class Ledger(Protocol):
    """Who is told of replies."""

    until: float

    def answered(self, which: int, began: float, reply: bytes) -> None:
        """Count a reply."""

    def lost(self, why: str) -> None:
        """Count a call that failed, or a whole connection."""


class _Call(NamedTuple):
    which: int
    began: float
    body: list[bytes]


class Http2Connection(asyncio.Protocol):
    """One connection; ``run`` keeps a number of calls going on it.

    It connects at the first ``run``, stays open for the next ones, connects again where the server
    closed it in between, and sends what one read of the socket set off in a single write, as gRPC
    does.
    """

    def __init__(self, address: str, path: str) -> None:
        self._address = address
        self._first = _header_block(path, address)
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._stream = 1
        self._window = INITIAL_WINDOW
        self._received = 0
        self._calls: dict[int, _Call] = {}
        self._blocked: list[int] = []
        self._out: list[bytes] = []
        self._requests: Sequence[bytes] = ()
        self._ledger: Ledger | None = None
        self._idle: asyncio.Future[None] | None = None

    async def run(self, requests: Sequence[bytes], places: Iterable[int], ledger: Ledger) -> None:
        """Keep one call per place going until ``ledger.until``; place ``i`` sends request ``i``."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            host, _, port = self._address.rpartition(":")
            await loop.create_connection(lambda: self, host, int(port))
        self._ledger = ledger
        self._requests = [data_frame(request) for request in requests]
        self._idle = loop.create_future()
        for place in places:
            self._send(place % len(requests))
        self._flush()
        await self._idle

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, and grant the server all the window there is."""
        self._stream = 1
        self._window = INITIAL_WINDOW
        self._received = 0
        self._buffer = b""
        # uvloop's transports are no subclasses of asyncio's, so the type cannot be asserted.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(greeting())

    def connection_lost(self, error: Exception | None) -> None:
        """End the round, if there is one."""
        self._transport = None
        self._fail(f"the connection was lost ({error})")

    def data_received(self, data: bytes) -> None:
        """Read every whole frame."""
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= FRAME_HEADER:
            body = at + FRAME_HEADER
            after = body + int.from_bytes(buffer[at : at + 3], "big")
            if after > end:
                break
            stream = int.from_bytes(buffer[at + 5 : body], "big")
            self._read(buffer[at + 3], buffer[at + 4], stream, buffer[body:after])
            at = after
        self._buffer = buffer[at:]
        self._received += len(data)
        if self._received >= TOP_UP:
            self._out.append(grant(self._received))
            self._received = 0
        self._flush()

    # -- frames ---------------------------------------------------------------------------------

    def _read(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            if stream in self._calls:
                self._calls[stream].body.append(payload)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
            waiting, self._blocked = self._blocked, []
            for which in waiting:
                self._send(which)
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._out.append(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind in (RESET, GOAWAY):
            self._fail("the server reset a call" if kind == RESET else "the server goes away")
        if flags & END_STREAM and kind in (DATA, HEADERS):
            call = self._calls.pop(stream, None)
            if call is not None:  # else the round has failed already
                self._ended(call)

    def _ended(self, call: _Call) -> None:
        ledger = self._ledger
        assert ledger is not None  # nothing is sent outside a run
        body = call.body[0] if len(call.body) == 1 else b"".join(call.body)
        if body:
            ledger.answered(call.which, call.began, body[MESSAGE_PREFIX:])
        else:
            ledger.lost("a call ended without a reply")
        if time.perf_counter() < ledger.until:
            self._send(call.which)
        elif not self._calls:
            self._settle()

    def _send(self, which: int) -> None:
        data = self._requests[which]
        size = len(data) - FRAME_HEADER
        if size > self._window:
            self._blocked.append(which)
            return
        self._window -= size
        stream = self._stream
        self._stream += 2
        self._calls[stream] = _Call(which, time.perf_counter(), [])
        block = AGAIN if stream > 1 else self._first
        number = stream.to_bytes(4, "big")
        self._out += (
            frame(HEADERS, END_HEADERS, stream, block),
            data[:NUMBER_AT],
            number,
            data[FRAME_HEADER:],
        )

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _fail(self, why: str) -> None:
        if self._ledger is not None and self._idle is not None and not self._idle.done():
            self._ledger.lost(why)
            self._calls.clear()
            self._settle()

    def _settle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


def _header_block(path: str, authority: str) -> bytes:
    """Return the first request's headers: each is also put into the server's table (RFC 7541)."""

    def text(value: str) -> bytes:
        return bytes((len(value),)) + value.encode()  # shorter than 127, no Huffman code

    return b"".join(
        (
            b"\x83\x86",
            b"\x44" + text(path),
            b"\x41" + text(authority),
            b"\x5f" + text("application/grpc"),
            b"\x40" + text("te") + text("trailers"),
            b"\x7a" + text("grpc-benchmark/1"),
        )
    )
