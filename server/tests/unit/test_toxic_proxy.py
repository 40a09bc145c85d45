"""What each toxic does to a connection: over real sockets, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from jitney.testing.toxic_proxy import ToxicProxy, main
from jitney.testing.toxics import (
    Bandwidth,
    BlackHole,
    Duplicates,
    Frozen,
    HalfClose,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Toxic,
    Trickle,
    read_toxic,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Scenario = Callable[["Bench"], Awaitable[None]]

LIMIT = 20.0


class Bench:
    """A server that notes what it is sent and echoes it, a proxy before it, and its time."""

    def __init__(self) -> None:
        self.received: list[bytearray] = []
        self.ends: list[str] = []
        self.slept: list[float] = []
        self.wake: asyncio.Event | None = None
        """While it is there, who waits in the proxy waits until it is set."""
        self.proxy = ToxicProxy(("", 0))

    async def sleep(self, seconds: float) -> None:
        """Note how long the proxy would have slept."""
        self.slept.append(round(seconds, 9))
        if self.wake is not None:
            await self.wake.wait()

    @contextlib.asynccontextmanager
    async def running(self, *toxics: Toxic) -> AsyncIterator[None]:
        """Listen."""
        server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        self.proxy = ToxicProxy(
            server.sockets[0].getsockname()[:2], seed=1, sleep=self.sleep, now=lambda: 0.0
        )
        self.proxy.put(*toxics)
        async with server, self.proxy:
            yield

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = bytearray()
        self.received.append(received)
        try:
            while data := await reader.read(1000):
                received += data
                writer.write(data)
            self.ends.append("closed")
        except ConnectionError:
            self.ends.append("reset")
        writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection through the proxy."""
        return await asyncio.open_connection("127.0.0.1", self.proxy.port)

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened, by letting it."""
        while not happened():  # noqa: ASYNC110  # what happens elsewhere sets no event
            await asyncio.sleep(0)


def run(scenario: Scenario, *toxics: Toxic) -> Bench:
    """Play a scenario; a minute of the toxics' time takes none."""

    async def play() -> Bench:
        bench = Bench()
        async with bench.running(*toxics):
            await asyncio.wait_for(scenario(bench), LIMIT)
        return bench

    return asyncio.run(play())


async def _echoes(bench: Bench) -> None:
    reader, writer = await bench.connect()
    writer.write(b"hello")
    assert b"hello" == await reader.readexactly(5)
    writer.close()


@pytest.mark.parametrize(
    ("toxics", "slept"),
    [
        ((), []),
        ((Latency(0.2),), [0.2, 0.2]),
        ((Latency(0.2, direction="down"),), [0.2]),
        ((Latency(0.2), Latency(0.3, direction="up")), [0.5, 0.2]),
        ((Slicer(2, seconds=0.1, direction="up"),), [0.1, 0.1]),
        ((Trickle(direction="down"),), [1.0] * 4),
        ((Trickle(2, 3.0, direction="down"),), [3.0, 3.0]),
        ((Bandwidth(40, direction="up"),), [0.05, 0.05]),
    ],
    ids=str,
)
def test_slow_toxics_lose_nothing_and_take_their_time(
    toxics: tuple[Toxic, ...], slept: list[float]
) -> None:
    """Five bytes go up and come down again; the seconds are those of the toxics in between."""
    bench = run(_echoes, *toxics)

    assert slept == bench.slept[: len(slept)]
    assert [b"hello"] == bench.received
    assert {"up": 5, "down": 5} == bench.proxy.passed


def test_jitter_stays_in_its_range_and_is_the_same_with_the_same_seed() -> None:
    """What a failing test saw can be seen again."""
    toxic = Latency(0.2, jitter=0.1)
    first, second = run(_echoes, toxic), run(_echoes, toxic)

    assert first.slept == second.slept
    assert [] == [seconds for seconds in first.slept if not 0.1 <= seconds <= 0.3]
    assert 0.2 not in first.slept


def test_latency_holds_nobody_up_who_sends_more() -> None:
    """A chunk waits for its own time, not for the one before it to be through."""

    async def scenario(bench: Bench) -> None:
        bench.wake = asyncio.Event()
        reader, writer = await bench.connect()
        writer.write(b"a")
        await bench.until(lambda: bench.slept == [5.0])
        writer.write(b"b")
        bench.wake.set()
        assert b"ab" == await reader.readexactly(2)
        writer.close()

    run(scenario, Latency(5.0, direction="up"))


def test_a_toxic_that_is_taken_out_lets_go_of_what_waits() -> None:
    """Tests go on without waiting for the rest of a long time."""

    async def scenario(bench: Bench) -> None:
        bench.wake = asyncio.Event()
        reader, writer = await bench.connect()
        writer.write(b"hello")
        await bench.until(lambda: bench.slept == [1000.0])
        assert [] == [r for r in bench.received if r]
        bench.proxy.remove(Latency(1000.0))
        assert b"hello" == await reader.readexactly(5)
        writer.close()

    run(scenario, Latency(1000.0))


def test_a_toxic_that_comes_later_concerns_connections_that_are_open() -> None:
    """The network gets worse while a client uses it."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"a")
        await reader.readexactly(1)
        bench.proxy.put(ResetPeer())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await bench.until(lambda: bench.ends == ["reset"])
        writer.close()

    run(scenario)


def test_a_frozen_connection_moves_nothing_and_loses_nothing() -> None:
    """It is as if the peer had been stopped, and goes on when it goes on."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"a")
        await reader.readexactly(1)
        bench.proxy.put(Frozen())
        writer.write(b"bcd")
        reading = asyncio.ensure_future(reader.readexactly(3))
        # Another connection through another proxy has been there and back: so would this one.
        async with ToxicProxy(bench.proxy.upstream) as other:
            there, back = await asyncio.open_connection("127.0.0.1", other.port)
            back.write(b"x")
            await there.readexactly(1)
            back.close()
        assert (False, b"a") == (reading.done(), bytes(bench.received[0]))
        bench.proxy.clear()
        assert b"bcd" == await reading
        writer.close()

    run(scenario)


def test_a_black_hole_swallows_and_then_closes() -> None:
    """Nobody is told that nothing arrives, until its time is over."""

    async def scenario(bench: Bench) -> None:
        bench.wake = asyncio.Event()
        reader, writer = await bench.connect()
        await bench.until(lambda: bench.slept == [30.0])
        writer.write(b"gone")
        await writer.drain()
        bench.wake.set()
        assert b"" == await reader.read()
        await bench.until(lambda: bench.ends == ["closed"])
        writer.close()

    assert [b""] == run(scenario, BlackHole(30.0)).received


def test_what_a_black_hole_swallowed_does_not_come_again() -> None:
    """What is sent after it was taken out arrives alone."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"a")
        await reader.readexactly(1)
        bench.proxy.put(BlackHole())
        writer.write(b"b")
        await bench.until(lambda: bench.proxy.dropped["up"] == 1)
        bench.proxy.clear()
        writer.write(b"c")
        assert b"c" == await reader.readexactly(1)
        writer.close()

    run(scenario)


def test_a_connection_is_closed_when_its_data_is_used_up() -> None:
    """What passed until then arrives."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"hello")
        assert b"hel" == await reader.read()
        writer.close()
        await bench.until(lambda: len(bench.ends) == 1)

    bench = run(scenario, LimitData(3, direction="down"))
    assert {"up": 5, "down": 3} == bench.proxy.passed


def test_half_of_a_connection_can_be_closed() -> None:
    """The server is told that the client has finished; its answers still come back."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"hello")
        assert b"he" == await reader.read()
        assert ["closed"] == bench.ends
        writer.write(b"nobody reads this")
        writer.close()

    assert [b"he"] == run(scenario, HalfClose(2, direction="up")).received


def test_a_close_can_be_told_late() -> None:
    """The other side believes for so long that somebody is there."""

    async def scenario(bench: Bench) -> None:
        bench.wake = asyncio.Event()
        _, writer = await bench.connect()
        writer.close()
        await bench.until(lambda: bench.slept == [7.0])
        assert [] == bench.ends
        bench.wake.set()
        await bench.until(lambda: bench.ends == ["closed"])

    run(scenario, SlowClose(7.0, direction="up"))


def test_connections_can_come_several_times() -> None:
    """The server is told everything by each; the client has the answers of one."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"hello")
        assert b"hello" == await reader.readexactly(5)
        await bench.until(lambda: bench.received == [b"hello"] * 3)
        writer.close()
        await bench.until(lambda: bench.ends == ["closed"] * 3)

    run(scenario, Duplicates(2))


def test_a_reset_is_passed_on_as_one() -> None:
    """A client that was killed looks like it to the server."""

    async def scenario(bench: Bench) -> None:
        reader, writer = await bench.connect()
        writer.write(b"a")
        await reader.readexactly(1)
        await bench.proxy.drop()
        await bench.until(lambda: bench.ends == ["reset"])
        writer.close()

    assert 0 == run(scenario).proxy.connections


def test_without_a_server_connections_are_reset() -> None:
    """They do not wait for one."""

    async def scenario() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()[:2]
        server.close()
        async with ToxicProxy(address) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            with contextlib.suppress(ConnectionResetError):
                assert b"" == await reader.read()
            writer.close()

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency seconds=0.5 jitter=0.25", Latency(0.5, 0.25)),
        ("slicer size=3 direction=up", Slicer(3, direction="up")),
        ("bandwidth bytes_per_second=1e6", Bandwidth(1e6)),
        ("black_hole", BlackHole()),
    ],
)
def test_toxics_are_read_from_words(text: str, expected: Toxic) -> None:
    """As the command takes them."""
    assert expected == read_toxic(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latncy", "no toxic 'latncy'; there are latency"),
        ("", "no toxic ''"),
        ("latency second=1", "latency has no 'second', it has direction, jitter, seconds"),
        ("latency direction=left", "direction is up, down or both"),
        ("slicer size=x", "size: expected a whole number, 0 or more, got 'x'"),
        ("slicer size=1.5", "size: expected a whole number"),
        ("latency seconds=-1", "seconds: expected a number, 0 or more, got '-1'"),
        ("latency seconds=nan", "seconds: expected a number"),
    ],
)
def test_words_that_are_no_toxic_are_refused(text: str, expected: str) -> None:
    """The text says what there is."""
    with pytest.raises(ValueError, match=expected):
        read_toxic(text)


def test_no_bandwidth_and_no_size_are_no_fault() -> None:
    """What passes nothing passes a byte, and waits for as long as it is in."""
    assert math.inf == Bandwidth(bytes_per_second=0).pause(1)
    assert 1 == Trickle(size=0).piece(Random(0))  # noqa: S311  # no secret


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "127.0.0.1:65536", ""])
def test_an_address_that_is_none_is_said(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what it should be."""
    with pytest.raises(SystemExit):
        main(["--upstream", address])
    assert f"expected HOST:PORT, got '{address}'" in capsys.readouterr().err


def test_the_command_ends_with_an_interrupt() -> None:
    """Whoever holds its standard input open need not press a key."""
    command = [sys.executable, "-m", "jitney.testing.toxic_proxy", "--upstream=127.0.0.1:1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("frozen\n")
        process.stdin.flush()
        assert "Frozen" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(LIMIT)
        assert process.stderr is not None
        assert "" == process.stderr.read()


def test_the_command_takes_toxics_while_it_runs() -> None:
    """It says where it listens, what is in, and what it did not understand; it ends with its input.

    The server need not be there for it.
    """
    command = [sys.executable, "-m", "jitney.testing.toxic_proxy", "--upstream=127.0.0.1:1"]
    ran = subprocess.run(
        [*command, "--toxic=frozen"],
        input="clear\nnonsense\nslow_close seconds=2\ndrop\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, *states = ran.stdout.splitlines()

    assert first.endswith(" -> 127.0.0.1:1")
    assert [
        "<ToxicProxy 0 connections, []>",
        "<ToxicProxy 0 connections, [SlowClose(direction='both', seconds=2.0)]>",
        "<ToxicProxy 0 connections, [SlowClose(direction='both', seconds=2.0)]>",
    ] == states
    assert "no toxic 'nonsense'" in ran.stderr
