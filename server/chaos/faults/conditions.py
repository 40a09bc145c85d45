"""What goes wrong around a server: its clock, its disk, its descriptors, its scrapers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

import grpc

from chaos.callers import PlainCaller
from chaos.certificates import Authority
from chaos.faulty_model import FaultyModel
from chaos.history import OK, History
from chaos.load import Endless, open_loop
from chaos.read_only import possible
from chaos.verdict import percentile
from chaos.wall_clock import WallClock
from jitney_client import JitneyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chaos.arena import Arena
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict

__all__ = [
    "full_disk",
    "hung_scrapers",
    "jumping_clock",
    "no_descriptors",
    "read_only_disk",
    "rotated_certificates",
]

MODEL: Final = FaultyModel(alpha=0.0005, beta=0.004)
MAX_ROWS: Final = 16
RATE: Final = 150.0
TIMEOUT: Final = 10.0
HOUR: Final = 3600.0
BACK_GOAL: Final = 5.0
"""Seconds after which new callers are served again once there are descriptors."""
CALLER_P99_GOAL: Final = 0.25
"""Seconds; what these callers ask for takes five milliseconds."""
SPARE_DESCRIPTORS: Final = 4
FULL: Final = "/dev/full"


async def _undisturbed(
    arena: Arena,
    verdict: Verdict,
    server: SubjectServer,
    disturb: Callable[[], Awaitable[None]],
) -> None:
    """Note how callers fare while something else goes on; none of them calls twice."""
    history = History()
    caller = arena.plain(server, history, timeout=TIMEOUT)
    numbers = Endless(arena.numbers)
    await caller(next(arena.numbers))
    running = asyncio.ensure_future(open_loop(caller, RATE, float("inf"), numbers=numbers))
    try:
        await disturb()
    finally:
        numbers.over = True
        await running
    verdict.ends(history)
    verdict.exactly("failed requests", history.invoked - history.codes[OK], 0)
    verdict.at_most("p99 of calls", percentile(history.latencies(), 99), CALLER_P99_GOAL, "s")
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}


async def jumping_clock(arena: Arena, verdict: Verdict, *, seconds: float) -> None:
    """Set the wall clock of the server an hour on and back, under load."""
    try:
        clock = await asyncio.to_thread(WallClock, arena.path("clock"))
    except OSError as error:
        verdict.note(f"not done: {error}")
        return
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    server = await arena.server(repository, environment=clock.environment)

    async def jump() -> None:
        for offset in (HOUR, -HOUR, 0.0):
            clock.jump(offset)
            await asyncio.sleep(seconds / 3)

    await _undisturbed(arena, verdict, server, jump)


async def no_descriptors(arena: Arena, verdict: Verdict, *, seconds: float) -> None:
    """Take the server's descriptors away under load, kill a worker meanwhile, and give them back.

    Callers that are connected go on; nobody new comes in, and no worker can be started, until
    there are descriptors again.
    """
    server = await arena.server(arena.repository(MODEL, max_rows=MAX_ROWS), "--max-restarts=1000")
    strangers: list[socket.socket] = []
    late = History()

    async def starve() -> None:
        await asyncio.sleep(0.2)
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        few = server.resources().descriptors + SPARE_DESCRIPTORS
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, hard))
        for _ in range(4 * SPARE_DESCRIPTORS):
            stranger = socket.create_connection(("127.0.0.1", server.port), TIMEOUT)
            strangers.append(stranger)
        busy = server.cpu_seconds()
        began = time.monotonic()
        os.kill(server.workers()[0], signal.SIGKILL)
        await asyncio.sleep(seconds)
        busy = (server.cpu_seconds() - busy) / (time.monotonic() - began)
        verdict.tell("CPU seconds per second meanwhile", busy)
        verdict.tell("workers meanwhile", len(server.workers()))
        for stranger in strangers:
            stranger.close()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))

    history = History()
    caller = arena.retrying(server.address, history, timeout=TIMEOUT)
    numbers = Endless(arena.numbers)
    await caller(next(arena.numbers))
    running = asyncio.ensure_future(open_loop(caller, RATE, float("inf"), numbers=numbers))
    try:
        await starve()
    finally:
        numbers.over = True
        await running
    verdict.ends(history)
    # The batch of the killed worker was in flight: the client's retries are for that.
    verdict.exactly("failed requests", history.invoked - history.codes[OK], 0)
    began = time.monotonic()
    while late.codes[OK] == 0 and time.monotonic() - began < 2 * BACK_GOAL:
        newcomer = arena.plain(server, late, connections=1, timeout=1.0)
        await newcomer(next(arena.numbers))
    verdict.at_most("new callers served after", time.monotonic() - began, BACK_GOAL, "s")
    back = await arena.until(lambda: len(server.workers()) == 2, 10 * BACK_GOAL)
    verdict.at_most("all workers back after", back, 2 * BACK_GOAL, "s")
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}


async def full_disk(arena: Arena, verdict: Verdict, *, seconds: float) -> None:
    """Let everything that the server writes meet a full disk (``/dev/full``)."""
    files = [f"--trace-file={FULL}", f"--audit-file={FULL}", f"--chaos-stderr={FULL}"]
    files.append("--log-level=debug")
    server = await arena.server(arena.repository(MODEL, max_rows=MAX_ROWS), *files)
    watcher = arena.watcher(server)

    async def write() -> None:
        await watcher.update_trace_settings(levels=["TIMESTAMPS"], rate=1)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            # What is refused is logged as well, and reloads are audited.
            with contextlib.suppress(JitneyError):
                await watcher.load("nobody")
            await asyncio.sleep(0.05)

    await _undisturbed(arena, verdict, server, write)
    verdict.exactly("alarm of the audit log", server.page().total("jitney_audit_failing"), 1)


async def read_only_disk(arena: Arena, verdict: Verdict, *, seconds: float) -> None:
    """Let the server, and its workers, write nothing anywhere; kill one of them meanwhile."""
    if not possible():
        verdict.note("not done: this kernel has no Landlock")
        return
    flags = ("--max-restarts=1000",)
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    server = await arena.server(repository, *flags, read_only=True)

    async def wait() -> None:
        await asyncio.sleep(seconds)

    await _undisturbed(arena, verdict, server, wait)
    os.kill(server.workers()[0], signal.SIGKILL)
    await arena.until(lambda: len(server.workers()) == 1, BACK_GOAL)
    back = await arena.until(lambda: len(server.workers()) == 2, BACK_GOAL)
    verdict.at_most("a killed worker is replaced after", back, BACK_GOAL, "s")


async def rotated_certificates(
    arena: Arena, verdict: Verdict, *, rounds: int, every: float
) -> None:
    """Give the server new certificates, every third of them broken, while new callers come in.

    :param every: seconds between two; the server looks once a second, and twice before it believes.
    """
    authority = await asyncio.to_thread(Authority, arena.path("tls"))
    files = (f"--tls-certificate={authority.chain}", f"--tls-key={authority.key}")
    flags = (*files, "--metrics-tls=false")  # the page is read by who knows no authority
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    server = await arena.server(repository, *flags)
    history = History()
    credentials = grpc.ssl_channel_credentials(authority.certificate)
    over = False

    async def come_and_go() -> None:
        while not over:
            caller = PlainCaller(
                server.address, history, connections=1, timeout=TIMEOUT, credentials=credentials
            )
            await open_loop(caller, RATE, 0.1, numbers=arena.numbers)
            await caller.close()

    async def alarmed() -> float:
        return await arena.until(
            lambda: server.page().total("jitney_tls_files_broken") == 1, 2 * BACK_GOAL
        )

    calling = asyncio.ensure_future(come_and_go())
    alarms = []
    for turn in range(rounds):
        if turn % 3 == 1:
            authority.write_broken()
            alarms.append(await alarmed())
        else:
            authority.write()
        await asyncio.sleep(every)
    over = True
    await calling
    verdict.ends(history)
    verdict.exactly("failed requests", history.invoked - history.codes[OK], 0)
    verdict.at_most("alarm of a broken file, worst", max(alarms), BACK_GOAL, "s")
    page = server.page()
    taken = page.total("jitney_tls_rotations_total", outcome="taken")
    verdict.at_least("certificates taken", taken, rounds - len(alarms), "")
    verdict.tell("calls", history.invoked)
    verdict.facts |= {"codes": dict(history.codes)}


async def hung_scrapers(arena: Arena, verdict: Verdict, *, seconds: float, scrapers: int) -> None:
    """Connect to the metrics page and never read, never finish asking, or ask at length."""
    server = await arena.server(arena.repository(MODEL, max_rows=MAX_ROWS))
    port = int(server.metrics_url.rpartition(":")[2].partition("/")[0])
    ways = itertools.cycle((b"", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\n\r\n"))
    hung: list[socket.socket] = []
    before = server.resources()
    scraped = [0.0]

    async def hang() -> None:
        for _ in range(scrapers):
            scraper = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            scraper.sendall(next(ways))
            hung.append(scraper)
        await asyncio.sleep(seconds)
        began = time.monotonic()
        await asyncio.to_thread(server.page)
        scraped[0] = time.monotonic() - began

    await _undisturbed(arena, verdict, server, hang)
    verdict.at_most("a polite scrape takes", scraped[0], 1.0, "s")
    grown = (server.resources().rss - before.rss) / (1 << 20)
    verdict.at_most("memory more than before", grown, 32.0, "MiB")
    verdict.tell("threads more than before", server.resources().threads - before.threads)
    for scraper in hung:
        scraper.close()
