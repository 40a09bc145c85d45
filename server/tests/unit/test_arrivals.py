"""Who waits for a message, and whose calls end because it does not come."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from jitney.errors import NotSupported, Overloaded
from jitney.transport.arrivals import PATIENCE, SETTLING, Arrivals


class Caller:
    """A call whose messages come when the test says so."""

    def __init__(self, peer: str = "ipv4:10.0.0.1:1") -> None:
        self._peer = peer
        self._messages = asyncio.Queue[Any]()
        self.cancels = 0

    def peer(self) -> str:
        """Return whose call it is."""
        return self._peer

    async def read(self) -> Any:
        """Be the context's."""
        try:
            return await self._messages.get()
        except asyncio.CancelledError:
            self.cancels += 1
            raise

    def send(self, message: Any) -> None:
        """Let a message arrive."""
        self._messages.put_nowait(message)


class Bench:
    """Some calls that wait; ``end`` tells how each of them ended."""

    def __init__(self, **limits: Any) -> None:
        self.trims = 0
        self.fill = 0.0
        limits = {"timeout": 1000, "free": 2, "most": 1000, **limits}
        self.arrivals = Arrivals(
            **limits, fill=lambda: self.fill, trim=lambda: setattr(self, "trims", self.trims + 1)
        )
        self._waiting: dict[str, asyncio.Task[bytes]] = {}

    async def wait(self, name: str, peer: str = "", *, unary: bool = True) -> Caller:
        """Begin a call and let it come to its reading."""
        caller = Caller(peer or name)
        read = self.arrivals.request if unary else self._next
        self._waiting[name] = asyncio.ensure_future(read(caller))
        await asyncio.sleep(0)
        return caller

    async def _next(self, caller: Caller) -> bytes:
        async for message in self.arrivals.messages(caller):
            return message
        return b"over"

    async def beat(self, count: int = 1) -> None:
        """Let time pass."""
        for _ in range(count):
            self.arrivals.beat()
            for _ in range(4):  # what was ended gets round to it
                await asyncio.sleep(0)

    def ended(self) -> dict[str, str]:
        """Return the reasons with which calls ended so far."""
        found = {}
        for name, task in self._waiting.items():
            if task.done():
                error = task.exception()
                found[name] = getattr(error, "reason", "OK")
        return found

    def close(self) -> None:
        """Give up what still waits."""
        for task in self._waiting.values():
            task.cancel()


def test_a_message_that_comes_is_returned() -> None:
    """And nothing is remembered of it."""

    async def scenario() -> None:
        bench = Bench()
        caller = await bench.wait("a")
        assert 1 == bench.arrivals.statistics().waiting
        caller.send(b"message")
        await bench.beat()
        assert ({"a": "OK"}, (0, 0)) == (bench.ended(), bench.arrivals.statistics())
        assert "<Arrivals 0 waiting, 0 evicted>" == repr(bench.arrivals)

    asyncio.run(scenario())


def test_a_call_without_its_message_is_none() -> None:
    """A unary call has one; a stream may have none."""

    async def scenario() -> None:
        bench = Bench()
        for name, unary in (("call", True), ("stream", False)):
            (await bench.wait(name, unary=unary)).send(grpc.aio.EOF)
        await bench.beat()
        assert {"call": NotSupported.reason, "stream": "OK"} == bench.ended()

    asyncio.run(scenario())


def test_a_request_has_its_time() -> None:
    """Only the rest of a unary call has to come in time: a stream may be silent for hours."""

    async def scenario() -> None:
        bench = Bench(timeout=20)
        caller = await bench.wait("call")
        await bench.wait("stream", unary=False)
        await bench.beat(20)
        assert {} == bench.ended()
        await bench.beat()
        assert {"call": "RECEIVE_TIMEOUT"} == bench.ended()
        assert (1, 1) == (caller.cancels, bench.arrivals.evicted)
        bench.close()

    asyncio.run(scenario())


def test_slow_messages_are_minded_only_when_memory_is_short() -> None:
    """However many there are."""

    async def scenario() -> None:
        bench = Bench()
        for number in range(10):
            await bench.wait(f"a{number}", "a")
        await bench.beat(100)
        assert {} == bench.ended()
        bench.fill = 2.1
        await bench.beat()
        assert 10 == len(bench.ended())
        bench.close()

    asyncio.run(scenario())


def test_memory_that_is_only_kept_costs_nobody_a_call() -> None:
    """It is given back first; those who wait lose their calls when that was not enough."""

    async def scenario() -> None:
        bench = Bench()
        for number in range(10):
            await bench.wait(f"a{number}", "a", unary=False)
        await bench.beat(PATIENCE + 1)
        for fill in (1.2, 0.5, 1.2):
            bench.fill = fill
            await bench.beat(SETTLING // 2)
        assert ({}, 2) == (bench.ended(), bench.trims)
        await bench.beat()
        assert 10 == len(bench.ended())
        bench.close()

    asyncio.run(scenario())


def test_who_has_most_loses_them() -> None:
    """As many as are too many; others only when memory was given back and is still short."""

    async def scenario() -> None:
        bench = Bench()
        for peer, count in (("few", 1), ("many", 5), ("most", 12)):
            for number in range(count):
                await bench.wait(f"{peer}{number}", peer)
        bench.fill = 1.6
        await bench.beat(PATIENCE)
        assert {} == bench.ended()  # what has just come may be there in a moment
        await bench.beat()
        assert {f"most{n}" for n in range(12)} == set(bench.ended())
        await bench.beat(SETTLING - 1)
        assert (12, 1) == (len(bench.ended()), bench.trims)
        await bench.beat()
        assert (17, {"RECEIVE_BUDGET"}) == (len(bench.ended()), set(bench.ended().values()))
        await bench.beat(3 * SETTLING)
        assert "few0" not in bench.ended()  # one message is within what nobody minds
        bench.close()

    asyncio.run(scenario())


def test_many_connections_are_no_way_around_the_budget() -> None:
    """The further memory is over it, the more of them lose their messages at once."""

    async def scenario() -> None:
        bench = Bench()
        for number in range(100):
            await bench.wait(f"a{number}")
        bench.fill = 5.0
        await bench.beat(PATIENCE + 1)
        assert 90 == len(bench.ended())
        bench.close()

    asyncio.run(scenario())


def test_there_may_not_be_too_many_however_small_they_are() -> None:
    """Or they would use up the calls that may be open."""

    async def scenario() -> None:
        bench = Bench(most=5)
        await bench.wait("honest")
        for number in range(5):
            await bench.wait(f"a{number}", "a")
        await bench.beat(PATIENCE + 1)
        assert {f"a{n}" for n in range(5)} == set(bench.ended())
        bench.close()

    asyncio.run(scenario())


def test_a_caller_who_goes_away_is_no_eviction() -> None:
    """Cancelled from outside, a read is cancelled and says nothing else."""

    async def scenario() -> None:
        arrivals = Arrivals(timeout=10, free=1, most=10)
        task = asyncio.ensure_future(arrivals.request(Caller()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (0, 0) == arrivals.statistics()

    asyncio.run(scenario())


def test_an_evicted_call_can_still_say_so() -> None:
    """Its task is not in a state of being cancelled: it has a status to send."""

    async def scenario() -> str:
        arrivals = Arrivals(timeout=1, free=1, most=10)

        async def call() -> str:
            try:
                await arrivals.request(Caller())
            except Overloaded as error:
                await asyncio.sleep(0)
                return str(error)
            return "came"

        task = asyncio.ensure_future(call())
        for _ in range(PATIENCE + 2):
            await asyncio.sleep(0)
            arrivals.beat()
        return await task

    expected = "the request did not arrive in time (limits.receive_timeout_seconds)"
    assert expected == asyncio.run(scenario())
