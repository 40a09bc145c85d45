"""Clients that are killed, or stop, with their requests in the queue."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

from chaos.faulty_model import FaultyModel
from chaos.history import OK, History

if TYPE_CHECKING:
    from chaos.arena import Arena
    from chaos.page import Page
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict

__all__ = ["frozen_clients", "killed_clients"]

MODEL: Final = FaultyModel(beta=0.3)
MAX_ROWS: Final = 2
QUEUE: Final = "[batching]\nmax_queue_size = 100000\n"
WAIT: Final = 60.0
GONE_GOAL: Final = 1.0
SPARE: Final = 1.0
HELD: Final = ("jitney_inflight_requests", "jitney_inflight_bytes", "jitney_queue_depth")
OBJECTS: Final = ("tasks", "futures", "entries")


async def killed_clients(
    arena: Arena, verdict: Verdict, *, rounds: int, clients: int, kill: bool = True
) -> None:
    """Kill clients, all at once, whose requests wait.

    :param kill: False leaves them be: the control.
    """
    await _silenced(arena, verdict, rounds, clients, signal.SIGKILL if kill else None, GONE_GOAL)


async def frozen_clients(
    arena: Arena,
    verdict: Verdict,
    *,
    rounds: int,
    clients: int,
    keepalive: float = 10.0,
    ping_timeout: float = 5.0,
) -> None:
    """Stop clients (SIGSTOP) whose requests wait: the server must find out by itself.

    :param keepalive: ``--keepalive-seconds``.
    :param ping_timeout: ``--keepalive-timeout-seconds``.
    """
    flags = (f"--keepalive-seconds={keepalive:g}", f"--keepalive-timeout-seconds={ping_timeout:g}")
    goal = keepalive + ping_timeout + SPARE
    await _silenced(arena, verdict, rounds, clients, signal.SIGSTOP, goal, *flags)


async def _silenced(
    arena: Arena,
    verdict: Verdict,
    rounds: int,
    clients: int,
    number: signal.Signals | None,
    goal: float,
    *flags: str,
) -> None:
    repository = arena.repository(MODEL, max_rows=MAX_ROWS, settings=QUEUE)
    server = await arena.server(repository, *flags, devices=1)
    history = History()
    caller = arena.plain(server, history, connections=1)
    await caller(next(arena.numbers))
    before = await asyncio.to_thread(server.census)
    gone: list[float] = []
    for _ in range(rounds):
        crowd = await arena.process("chaos.crowd", server.address, str(clients))
        await asyncio.to_thread(crowd.line)
        came = await arena.until(lambda: server.page().total(HELD[0]) >= clients, WAIT)
        verdict.facts["crowd_came_within"] = round(came, 3)
        if number is not None:
            os.kill(crowd.pid, number)
        gone.append(await arena.until(lambda: not _held(server.page()), 2 * goal + 1))
        if number is not signal.SIGKILL:
            os.kill(crowd.pid, signal.SIGKILL)
    verdict.at_most("requests, bytes and queue back to 0, worst", max(gone), goal, "s")
    verdict.tell("clients", clients)
    await arena.until(lambda: _more(server, before) == 0, WAIT / 2)
    after = await asyncio.to_thread(server.census)
    for name in OBJECTS:
        verdict.at_most(f"{name} more than before", after[name] - before[name], 0)
    await caller(next(arena.numbers))
    verdict.ends(history)
    verdict.exactly("answers before and after", history.codes[OK], 2)


def _held(page: Page) -> float:
    return sum(page.total(name) for name in HELD)


def _more(server: SubjectServer, before: dict[str, int]) -> int:
    now = server.census()
    return sum(max(0, now[name] - before[name]) for name in OBJECTS)
