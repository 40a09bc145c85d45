"""Tests of the callers of HTTP/1.1 that make no work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.http1 import Http1Connection, prepared, whole

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nDate: today\r\n\r\nabc"


class Ledger:
    """Ends a round after some answers."""

    def __init__(self, answers: int) -> None:
        self.until = float("inf")
        self._left = answers
        self.replies: list[tuple[int, bytes]] = []
        self.why: list[str] = []

    def answered(self, which: int, began: float, reply: bytes) -> None:  # noqa: ARG002  # the interface
        """Count a reply."""
        self.replies.append((which, reply))
        self._left -= 1
        if not self._left:
            self.until = 0.0

    def lost(self, why: str) -> None:
        """Count a failure."""
        self.why.append(why)


async def serve(replies: list[bytes]) -> tuple[asyncio.Server, str, list[bytes]]:
    """Return a server that answers each request with the next reply; b"" closes."""
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while replies:
            try:
                requests.append(await reader.readuntil(b"body"))
            except asyncio.IncompleteReadError:
                break
            reply = replies.pop(0)
            if not reply:
                break
            # In two pieces: a reply need not come in one.
            writer.write(reply[:20])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(reply[20:])
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    return server, f"{host}:{port}", requests


def play(replies: list[bytes], answers: int, rounds: int = 1) -> tuple[Ledger, list[bytes]]:
    """Run rounds of one caller; return the last ledger, and the requests that the server got."""

    async def main() -> tuple[Ledger, list[bytes]]:
        server, address, requests = await serve(replies)
        connection = Http1Connection(address, "/inference")
        async with server:
            for _ in range(rounds):
                ledger = Ledger(answers)
                await connection.run([b"other", b"body"], 1, ledger)
            connection.connection_lost(None)
        return ledger, requests

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_a_request_has_as_few_headers_as_can_be() -> None:
    """A request names its host, its type and its length."""
    expected = (
        b"POST /inference HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: 4\r\n\r\nbody"
    )
    assert expected == prepared("/inference", "h:1", b"body")


@pytest.mark.parametrize("end", range(len(REPLY)))
def test_a_reply_is_read_when_it_is_whole(end: int) -> None:
    """No part of a reply is taken for the reply."""
    assert whole(REPLY[:end]) is None
    assert whole(REPLY) == (b"200", b"abc")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0\r\n\r\n", "no reply"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "without a length"),
        (REPLY + b"HTTP", "behind a reply"),
    ],
)
def test_what_is_no_such_reply_is_told(data: bytes, words: str) -> None:
    """Another protocol, a reply without a length and bytes behind it are errors."""
    with pytest.raises(ValueError, match=words):
        whole(data)


def test_a_caller_sends_its_request_again_when_it_is_answered() -> None:
    """One call is in flight, each with the request of the caller's place."""
    ledger, requests = play([REPLY] * 3, answers=3)
    assert [(1, b"abc")] * 3 == ledger.replies
    assert len(requests) == 3
    assert ledger.why == []


def test_a_connection_is_kept_for_the_next_round() -> None:
    """A second round uses the connection of the first."""
    ledger, requests = play([REPLY] * 4, answers=2, rounds=2)
    assert [(1, b"abc")] * 2 == ledger.replies
    assert len(requests) == 4


def test_another_status_ends_the_round() -> None:
    """A refusal is a lost call, told with its status and text."""
    refused = b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nbusy"
    ledger, _ = play([REPLY, refused], answers=9)
    assert ledger.why == ["HTTP 429: b'busy'"]


def test_a_closed_connection_ends_the_round() -> None:
    """A server that closes in the middle of a round is not waited for."""
    ledger, _ = play([REPLY, b""], answers=9)
    assert ["the connection was lost (None)"] == ledger.why
