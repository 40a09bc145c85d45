"""A connection of an open-loop caller: requests leave when told, whatever has come back.

It writes frames that are made beforehand, at a few microseconds per call, because on a machine with
few cores the server is to be measured and not a client. It sends deadlines and does not end calls
at them, as gRPC's clients do: how late an answer comes is a thing to be measured.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast
from urllib.parse import unquote_to_bytes

from jitney.loadgen.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    MAX_STREAMS,
    MESSAGE_PREFIX,
    NUMBER_AT,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_BYTES,
    RESET,
    SETTINGS,
    TABLE_SIZE,
    TOP_UP,
    WINDOW_UPDATE,
    frame,
    grant,
    greeting,
    prefixed,
    setting_values,
)
from jitney.loadgen.hpack import HeaderReader, HeaderWriter

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

__all__ = ["LOST", "RESET_BY_SERVER", "Ledger", "OpenConnection", "Template", "template"]

RESET_BY_SERVER: Final = 100
"""Instead of a status code: the server reset the call's stream."""
LOST: Final = 101
"""Instead of a status code: the connection went away, or the call never ended."""
STATUS: Final = b"grpc-status"
REASON: Final = b"jitney-reason"
MESSAGE: Final = b"grpc-message"
HTTP_STATUS: Final = b":status"
HTTP_OK: Final = b"200"
NO_STATUS: Final = 2
"""gRPC's UNKNOWN: what a call ends with that was given no status."""
REFUSED: Final = 7
"""HTTP/2's REFUSED_STREAM: nothing was done for the call."""
MOST_TRIES: Final = 100
GREETING_TIMEOUT: Final = 10.0
UNBOUNDED: Final = 1 << 31


class Template(NamedTuple):
    """A request made beforehand: its headers, and its message behind the length."""

    headers: tuple[tuple[str, str], ...]
    payload: bytes
    small: bytes
    """The DATA frame, with the stream's number 0; empty when one frame does not hold it."""


def template(
    path: str, authority: str, message: bytes, metadata: Sequence[tuple[str, str]] = ()
) -> Template:
    """Return the request of a unary call with this message and metadata."""
    headers = (
        *((":path", path), (":authority", authority), ("content-type", "application/grpc")),
        *(("te", "trailers"), ("user-agent", "grpc-jitney-bench/1"), *metadata),
    )
    payload = prefixed(message)
    fits = len(payload) <= LARGEST_FRAME
    return Template(headers, payload, frame(DATA, END_STREAM, 0, payload) if fits else b"")


class Ledger(Protocol):
    """Who is told how calls end."""

    def ended(self, number: int, at: float, code: int, reason: bytes, body: bytes) -> None:
        """Note a call's end.

        :param at: monotonic seconds.
        :param code: a gRPC status code, or one of the two above.
        :param reason: the server's word for it (``jitney-reason``).
        :param body: the reply of a call that ended OK, or what the server says of the failure.
        """


class OpenConnection(asyncio.Protocol):
    """One connection; ``send`` what is due, then ``flush``.

    It heeds what the server allows: how many calls at once, and how many bytes. What may not leave
    yet waits here, and its latency goes on counting. Nothing reconnects: calls of a connection that
    went away are lost.
    """

    def __init__(self, ledger: Ledger, tls: ssl.SSLContext | None = None) -> None:
        self._ledger = ledger
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._writer = HeaderWriter(secure=tls is not None)
        self._reader = HeaderReader((STATUS, REASON, MESSAGE, HTTP_STATUS))
        self._buffer = b""
        self._stream = 1
        self._window = INITIAL_WINDOW
        self._stream_window = INITIAL_WINDOW
        self._max_streams = UNBOUNDED
        self._received = 0
        self._calls: dict[int, _Call] = {}
        self._queued: deque[tuple[int, Template, int]] = deque()
        """Calls beyond the number that the server takes at once, and how often each was tried."""
        self._ready: deque[int] = deque()
        """Streams with data left that only the connection's window holds up."""
        self._headers = b""
        self._out: list[bytes | memoryview] = []
        self._gone = False
        self._greeted = asyncio.Event()

    @property
    def open_calls(self) -> int:
        """Calls that have not ended."""
        return len(self._calls) + len(self._queued)

    async def connect(self, address: str) -> None:
        """Connect to ``host:port``; return when the server said how many calls it takes at once.

        :raises OSError: when nobody is there, or somebody who does not speak HTTP/2.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        name = host if self._tls is not None else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(
            lambda: self, host, int(port), ssl=self._tls, server_hostname=name
        )
        try:
            await asyncio.wait_for(self._greeted.wait(), GREETING_TIMEOUT)
        except TimeoutError:
            msg = "somebody is there who does not speak HTTP/2"
            raise OSError(msg) from None
        if self._gone:
            msg = "the connection was closed at once; is it the gRPC port, and is it encrypted?"
            raise OSError(msg)

    def send(self, number: int, request: Template) -> None:
        """Put a call into what the next ``flush`` writes."""
        if self._gone:
            self._ledger.ended(number, time.monotonic(), LOST, b"", b"the connection went away")
        elif len(self._calls) >= self._max_streams:
            self._queued.append((number, request, 0))
        else:
            self._begin(number, request)

    def flush(self) -> None:
        """Write what was put together, in one call."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def close(self) -> None:
        """Let go of the server; calls that have not ended are lost."""
        if self._transport is not None:
            self._transport.abort()
        self._lose(b"not ended when the run was over")

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, and grant the server all the window there is."""
        # uvloop's transports are no subclasses of asyncio's, so the type cannot be asserted.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(greeting())

    def connection_lost(self, error: Exception | None) -> None:
        """Count what was open as lost."""
        self._transport = None
        self._greeted.set()
        self._lose(f"the connection was lost ({error or 'closed by the server'})".encode())

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

    # -- reading --------------------------------------------------------------------------------

    def _read(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        if kind == DATA:
            if (call := self._calls.get(stream)) is not None:
                call.body += _unpadded(payload) if flags & PADDED else payload
                if flags & END_STREAM:
                    self._end(stream, now, call.code)
        elif kind in (HEADERS, CONTINUATION):
            self._read_headers(kind, flags, stream, payload, now)
        elif kind == WINDOW_UPDATE:
            self._grow(stream, int.from_bytes(payload, "big"))
        elif kind == SETTINGS and not flags & ACK:
            self._heed(setting_values(payload))
            self._out.append(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == RESET:
            self._reset(stream, int.from_bytes(payload, "big"), now)
        elif kind == GOAWAY:
            # What it had begun to answer, it will answer.
            self._lose(b"the server said goodbye", after=int.from_bytes(payload[:4], "big"))

    def _read_headers(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        call = self._calls.get(stream)
        if kind == HEADERS:
            payload = _unpadded(payload) if flags & PADDED else payload
            payload = payload[PRIORITY_BYTES:] if flags & PRIORITY else payload
            if call is not None:
                call.ending = bool(flags & END_STREAM)
        block = self._headers + payload
        if not flags & END_HEADERS:
            self._headers = block
            return
        self._headers = b""
        headers = self._reader.read(block)
        if call is None:
            return
        if headers.get(HTTP_STATUS, HTTP_OK) != HTTP_OK:
            call.message = b"HTTP status " + headers[HTTP_STATUS]
        if STATUS in headers:
            call.code = int(headers[STATUS])
            call.reason = headers.get(REASON, b"")
            call.message = headers.get(MESSAGE, call.message)
        if call.ending:
            self._end(stream, now, call.code)

    def _reset(self, stream: int, error: int, now: float) -> None:
        call = self._calls.get(stream)
        if error == REFUSED and call is not None and call.tries < MOST_TRIES:
            # A server that counts a call as open a moment longer than we do. It has not looked at
            # this one, and gRPC's clients send such a call again as well (gRFC A6).
            del self._calls[stream]
            self._queued.appendleft((call.number, call.request, call.tries + 1))
            if not self._calls:
                self._begin(*self._queued.popleft())
        else:
            self._end(stream, now, RESET_BY_SERVER)

    def _end(self, stream: int, now: float, code: int) -> None:
        call = self._calls.pop(stream, None)
        if call is None:
            return
        ok = code == 0
        body = (
            bytes(memoryview(call.body)[MESSAGE_PREFIX:]) if ok else unquote_to_bytes(call.message)
        )
        self._ledger.ended(call.number, now, code, call.reason, body)
        while self._queued and len(self._calls) < self._max_streams:
            self._begin(*self._queued.popleft())

    def _lose(self, why: bytes, after: int = 0) -> None:
        """Begin no more calls; count those of streams behind ``after`` as lost."""
        self._gone = True
        now = time.monotonic()
        lost = [self._calls.pop(stream).number for stream in list(self._calls) if stream > after]
        lost += [number for number, *_ in self._queued]
        self._queued.clear()
        for number in lost:
            self._ledger.ended(number, now, LOST, b"", why)

    # -- writing --------------------------------------------------------------------------------

    def _begin(self, number: int, request: Template, tries: int = 0) -> None:
        stream = self._stream
        self._stream += 2
        call = self._calls[stream] = _Call(number, request, tries)
        block = self._writer.block(request.headers)
        self._out.append(frame(HEADERS, END_HEADERS, stream, block))
        size = len(request.payload)
        if request.small and not self._ready and size <= min(self._window, self._stream_window):
            self._window -= size
            data = request.small
            self._out += (data[:NUMBER_AT], stream.to_bytes(4, "big"), data[FRAME_HEADER:])
            return
        call.left, call.window = memoryview(request.payload), self._stream_window
        self._ready.append(stream)
        self._pump()

    def _pump(self) -> None:
        """Send what the windows allow, in the order in which it came."""
        while self._ready and self._window > 0:
            stream = self._ready[0]
            call = self._calls.get(stream)
            while call is not None and call.left and call.window > 0 and self._window > 0:
                size = min(LARGEST_FRAME, len(call.left), call.window, self._window)
                part, call.left = call.left[:size], call.left[size:]
                call.window -= size
                self._window -= size
                head = size.to_bytes(3, "big") + bytes((DATA, 0 if call.left else END_STREAM))
                self._out += (head, stream.to_bytes(4, "big"), part)
            if call is None or not call.left or call.window <= 0:
                self._ready.popleft()  # ended, done, or waiting for its own window

    def _grow(self, stream: int, size: int) -> None:
        if stream == 0:
            self._window += size
        elif (call := self._calls.get(stream)) is not None and call.left:
            stuck, call.window = call.window <= 0, call.window + size
            if stuck and call.window > 0:
                self._ready.append(stream)
        self._pump()

    def _heed(self, settings: dict[int, int]) -> None:
        self._greeted.set()
        self._max_streams = settings.get(MAX_STREAMS, self._max_streams)
        if TABLE_SIZE in settings:
            self._writer.limit(settings[TABLE_SIZE])
        if INITIAL_WINDOW_SIZE in settings:
            more = settings[INITIAL_WINDOW_SIZE] - self._stream_window
            self._stream_window += more
            for stream, call in list(self._calls.items()):
                if call.left:
                    self._grow(stream, more)


class _Call:
    """A call that has not ended; ``left`` is what it has still to send."""

    __slots__ = (
        *("body", "code", "ending", "left", "message", "number", "reason", "request", "tries"),
        "window",
    )

    def __init__(self, number: int, request: Template, tries: int) -> None:
        self.number = number
        self.request = request
        self.tries = tries
        self.code = NO_STATUS
        self.reason = b""
        self.message = b"the call ended without a status"
        self.body = bytearray()
        self.left = memoryview(b"")
        self.window = 0
        self.ending = False


def _unpadded(payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]]
