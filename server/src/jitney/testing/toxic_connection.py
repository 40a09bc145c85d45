"""One connection through a toxic proxy: what it does with the bytes of each direction."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.testing.toxics import Direction, Toxic

__all__ = ["CHUNK", "ToxicConnection", "Toxics"]

CHUNK: Final = 64 * 1024
MAX_HELD: Final = 1 << 20
"""Bytes that wait for their latency in one direction of a connection."""
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: closing resets."""


class Toxics(Protocol):
    """What a connection needs of its proxy."""

    upstream: tuple[str, int]
    passed: dict[Direction, int]
    dropped: dict[Direction, int]

    @property
    def since(self) -> Mapping[Toxic, float]:
        """The toxics that are in, and when each came."""

    def now(self) -> float:
        """Return the time, in seconds."""

    async def pause(self, seconds: float) -> bool:
        """Wait; return False where the toxics changed meanwhile."""


class _HalfClosed(Exception):
    """A toxic closed a direction."""


class _Closed(Exception):
    """A toxic closed the connection."""


class ToxicConnection:
    """A client's connection, one to the server, and the copies of it that a toxic wants."""

    def __init__(
        self,
        toxics: Toxics,
        seed: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._toxics = toxics
        self._seed = seed
        self._reader = reader
        self._writers = [writer]

    async def run(self) -> None:
        """Pass bytes on until both sides have closed, or a toxic ends it."""
        count = 1 + sum(toxic.copies() for toxic in self._toxics.since)
        peers = []
        try:
            for _ in range(count):
                peers.append(await asyncio.open_connection(*self._toxics.upstream, limit=CHUNK))
                self._writers.append(peers[-1][1])
        except OSError:
            self.end(reset=True)
            return
        for writer in self._writers:
            writer.transport.set_write_buffer_limits(0)  # so that drain() waits for the socket
        client, *servers = self._writers
        up = _Pipe(self._toxics, "up", self._seed, self._reader, servers)
        down = _Pipe(self._toxics, "down", self._seed, peers[0][0], [client])
        both = asyncio.gather(up.run(), down.run())
        watch = asyncio.ensure_future(self._watch())
        rest = asyncio.gather(*(_ignore(reader) for reader, _ in peers[1:]))
        try:
            await asyncio.wait((both, watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                self.end(reset=watch.result())
            else:
                self.end(reset=isinstance(both.exception(), OSError))
        finally:
            for task in (both, watch, rest):
                task.cancel()
            await asyncio.gather(both, watch, rest, return_exceptions=True)

    def end(self, *, reset: bool) -> None:
        """Close both sides, or reset them."""
        for writer in self._writers:
            peer = writer.get_extra_info("socket")
            if not reset:
                writer.close()
                continue
            if peer is not None:
                with contextlib.suppress(OSError):  # gone already
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        self._writers = []

    async def _watch(self) -> bool:
        """Wait until a toxic ends the connection; return whether it shall be reset."""
        began = self._toxics.now()
        while True:
            moments = (
                (max(began, since) + toxic.ends_after(), toxic.resets)
                for toxic, since in self._toxics.since.items()
            )
            due, resets = min(moments, default=(math.inf, False))
            if await self._toxics.pause(due - self._toxics.now()):
                return resets


class _Pipe:
    """One direction of a connection.

    Two coroutines, so that bytes that wait for their latency keep nobody from sending more.
    """

    def __init__(
        self,
        toxics: Toxics,
        direction: Direction,
        seed: str,
        reader: asyncio.StreamReader,
        writers: Sequence[asyncio.StreamWriter],
    ) -> None:
        self._toxics = toxics
        self._direction: Direction = direction
        self._random = Random(f"{seed} {direction}")  # noqa: S311  # no secret
        self._reader = reader
        self._writers = writers
        self._passed = 0
        self._held: deque[tuple[float, bytes | None]] = deque()
        """Chunks and when each may go on; an empty one is the end, None a reset."""
        self._size = 0
        self._moved = asyncio.Event()

    def _active(self) -> list[Toxic]:
        return [t for t in self._toxics.since if t.direction in ("both", self._direction)]

    async def run(self) -> None:
        """Pass bytes on until this direction is closed.

        :raises OSError: when one side broke, _Closed when a toxic ended the connection.
        """
        taking = asyncio.ensure_future(self._take())
        try:
            try:
                while data := await self._next():
                    await self._give(data)
                await self._toxics.pause(max((t.linger() for t in self._active()), default=0))
            except _HalfClosed:
                self._close()
                while await self._next():  # nobody is told, so who sends must not be held up
                    pass
            self._close()
        finally:
            taking.cancel()

    async def _take(self) -> None:
        """Read what comes, as far as there is room for it."""
        due, data = 0.0, None
        while data != b"":
            await self._while_blocked()
            while self._size > MAX_HELD:
                await self._move()
            try:
                data = await self._reader.read(CHUNK)
            except OSError:
                data = None
            latency = sum(toxic.latency(self._random) for toxic in self._active())
            due = max(due, self._toxics.now() + latency)  # nobody overtakes
            self._held.append((due, data))
            self._size += len(data or b"")
            self._moved.set()
            if data is None:
                return

    async def _next(self) -> bytes:
        """Return the next chunk when its time has come, an empty one for the end.

        :raises ConnectionResetError: when the sender reset the connection.
        """
        while not self._held:
            await self._move()
        due, data = self._held[0]
        while any(toxic.delays for toxic in self._active()):
            if await self._toxics.pause(due - self._toxics.now()):
                break
        self._held.popleft()
        if data is None:
            raise ConnectionResetError
        self._size -= len(data)
        self._moved.set()
        return data

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def _while_blocked(self) -> None:
        while any(toxic.blocks for toxic in self._active()):
            await self._toxics.pause(math.inf)

    async def _give(self, data: bytes) -> None:
        """Send a chunk on, piece by piece, as the toxics of each moment have it."""
        while True:
            await self._while_blocked()
            toxics = self._active()
            if any(toxic.drops for toxic in toxics):
                self._toxics.dropped[self._direction] += len(data)
                return
            tight = min(toxics, key=lambda toxic: toxic.room(), default=None)
            room = math.inf if tight is None else max(0, tight.room() - self._passed)
            size = int(min([len(data), room, *(t.piece(self._random) for t in toxics)]))
            for writer in self._writers:
                if not writer.is_closing():
                    writer.write(data[:size])
            await self._writers[0].drain()
            self._passed += size
            self._toxics.passed[self._direction] += size
            data = data[size:]
            if tight is not None and self._passed >= tight.room():
                raise _HalfClosed if tight.halves else _Closed
            if not data:
                return
            await self._toxics.pause(sum(toxic.pause(size) for toxic in toxics))

    def _close(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError, RuntimeError):  # closed already
                writer.write_eof()


async def _ignore(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(CHUNK):
            pass
