"""Server processes that are killed, drained and started again."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import signal
import time
from typing import TYPE_CHECKING, Final

from chaos.faulty_model import FaultyModel
from chaos.history import OK, History
from chaos.load import Endless, closed_loop, open_loop
from chaos.resources import alive, segments
from chaos.verdict import percentile
from jitney_client.connection import DEFAULT_RETRIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chaos.arena import Arena
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict

__all__ = ["aged_connections", "drained_servers", "killed_server"]

MODEL: Final = FaultyModel(alpha=0.0005, beta=0.004)
MAX_ROWS: Final = 16
TIMEOUT: Final = 10.0
START_GOAL: Final = 2.0
ORPHANS_GOAL: Final = 5.0
DRAIN_DELAY: Final = 0.2
BALANCED_WITHIN: Final = 30.0
EXIT_SPARE: Final = 2.0
"""Seconds that the exit may take beyond the drain's delay and the longest deadline."""


async def killed_server(
    arena: Arena, verdict: Verdict, *, rounds: int, devices: int = 2, start_goal: float = START_GOAL
) -> None:
    """Kill the server's process under load, start it again on the same port.

    :param start_goal: seconds from exec to serving; a machine that tests other things takes longer.
    """
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    server = await arena.server(repository, devices=devices)
    before = segments()
    starts, orphans, history = [], [], History()
    for _ in range(rounds):
        caller = arena.plain(server, history, timeout=TIMEOUT)
        numbers = Endless(arena.numbers)
        load = asyncio.ensure_future(closed_loop(caller, numbers, 32))
        await asyncio.sleep(0.3)
        workers, port = server.workers(), server.port
        began = time.monotonic()
        server.kill()
        numbers.over = True
        server = await arena.server(repository, f"--grpc-port={port}", devices=devices)
        starts.append(server.seconds_to_start)
        left = ORPHANS_GOAL + 1 - (time.monotonic() - began)
        await arena.until(functools.partial(_none_alive, workers), left)
        orphans += [pid for pid in workers if alive(pid)]
        await load
    caller = arena.plain(server, history, timeout=TIMEOUT)
    answered = history.codes[OK]
    await caller(next(arena.numbers))
    verdict.ends(history)
    verdict.at_most("from exec to serving, worst", max(starts), start_goal, "s")
    verdict.exactly("workers alive 5 s later", len(orphans), 0)
    # Others on this machine have segments as well, for a while.
    await arena.until(lambda: segments() <= before, ORPHANS_GOAL)
    verdict.exactly("segments left in shared memory", len(segments() - before), 0)
    verdict.exactly("answers of the last server", history.codes[OK] - answered, 1)
    verdict.facts |= {"codes": dict(history.codes)}


def _none_alive(pids: Sequence[int]) -> bool:
    return not any(map(alive, pids))


async def drained_servers(
    arena: Arena, verdict: Verdict, *, rounds: int, rate: float = 150.0, polite: bool = True
) -> None:
    """Stop one of two servers (SIGTERM) under load, start it again, then the other, and so on.

    :param polite: False kills them instead: the control.
    """
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    flags = (f"--drain-delay-seconds={DRAIN_DELAY}",)
    servers = [await arena.server(repository, *flags) for _ in range(2)]
    history = History()
    addresses = [server.address for server in servers]
    retries = DEFAULT_RETRIES if polite else None
    caller = arena.retrying(addresses, history, timeout=TIMEOUT, retries=retries)
    numbers = Endless(arena.numbers)
    running = asyncio.ensure_future(
        open_loop(caller, rate, math.inf, numbers=numbers, grace=2 * TIMEOUT)
    )
    exits, codes = [], []
    for turn in range(rounds):
        place = turn % 2
        server = servers[place]
        # Both, or the callers may not have found the one that was started last.
        await arena.until(lambda: all(map(_is_called, servers)), BALANCED_WITHIN)
        began = time.monotonic()
        server.send(signal.SIGTERM if polite else signal.SIGKILL)
        codes.append(await asyncio.to_thread(server.exit_code))
        exits.append(time.monotonic() - began)
        servers[place] = await _again(arena, repository, server, flags)
    numbers.over = True
    await running
    verdict.ends(history)
    verdict.exactly("failed requests", history.invoked - history.codes[OK], 0)
    verdict.at_most("exit, worst", max(exits), DRAIN_DELAY + TIMEOUT + EXIT_SPARE, "s")
    verdict.tell("exit, p50", percentile(exits, 50), "s")
    verdict.exactly("exit codes other than 0", sum(code != 0 for code in codes), 0)
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}
    verdict.facts |= {"requests": history.invoked}


def _is_called(server: SubjectServer) -> bool:
    return server.page().total("jitney_requests_total", code="OK", method="ModelInfer") > 0


async def _again(
    arena: Arena, repository: Path, before: SubjectServer, flags: tuple[str, ...]
) -> SubjectServer:
    return await arena.server(repository, f"--grpc-port={before.port}", *flags)


async def aged_connections(
    arena: Arena, verdict: Verdict, *, seconds: float, age: float = 1.0, clients: int = 20
) -> None:
    """Let the server end connections that are so many seconds old, under load, without retries."""
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    server = await arena.server(repository, f"--max-connection-age-seconds={age:g}")
    histories = [History() for _ in range(clients)]
    callers = [
        arena.plain(server, history, connections=1, timeout=TIMEOUT) for history in histories
    ]
    turns = itertools.cycle(callers)

    async def send(number: int) -> None:
        await next(turns)(number)

    await open_loop(send, 200.0, seconds, numbers=arena.numbers)
    failed = sum(history.invoked - history.codes[OK] for history in histories)
    verdict.exactly("failed requests", failed, 0)
    verdict.tell("requests", sum(history.invoked for history in histories))
    for history in histories:
        for problem in history.problems:
            verdict.note(problem)
