"""Replies that nobody reads are counted, and bounded."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from jitney.errors import OutputTooLarge, Overloaded
from jitney.transport.connections import drop
from jitney.transport.unread import PATIENCE, Reader, UnreadReplies

if TYPE_CHECKING:
    from collections.abc import Collection


class Bench:
    """A budget of 100 bytes; ``dropped`` lists whose connections were dropped for it."""

    def __init__(self, *, can_drop: bool = True) -> None:
        self.dropped: list[str] = []
        self._can_drop = can_drop
        self.replies = UnreadReplies(100, self._drop)

    def _drop(self, peers: Collection[str]) -> set[str]:
        self.dropped += peers
        return set(peers) if self._can_drop else set()

    def reader(self, peer: str, nbytes: int = 0) -> Reader:
        """Return a call with replies to read."""
        reader = Reader(self.replies, peer)
        if nbytes:
            reader.add(nbytes)
        return reader

    def wait(self, beats: int = PATIENCE) -> None:
        """Let time pass."""
        for _ in range(beats):
            self.replies.beat()


def test_what_is_read_is_forgotten() -> None:
    """In parts or as a whole."""
    bench = Bench()
    reader = bench.reader("a", 60)
    reader.add(20)
    assert (80, 0) == bench.replies.statistics()
    reader.sent(50)
    assert 30 == bench.replies.nbytes
    reader.close()
    reader.close()

    assert (0, set()) == (bench.replies.nbytes, bench.replies.readers)
    assert "<UnreadReplies 0 of 100 bytes, 0 dropped>" == repr(bench.replies)


def test_more_than_half_is_pressure() -> None:
    """Streams read no further requests then."""
    bench = Bench()
    reader = bench.reader("a", 50)
    assert not reader.pressed
    reader.add(1)

    assert reader.pressed


def test_a_reply_beyond_the_budget_is_refused() -> None:
    """While all of them read; it is not counted then."""
    bench = Bench()
    bench.reader("a", 90)

    with pytest.raises(Overloaded) as caught:
        bench.reader("b", 20)

    assert "REPLY_BUDGET" == caught.value.reason
    assert (90, []) == (bench.replies.nbytes, bench.dropped)


def test_a_reply_larger_than_the_budget_is_never_sent() -> None:
    """It is not worth another try, and nobody is dropped for it."""
    bench = Bench()
    bench.reader("a", 90)
    bench.wait()

    with pytest.raises(OutputTooLarge, match="has 101 bytes, and 100 may wait"):
        bench.reader("b", 101)

    assert [] == bench.dropped


def test_as_many_are_dropped_at_once_as_are_needed() -> None:
    """Looking for a connection takes long where there are many, so it is done once for all."""
    bench = Bench()
    for peer in "abcd":
        bench.reader(peer, 20)
    bench.wait()
    bench.reader("new", 60)

    assert (2, (100, 2)) == (len(bench.dropped), bench.replies.statistics())


def test_who_does_not_read_is_dropped_for_who_does() -> None:
    """That which holds most first, all calls of a connection together, and no more than needed."""
    bench = Bench()
    for peer, nbytes in (("large", 30), ("many", 20), ("many", 20), ("small", 10)):
        bench.reader(peer, nbytes)
    bench.wait()
    bench.reader("new", 40)

    assert ["many"] == bench.dropped
    assert (80, 1) == bench.replies.statistics()


def test_progress_counts() -> None:
    """Who took something lately reads, however slowly."""
    bench = Bench()
    slow, idle = bench.reader("slow", 60), bench.reader("idle", 30)
    bench.wait()
    slow.sent(1)
    with pytest.raises(Overloaded):
        bench.reader("new", 60)

    assert (["idle"], 0) == (bench.dropped, idle.nbytes)


def test_what_cannot_be_dropped_goes_on_counting() -> None:
    """A peer on a unix socket has no address to find its connection by."""
    bench = Bench(can_drop=False)
    bench.reader("unix:", 90)
    bench.wait()
    for _ in range(3):
        with pytest.raises(Overloaded):
            bench.reader("new", 20)

    assert (["unix:"], (90, 0)) == (bench.dropped, bench.replies.statistics())


# -- connections ----------------------------------------------------------------------------------


def test_the_connection_of_a_peer_is_found_and_ended() -> None:
    """That one, and no other."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ends = []
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            accepted, _ = listener.accept()
            client.settimeout(10)
            ends.append((client, stack.enter_context(accepted)))
        host, port = ends[1][0].getsockname()

        peer, gone = f"ipv4:{host}:{port}", "ipv4:127.0.0.1:1"

        assert {peer} == drop([gone, peer, "unix:"])

        assert b"" == ends[1][0].recv(1)
        for client, accepted in (ends[0], ends[2]):
            accepted.sendall(b"x")
            assert b"x" == client.recv(1)


def test_an_address_of_version_six_is_found() -> None:
    """As gRPC writes it."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, _ = listener.accept()
        with accepted:
            peer = f"ipv6:%5B::1%5D:{client.getsockname()[1]}"
            assert {peer} == drop([peer])


@pytest.mark.parametrize("peer", ["unix:", "unix:/x", "", "ipv4:1.2.3.4:x", "ipv4:127.0.0.1:1"])
def test_nobody_is_dropped_who_is_not_there(peer: str) -> None:
    """Peers without an address, and addresses without a connection."""
    assert set() == drop([peer])
