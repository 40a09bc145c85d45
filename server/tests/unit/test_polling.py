"""Looks at the folders come one after the other, and none is the last."""

from __future__ import annotations

import asyncio

from jitney.repository.name_locks import NameLocks
from jitney.repository.polling import Poller
from jitney.testing import FakeClock


def test_looks_do_not_overlap_and_a_failing_one_is_not_the_last() -> None:
    """The next is counted from the end of the last, whatever that was."""

    async def scenario() -> None:
        clock, looks, gate = FakeClock(), 0, asyncio.Event()

        async def poll() -> None:
            nonlocal looks
            looks += 1
            await gate.wait()
            raise RuntimeError

        poller = Poller(clock, poll, 10.0)
        poller.start()
        assert "<Poller every 10 s, waiting>" == repr(poller)
        clock.advance(9.0)
        assert 0 == looks
        clock.advance(1.0)
        await asyncio.sleep(0)
        clock.advance(100.0)
        assert (1, "<Poller every 10 s, polling>") == (looks, repr(poller))
        gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(10.0)
        await asyncio.sleep(0)
        assert 2 == looks
        await poller.stop()
        clock.advance(100.0)
        assert (2, []) == (looks, clock.timers)

    asyncio.run(scenario())


def test_stopping_ends_a_look_that_is_under_way() -> None:
    """Nobody waits for a slow disk at the end."""

    async def scenario() -> None:
        clock = FakeClock()
        poller = Poller(clock, asyncio.Event().wait, 1.0)  # type: ignore[arg-type]  # it never ends
        poller.start()
        clock.advance(1.0)
        await asyncio.sleep(0)
        await poller.stop()
        assert ("<Poller every 1 s, stopped>", []) == (repr(poller), clock.timers)

    asyncio.run(scenario())


def test_a_lock_lives_as_long_as_somebody_needs_it() -> None:
    """Names come from callers, so nothing of them stays."""

    async def scenario() -> None:
        locks, order = NameLocks(), []

        async def hold(name: str, what: str) -> None:
            async with locks.hold(name):
                order.append(what)
                await asyncio.sleep(0)
                order.append(what)

        tasks = [asyncio.create_task(hold("a", what)) for what in "xyz"]
        await asyncio.sleep(0)
        assert (True, False) == (locks.is_held("a"), locks.is_held("b"))
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert list("xxzz") == order
        assert ("<NameLocks []>", False) == (repr(locks), locks.is_held("a"))

    asyncio.run(scenario())
