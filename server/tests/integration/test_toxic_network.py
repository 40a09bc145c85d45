"""A client and a server with a bad network between them: every request ends, and nothing stays."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jitney.app import Server
from jitney.config import (
    DeviceSettings,
    RepositorySettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)
from jitney.testing.sim_model import SimModel, write_sim_model
from jitney.testing.sim_server import sim_commands
from jitney.testing.toxic_proxy import ToxicProxy
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
)
from jitney_client import AsyncClient, JitneyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Scenario = Callable[["Bench"], Awaitable[None]]

DEADLINE = 0.5
"""Seconds of a call in a bad network."""
WELL = 20.0
"""Seconds of a call that shall succeed."""
CALLS = 8
LIMIT = 60.0


class Bench:
    """A server, a proxy before it, and a client that does not repeat what fails."""

    def __init__(self, server: Server, proxy: ToxicProxy, client: AsyncClient) -> None:
        self.server = server
        self.proxy = proxy
        self.client = client
        self.ends: collections.Counter[str] = collections.Counter()

    async def call(self, timeout: float = WELL) -> None:  # noqa: ASYNC109  # the call's own
        """Make a call that carries a number of its own, and note how it ends."""
        number = float(self.ends.total())
        try:
            row = np.array([[number, 1, 2, 3]], np.float32)
            result = await self.client.infer("sim", {"x": row}, timeout=timeout)
        except JitneyError as error:
            self.ends[error.code.name] += 1
        else:
            (output,) = result.values()
            assert number == output[0, 0]
            self.ends["OK"] += 1

    async def calls(self, timeout: float) -> None:  # noqa: ASYNC109  # likewise
        """Make several calls at once."""
        await asyncio.gather(*(self.call(timeout) for _ in range(CALLS)))

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened that no event tells to somebody outside."""
        while not happened():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.005)

    async def idle(self) -> None:
        """Wait until the server has nothing left of any call, and nothing of half a message."""
        admission, listeners = self.server.admission, self.server.listeners
        await self.until(lambda: not (admission.requests or admission.nbytes))
        await self.until(
            lambda: not (listeners.unread.nbytes or listeners.arrivals.statistics()[0])
        )


@contextlib.asynccontextmanager
async def bench_of(repository: Path) -> AsyncIterator[Bench]:
    """Serve, put a proxy before it, and connect through it."""
    settings = Settings(
        server=ServerSettings(grpc_port=0),
        devices=DeviceSettings(slot_bytes=1 << 16),
        repository=RepositorySettings(model_repository=(repository,)),
        telemetry=TelemetrySettings(metrics=False),
    )
    commands = sim_commands(settings.devices, os.environ, 1)
    server = Server(settings, os.environ, lambda _: None, commands)
    try:
        await server.start()
        async with (
            ToxicProxy(("127.0.0.1", server.listeners.port), seed=1) as proxy,
            AsyncClient(proxy.address, retries=None, check=False) as client,
        ):
            yield Bench(server, proxy, client)
    finally:
        await server.stop(asyncio.Event())


def run(repository: Path, scenario: Scenario) -> Bench:
    """Play a scenario against a server."""
    write_sim_model(repository, "sim", SimModel(alpha=0.001, beta=0.0), max_rows=8)

    async def play() -> Bench:
        async with bench_of(repository) as bench:
            await asyncio.wait_for(scenario(bench), LIMIT)
        return bench

    return asyncio.run(play())


GENTLE = (
    Latency(0.02, jitter=0.01),
    Bandwidth(200_000.0),
    Slicer(7, variation=5),
    SlowClose(0.2),
    Trickle(64, 0.001),
)
"""What slows a call down and loses nothing of it."""

HARSH = (
    *(Latency(5.0), Bandwidth(20.0), Trickle(), Trickle(direction="down")),
    *(BlackHole(), BlackHole(direction="up"), BlackHole(direction="down"), BlackHole(0.1)),
    *(Frozen(), Frozen(direction="up"), Frozen(direction="down")),
    *(LimitData(100), LimitData(60, direction="down")),
    *(HalfClose(100, direction="up"), HalfClose(60, direction="down")),
    *(ResetPeer(), ResetPeer(0.05)),
)
"""What no call gets through, or hardly."""


@pytest.mark.parametrize("toxic", GENTLE, ids=str)
def test_in_a_slow_network_every_request_is_answered(tmp_path: Path, toxic: Toxic) -> None:
    """With its own rows."""

    async def scenario(bench: Bench) -> None:
        bench.proxy.put(toxic)
        await bench.calls(WELL)
        await bench.idle()

    assert {"OK": CALLS} == run(tmp_path, scenario).ends


@pytest.mark.parametrize("toxic", HARSH, ids=str)
def test_in_a_broken_network_every_request_ends_and_the_next_one_is_answered(
    tmp_path: Path, toxic: Toxic
) -> None:
    """By its deadline, with a status; then the server's counters are at zero.

    When the network is well again so is the service, on the same client.
    """

    async def scenario(bench: Bench) -> None:
        await bench.call()
        bench.proxy.put(toxic)
        await bench.calls(DEADLINE)
        assert CALLS + 1 == bench.ends.total()
        await bench.idle()
        bench.proxy.clear()
        await bench.proxy.drop()
        before = bench.ends["OK"]
        while bench.ends["OK"] == before:  # the client may have to find out first
            await bench.call()
        await bench.idle()

    ends = run(tmp_path, scenario).ends
    assert {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"} >= set(ends)


def test_a_network_that_changes_all_the_time_leaves_nothing_behind(tmp_path: Path) -> None:
    """Toxics come and go while calls run."""

    async def scenario(bench: Bench) -> None:
        calls = asyncio.ensure_future(_many(bench, 10))
        weather = (Slicer(3), Frozen(), ResetPeer(), Latency(0.05), LimitData(500), Trickle())
        for day, toxic in enumerate(weather, 1):
            bench.proxy.put(toxic)
            await bench.until(lambda day=day: bench.ends.total() >= day * CALLS)  # type: ignore[misc]  # it is an int
            bench.proxy.remove(toxic)
        await calls
        await bench.idle()
        await bench.call()

    ends = run(tmp_path, scenario).ends
    assert 10 * CALLS + 1 == ends.total()
    assert {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"} >= set(ends)


async def _many(bench: Bench, times: int) -> None:
    for _ in range(times):
        await bench.calls(DEADLINE)


def test_a_storm_of_connections_that_say_the_same_is_answered(tmp_path: Path) -> None:
    """Each of them is a client to the server; the real one has its own answers."""

    async def scenario(bench: Bench) -> None:
        bench.proxy.put(Duplicates(20))
        await bench.calls(WELL)
        await bench.idle()

    bench = run(tmp_path, scenario)
    answered = bench.server.metrics.requests.value(("sim", "1", "ModelInfer", "OK"))

    assert ({"OK": CALLS}, 21 * CALLS) == (bench.ends, answered)
