"""An HTTP/1.1 caller that costs next to nothing: requests that are made beforehand.

Only for measuring against servers that are known: POSTs on a connection that is kept, and replies
with a ``Content-Length``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.http2 import Ledger

__all__ = ["Http1Connection"]

OK: Final = b"200"
END_OF_HEAD: Final = b"\r\n\r\n"
LENGTH: Final = b"\r\ncontent-length:"
SHOWN: Final = 80
"""Characters of a reply's body that are told where it was not 200."""


class Http1Connection(asyncio.Protocol):
    """One connection; ``run`` keeps one call going on it.

    It connects at the first ``run``, stays open for the next ones, and connects again where the
    server closed it in between.
    """

    def __init__(self, address: str, path: str) -> None:
        self._address = address
        self._path = path
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._request = b""
        self._which = 0
        self._began = 0.0
        self._ledger: Ledger | None = None
        self._idle: asyncio.Future[None] | None = None

    async def run(self, requests: Sequence[bytes], place: int, ledger: Ledger) -> None:
        """Send request ``place`` again and again until ``ledger.until``."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            host, _, port = self._address.rpartition(":")
            await loop.create_connection(lambda: self, host, int(port))
        self._ledger = ledger
        self._which = place % len(requests)
        self._request = prepared(self._path, self._address, requests[self._which])
        self._idle = loop.create_future()
        self._send()
        await self._idle

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin anew."""
        self._buffer = b""
        # uvloop's transports are no subclasses of asyncio's, so the type cannot be asserted.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End the round, if there is one."""
        self._transport = None
        self._fail(f"the connection was lost ({error})")

    def data_received(self, data: bytes) -> None:
        """Read a reply when all of it is there, and send the next request."""
        self._buffer = self._buffer + data if self._buffer else data
        try:
            found = whole(self._buffer)
        except ValueError as error:
            self._fail(str(error))
            return
        if found is None:
            return
        status, body = found
        self._buffer = b""
        ledger = self._ledger
        assert ledger is not None  # nothing is sent outside a run
        if status != OK:
            self._fail(f"HTTP {status.decode()}: {body[:SHOWN]!r}")
            return
        ledger.answered(self._which, self._began, body)
        if time.perf_counter() < ledger.until:
            self._send()
        else:
            self._settle()

    def _send(self) -> None:
        assert self._transport is not None  # connected in run, and a lost one ends the run
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, why: str) -> None:
        if self._ledger is not None and self._idle is not None and not self._idle.done():
            self._ledger.lost(why)
            self._settle()

    def _settle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


def prepared(path: str, host: str, body: bytes) -> bytes:
    """Return the request: as few headers as HTTP/1.1 lets a client have."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def whole(data: bytes) -> tuple[bytes, bytes] | None:
    """Return a reply's status (``b"200"``) and body; None while a part is missing.

    :raises ValueError: when it is no reply, does not tell its length, or is followed by something.
    """
    end = data.find(END_OF_HEAD)
    if end < 0:
        return None
    head = data[:end].lower()
    if not head.startswith(b"http/1.1 "):
        msg = f"no reply of HTTP/1.1: {data[:SHOWN]!r}"
        raise ValueError(msg)
    at = head.find(LENGTH)
    if at < 0:
        msg = f"a reply without a length: {data[:end]!r}"
        raise ValueError(msg)
    size = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0])
    body = data[end + len(END_OF_HEAD) :]
    if len(body) > size:
        msg = f"{len(body) - size} bytes behind a reply"
        raise ValueError(msg)
    return (data[9:12], body) if len(body) == size else None
