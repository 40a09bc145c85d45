"""A connection of an open-loop caller: requests leave when told, whatever has come back.

Like ``benchmarks.http2`` it writes frames that are made beforehand, at a few microseconds per call,
so that on a machine with few cores the server is what is measured. Other than that one it sends a
deadline and reads each call's status. It does not end a call at its deadline, as gRPC's clients
do: how late an answer comes is a thing to be measured.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from benchmarks.http2 import (
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
from benchmarks.wallclock.hpack import HeaderError, HeaderReader, HeaderWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LOST", "RESET_BY_SERVER", "Ledger", "OpenConnection", "Template", "template"]

RESET_BY_SERVER: Final = 100
"""Instead of a status code: the server reset the call's stream."""
LOST: Final = 101
"""Instead of a status code: the connection went away, or the call never ended."""
STATUS: Final = b"grpc-status"
REASON: Final = b"jitney-reason"


class Template(NamedTuple):
    """A request made beforehand: its headers, and its DATA frame with the stream's number 0."""

    headers: tuple[tuple[str, str], ...]
    data: bytes


def template(
    path: str, authority: str, message: bytes, metadata: Sequence[tuple[str, str]] = ()
) -> Template:
    """Return the request of a unary call with this message and metadata."""
    headers = (
        *((":path", path), (":authority", authority), ("content-type", "application/grpc")),
        *(("te", "trailers"), ("user-agent", "grpc-benchmark/1"), *metadata),
    )
    return Template(headers, data_frame(message))


class Ledger(Protocol):
    """Who is told how calls end."""

    def ended(self, number: int, at: float, code: int, reason: bytes, reply: bytes) -> None:
        """Note a call's end: a gRPC status code, or one of the two above; then no reply."""


class OpenConnection(asyncio.Protocol):
    """One connection; ``send`` what is due, then ``flush``."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._transport: asyncio.Transport | None = None
        self._writer = HeaderWriter()
        self._reader = HeaderReader((STATUS, REASON))
        self._buffer = b""
        self._stream = 1
        self._window = INITIAL_WINDOW
        self._received = 0
        self._calls: dict[int, _Call] = {}
        self._blocked: list[tuple[int, bytes]] = []
        self._out: list[bytes] = []

    @property
    def open_calls(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    async def connect(self, address: str) -> None:
        """Connect to ``host:port``."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, host, int(port))

    def send(self, number: int, request: Template) -> None:
        """Put a call into what the next ``flush`` writes."""
        stream = self._stream
        self._stream += 2
        self._calls[stream] = _Call(number)
        block = self._writer.block(request.headers)
        self._out.append(frame(HEADERS, END_HEADERS, stream, block))
        if self._blocked or len(request.data) - FRAME_HEADER > self._window:
            self._blocked.append((stream, request.data))
        else:
            self._write_data(stream, request.data)

    def flush(self) -> None:
        """Write what was put together, in one call."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def close(self) -> None:
        """Let go of the server; calls that have not ended are lost."""
        if self._transport is not None:
            self._transport.abort()
        self._lose()

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, and grant the server all the window there is."""
        # uvloop's transports are no subclasses of asyncio's, so the type cannot be asserted.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(greeting())

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """Count what was open as lost; nothing reconnects."""
        self._transport = None
        self._lose()

    def data_received(self, data: bytes) -> None:
        """Read every whole frame."""
        now = time.monotonic()
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= FRAME_HEADER:
            body = at + FRAME_HEADER
            after = body + int.from_bytes(buffer[at : at + 3], "big")
            if after > end:
                break
            stream = int.from_bytes(buffer[at + 5 : body], "big")
            self._read(buffer[at + 3], buffer[at + 4], stream, buffer[body:after], now)
            at = after
        self._buffer = buffer[at:]
        self._received += len(data)
        if self._received >= TOP_UP:
            self._out.append(grant(self._received))
            self._received = 0
        self.flush()

    # -- frames ---------------------------------------------------------------------------------

    def _read(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        if kind == DATA:
            if (call := self._calls.get(stream)) is not None:
                call.body += payload
        elif kind == HEADERS:
            self._read_headers(flags, stream, payload)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
            self._unblock()
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._out.append(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == RESET:
            self._end(stream, now, RESET_BY_SERVER)
        elif kind == GOAWAY:
            self._lose()
        if flags & END_STREAM and kind in (DATA, HEADERS):
            self._end(stream, now, None)

    def _read_headers(self, flags: int, stream: int, block: bytes) -> None:
        if not flags & END_HEADERS:
            msg = "a header block in several frames"
            raise HeaderError(msg)
        headers = self._reader.read(block)
        if (call := self._calls.get(stream)) is not None and headers:
            call.code = int(headers.get(STATUS, b"-1"))
            call.reason = headers.get(REASON, b"")

    def _write_data(self, stream: int, data: bytes) -> None:
        self._window -= len(data) - FRAME_HEADER
        self._out += (data[:NUMBER_AT], stream.to_bytes(4, "big"), data[FRAME_HEADER:])

    def _unblock(self) -> None:
        while self._blocked and len(self._blocked[0][1]) - FRAME_HEADER <= self._window:
            self._write_data(*self._blocked.pop(0))

    def _end(self, stream: int, now: float, code: int | None) -> None:
        call = self._calls.pop(stream, None)
        if call is None:
            return
        code = call.code if code is None else code
        reply = bytes(call.body[MESSAGE_PREFIX:]) if code == 0 else b""
        self._ledger.ended(call.number, now, code, call.reason, reply)

    def _lose(self) -> None:
        now = time.monotonic()
        for stream in list(self._calls):
            self._end(stream, now, LOST)


class _Call:
    """A call that has not ended; ``code`` is -1 until a status came."""

    __slots__ = ("body", "code", "number", "reason")

    def __init__(self, number: int) -> None:
        self.number = number
        self.code = -1
        self.reason = b""
        self.body = b""
