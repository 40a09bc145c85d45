"""Workers that are killed, that hang, and whose requests break them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Final

from chaos.faulty_model import Command, FaultyModel
from chaos.history import OK, History
from chaos.load import open_loop
from chaos.torch_model import write_torch_model
from chaos.verdict import percentile
from jitney_client.connection import DEFAULT_RETRIES

if TYPE_CHECKING:
    from chaos.arena import Arena
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict
    from jitney_client import AsyncClient

__all__ = ["hung_workers", "killed_workers", "poison", "stopped_workers"]

MODEL: Final = FaultyModel(alpha=0.002, beta=0.005)
MAX_ROWS: Final = 16
CAPACITY: Final = MAX_ROWS / MODEL.seconds(MAX_ROWS)
"""Requests of one row per second that one device can run, in full batches."""
DEADLINE: Final = 10.0
HONEST: Final = 0.1
"""Seconds after its deadline at which a call must have ended, at the latest."""
POLL: Final = 0.01
RECOVERY_TIMEOUT: Final = 60.0
RECOVERY_GOAL: Final = 3.0
SUCCEEDED_GOAL: Final = 99.99
UNLIMITED_RESTARTS: Final = "--max-restarts=1000"
"""Nobody but the tester kills workers for ever: the breaker would take the device out, rightly."""


async def killed_workers(
    arena: Arena,
    verdict: Verdict,
    *,
    seconds: float,
    every: float,
    load: float = 0.7,
    devices: int = 2,
    rate: float = 0.0,
    spares: int = 0,
    retries: bool = True,
) -> None:
    """Kill a worker now and then, under load, with the client's retries.

    :param load: share of what the devices can do.
    :param devices: 0 for the CPU of this machine, whose worker imports torch.
    :param rate: requests per second, instead of ``load``.
    :param spares: workers per device that are started in advance (``--spare-workers``).
    """
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    if not devices:
        await asyncio.to_thread(write_torch_model, repository)
    flags = (UNLIMITED_RESTARTS, "--device=cpu", f"--spare-workers={spares}")
    server = await arena.server(repository, *flags, devices=devices)
    devices = devices or 1
    history = History()
    policy = DEFAULT_RETRIES if retries else None
    caller = arena.retrying(server.address, history, timeout=DEADLINE, retries=policy)
    watcher = arena.watcher(server)
    recoveries: list[float] = []
    killing = asyncio.ensure_future(_kill(server, watcher, every, devices, recoveries))
    rate = rate or load * CAPACITY * devices
    try:
        await open_loop(caller, rate, seconds, numbers=arena.numbers, grace=2 * DEADLINE)
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
    await _all_up(watcher, devices)
    total = devices * (1 + spares)
    await arena.until(lambda: len(server.workers()) == total, RECOVERY_TIMEOUT)
    verdict.ends(history)
    verdict.at_least(
        "succeeded", 100 * history.codes[OK] / max(1, history.invoked), SUCCEEDED_GOAL, "%"
    )
    late = sum(end.seconds > DEADLINE + HONEST for end in history.ends)
    verdict.exactly("ended after deadline + 100 ms", late, 0)
    verdict.at_most("p99 recovery of a device", percentile(recoveries, 99), RECOVERY_GOAL, "s")
    verdict.tell("kills", len(recoveries))
    verdict.tell("p50 recovery of a device", percentile(recoveries, 50), "s")
    verdict.tell("p99 of calls", 1e3 * percentile(history.latencies(), 99), "ms")
    verdict.exactly("workers at the end", len(server.workers()), total)
    page = server.page()
    ends = page.total("jitney_request_duration_seconds_count") + page.total("jitney_rejected_total")
    ends += page.total("jitney_cancelled_total")
    calls = page.total("jitney_requests_total", method="ModelInfer")
    verdict.exactly("calls the server counts more than ends", calls - ends, 0)
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}
    verdict.facts |= {"requests": history.invoked, "requests_per_second": rate}


async def _kill(
    server: SubjectServer, watcher: AsyncClient, every: float, devices: int, recoveries: list[float]
) -> None:
    """Kill workers in turn, for ever; note how long each device was without its model."""
    turn = 0
    while True:
        await asyncio.sleep(every)
        workers = await asyncio.to_thread(server.workers)
        if not workers:
            continue
        restarts = await _restarts(watcher)
        os.kill(workers[turn % len(workers)], signal.SIGKILL)
        turn += 1
        began = time.monotonic()
        if await _noticed(server, watcher, set(workers), restarts):
            await _all_up(watcher, devices)
            recoveries.append(time.monotonic() - began)


async def _noticed(
    server: SubjectServer, watcher: AsyncClient, before: set[int], restarts: int
) -> bool:
    """Wait until the server has noticed that a worker ended; return whether it was serving.

    A spare one is replaced without a word. There is then a new process, and no restart.

    :raises TimeoutError: when that takes a minute.
    """
    async with asyncio.timeout(RECOVERY_TIMEOUT):
        while await _restarts(watcher) == restarts:
            if set(await asyncio.to_thread(server.workers)) - before:
                return await _restarts(watcher) > restarts
            await asyncio.sleep(POLL)
    return True


async def _restarts(watcher: AsyncClient) -> int:
    return sum(device.restarts for device in (await watcher.status()).devices)


async def _all_up(watcher: AsyncClient, devices: int, after: int = -1) -> None:
    """Return once so many devices have the model.

    :param after: and workers were replaced more often than that: right after the end of one, the
        server does not know of it yet.
    :raises TimeoutError: when that takes a minute.
    """
    async with asyncio.timeout(RECOVERY_TIMEOUT):
        while True:
            status = await watcher.status()
            up = {device.name for device in status.devices if device.state == "up"}
            (model,) = [one for one in status.models if one.name == "faulty"]
            have = up & {instance.device for instance in model.instances}
            restarts = sum(device.restarts for device in status.devices)
            if len(have) >= devices and restarts > after:
                return
            await asyncio.sleep(POLL)


async def hung_workers(
    arena: Arena, verdict: Verdict, *, rounds: int, limit: float, watched: bool = True
) -> None:
    """Send requests that never return, one by one, beside a model that others use.

    :param limit: seconds that a batch may take (``--batch-timeout-seconds``).
    :param watched: False sets no limit that could be met: the control.
    """
    timeout = limit if watched else 100 * limit
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    flags = (f"--batch-timeout-seconds={timeout:g}", UNLIMITED_RESTARTS)
    server = await arena.server(repository, *flags, devices=2)
    others, victims = History(), History()
    caller = arena.retrying(server.address, others, timeout=DEADLINE)
    hanging = arena.plain(server, victims, timeout=20 * limit)
    watcher = arena.watcher(server)
    loading = asyncio.ensure_future(
        open_loop(caller, 0.2 * CAPACITY, rounds * (limit + 1.0), numbers=arena.numbers)
    )
    for _ in range(rounds):
        before = await _restarts(watcher)
        await hanging(next(arena.numbers), Command.HANG)
        if watched:
            await _all_up(watcher, 2, after=before)
    await loading
    verdict.ends(others)
    detected = [end.seconds for end in victims.ends]
    verdict.at_most("detected after the limit by", max(detected) - limit, 1.0, "s")
    verdict.exactly("hung requests that ended UNAVAILABLE", _unavailable(victims), rounds)
    verdict.at_least(
        "others that succeeded", 100 * others.codes[OK] / max(1, others.invoked), 99.99, "%"
    )
    verdict.facts |= {"codes": dict(others.codes), "hung": dict(victims.codes)}


async def stopped_workers(arena: Arena, verdict: Verdict, *, rounds: int, limit: float) -> None:
    """Stop the only worker (SIGSTOP) while a request is in it, and wait for the next one."""
    repository = arena.repository(FaultyModel(beta=0.2), max_rows=MAX_ROWS)
    flags = (f"--batch-timeout-seconds={limit:g}", UNLIMITED_RESTARTS)
    server = await arena.server(repository, *flags, devices=1)
    history = History()
    caller = arena.plain(server, history, timeout=20 * limit)
    watcher = arena.watcher(server)
    detected = []
    for _ in range(rounds):
        (worker,) = server.workers()
        before = await _restarts(watcher)
        running = asyncio.ensure_future(caller(next(arena.numbers)))
        await asyncio.sleep(0.05)
        os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        await running
        detected.append(time.monotonic() - began)
        await _all_up(watcher, 1, after=before)
        await caller(next(arena.numbers))
    verdict.ends(history)
    verdict.at_most("detected after the limit by", max(detected) - limit, 1.0, "s")
    verdict.exactly("answered by the next worker", history.codes[OK], rounds)
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}


def _unavailable(history: History) -> int:
    return history.codes["UNAVAILABLE"]


async def poison(
    arena: Arena, verdict: Verdict, *, rounds: int, rows: int = 32, command: str = "REJECT"
) -> None:
    """Put one request that the model raises at, or dies of, among others of one batch."""
    model = FaultyModel(alpha=0.0002, beta=0.02)
    repository = arena.repository(
        model, max_rows=rows, settings="[batching]\nmax_queue_delay_ms = 50\n"
    )
    server = await arena.server(repository, UNLIMITED_RESTARTS, devices=2)
    history, rng = History(), random.Random(7)  # noqa: S311  # not a secret
    caller = arena.plain(server, history, connections=1, timeout=2 * DEADLINE)
    culprits: set[int] = set()
    for _ in range(rounds):
        place = rng.randrange(rows)
        numbers = [next(arena.numbers) for _ in range(rows)]
        culprits.add(numbers[place])
        await asyncio.gather(
            *(caller(n, Command[command] if n == numbers[place] else Command.NONE) for n in numbers)
        )
    verdict.ends(history)
    failed = {end.number for end in history.ends if end.code != OK}
    verdict.exactly("culprits that failed", len(failed & culprits), rounds)
    verdict.exactly("others that failed", len(failed - culprits), 0)
    mean = server.page().total("jitney_batch_rows_sum") / server.page().total(
        "jitney_batch_rows_count"
    )
    verdict.tell("mean rows of a batch, parts included", mean)
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}
