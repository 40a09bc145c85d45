"""A caller who breaks the manners of HTTP/2 on purpose: half-sent messages, replies never read."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING, Final

from jitney.loadgen.connection import template
from jitney.loadgen.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    PING,
    RESET,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    setting_values,
)
from jitney.loadgen.hpack import HeaderReader, HeaderWriter

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["HEALTH_WATCH", "INFER", "RawCaller"]

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"
STATUS: Final = b"grpc-status"


class RawCaller:
    """One connection. It answers settings and pings, and otherwise does what it is told.

    ``statuses`` has the gRPC status of every call that ended, by its number, and -1 for those that
    were reset; ``closed`` tells that the server ended the connection.

    :param window: bytes that it is ready to take of each reply.
    """

    def __init__(self, address: str, *, window: int = INITIAL_WINDOW) -> None:
        host, _, port = address.rpartition(":")
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, int] = {}
        self.closed = False
        self._socket = socket.create_connection((host, int(port)), 20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writer = HeaderWriter(secure=False)
        self._reader = HeaderReader((STATUS,))
        self._authority = address
        self._buffer = b""
        self._next = 1
        self._initial = INITIAL_WINDOW
        self._windows = {0: INITIAL_WINDOW}
        size = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
        self._send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, size))

    def __enter__(self) -> Self:
        """Return the caller."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go away without a word."""
        self._socket.close()

    # -- what it does -----------------------------------------------------------------------------

    def begin(self, path: str = INFER, *, last: bool = False) -> int:
        """Begin a call; return its number.

        :param last: whether nothing follows.
        """
        number = self._next
        self._next += 2
        self._windows[number] = self._initial
        block = self._writer.block(template(path, self._authority, b"").headers)
        self._send(frame(HEADERS, END_HEADERS | (END_STREAM if last else 0), number, block))
        return number

    def begin_bytes(self, path: bytes) -> int:
        """Make an empty call whose path is no text."""
        number = self._next
        self._next += 2
        block = b"\x83\x86\x04" + bytes((len(path),)) + path
        others = (b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers")
        for name, value in others:
            block += b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value
        self._send(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        return number

    def call(self, message: bytes, path: str = INFER) -> int:
        """Make a whole call; return its number."""
        number = self.begin(path)
        self.send(number, b"\0" + len(message).to_bytes(4, "big") + message, last=True)
        return number

    def send(self, number: int, data: bytes, *, last: bool = False, seconds: float = 20) -> int:
        """Send bytes of a call, as far as the server allows; return how many."""
        deadline = time.monotonic() + seconds
        left = memoryview(data)
        while left and number not in self.statuses and not self.closed:
            size = min(LARGEST_FRAME, len(left), self._windows[0], self._windows[number])
            if size <= 0:
                if time.monotonic() > deadline:
                    break
                self.listen(0.05)
                continue
            done = size == len(left)
            flags = END_STREAM if last and done else 0
            self._send(frame(DATA, flags, number, bytes(left[:size])))
            left = left[size:]
            self._windows[0] -= size
            self._windows[number] -= size
            self.listen(0)
        return len(data) - len(left)

    def reset(self, number: int) -> None:
        """Give up a call."""
        self._send(frame(RESET, 0, number, (8).to_bytes(4, "big")))

    def storm(self, count: int) -> None:
        """Begin calls, and give each up at once."""
        for _ in range(count):
            if self.closed:
                return
            self.reset(self.begin())
        self.listen(0)

    def flood(self, nbytes: int) -> None:
        """Send a header that never ends, one small piece after the other."""
        number = self._next
        self._next += 2
        self._send(frame(HEADERS, 0, number, b"\x00\x01x\x7f\xff\xff\x7f"))
        for _ in range(nbytes // LARGEST_FRAME):
            if self.closed:
                return
            self._send(frame(CONTINUATION, 0, number, b"x" * LARGEST_FRAME))
            self.listen(0)

    def listen(self, seconds: float) -> None:
        """Read what is there, and wait so long for it at most."""
        while not self.closed and select.select([self._socket], [], [], seconds)[0]:
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return
            self._buffer += data
            self._read()
            seconds = 0

    def wait(self, number: int, seconds: float = 20) -> int | None:
        """Return the status of a call, once it ended; None when the connection did."""
        deadline = time.monotonic() + seconds
        while number not in self.statuses and not self.closed:
            assert time.monotonic() < deadline, "the call goes on"
            self.listen(0.1)
        return self.statuses.get(number)

    # -- what it hears ----------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def _read(self) -> None:
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + size:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            number = int.from_bytes(self._buffer[5:9], "big")
            payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
            self._heed(kind, flags, number, payload)

    def _heed(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            grown = self._windows.get(number, self._initial) + int.from_bytes(payload, "big")
            self._windows[number] = grown
        elif kind == SETTINGS and not flags & ACK:
            initial = setting_values(payload).get(INITIAL_WINDOW_SIZE, self._initial)
            for stream in self._windows:
                self._windows[stream] += initial - self._initial if stream else 0
            self._initial = initial
            self._send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._send(frame(PING, ACK, 0, payload))
        elif kind == HEADERS:
            with contextlib.suppress(KeyError):
                self.statuses[number] = int(self._reader.read(payload)[STATUS])
        elif kind == DATA:
            self.bodies[number] = self.bodies.get(number, 0) + len(payload)
        elif kind == RESET:
            self.statuses.setdefault(number, -1)
        elif kind == GOAWAY:
            self.listen(0)
