"""Whether what the server counts is what its callers saw, and whether their answers are right."""

from __future__ import annotations

import asyncio
import collections
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Final

from chaos.faulty_model import Command, FaultyModel, write_faulty_model
from chaos.history import OK, History
from chaos.load import Endless, Limited, closed_loop, open_loop
from chaos.verdict import percentile
from jitney.testing.mutations import mutations
from jitney_client import JitneyError

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.arena import Arena
    from chaos.callers import PlainCaller
    from chaos.page import Page
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict
    from jitney_client import AsyncClient

__all__ = ["bad_versions", "counted", "reloads", "right_answers"]

MAX_ROWS: Final = 16
ROWS: Final = 4
SETTLE: Final = 15.0
CANCELLED: Final = "CANCELLED"
CANCEL_SHARE: Final = 0.1
LONGEST_CANCEL_DELAY: Final = 0.02
EXPLICIT: Final = ("--model-control-mode=explicit", "--load-model=faulty")
RESTARTS: Final = "--max-restarts=1000"
RELOAD_TRIES: Final = 20
REFUSED: Final = "FAILED_PRECONDITION MODEL_LOAD_FAILED"


async def counted(
    arena: Arena, verdict: Verdict, *, requests: int, concurrency: int = 64, sabotage: str = ""
) -> None:
    """Compare the metrics page with the history of all callers, after good and bad requests.

    Nobody goes away early, so the counts must be equal and not only close.
    """
    model = FaultyModel(alpha=0.0002, beta=0.002)
    # A short queue, so that some are refused as well.
    queue = "[batching]\nmax_queue_size = 24\n"
    repository = arena.repository(model, max_rows=MAX_ROWS, settings=queue)
    server = await arena.server(repository, sabotage=sabotage)
    history = History()
    caller = arena.plain(server, history)
    stranger = arena.plain(server, history, model="nobody")
    before = server.page()
    rng = random.Random(7)  # noqa: S311  # not a secret

    async def send(number: int) -> None:
        count, chance = rng.randint(1, ROWS), rng.random()
        if chance < 0.02:
            await stranger(number)
        elif chance < 0.05:
            await caller(number, Command.REJECT)
        elif chance < 0.07:
            await caller(number, rows=MAX_ROWS + 1)
        else:
            await caller(number, rows=count)

    await closed_loop(send, Limited(arena.numbers, requests), concurrency)
    page = await _settled(arena, server)
    verdict.ends(history)
    name = "jitney_requests_total"
    served = page.by(name, "code", method="ModelInfer")
    differences = {
        code: served.get(code, 0) - history.codes[code]
        for code in {*served, *history.codes}
        if served.get(code, 0) != history.codes[code]
    }
    verdict.exactly("statuses counted otherwise", len(differences), 0)
    answered = page.total("jitney_request_duration_seconds_count")
    rejected = page.by("jitney_rejected_total", "reason")
    verdict.exactly("answers counted too many", answered - history.codes[OK], 0)
    failed = history.invoked - history.codes[OK]
    verdict.exactly("refusals counted too many", sum(rejected.values()) - failed, 0)
    verdict.exactly("still in flight", page.total("jitney_inflight_requests"), 0)
    for stage in ("queue", "compute_infer"):
        count = page.total(f"jitney_{stage}_duration_seconds_count")
        verdict.exactly(f"{stage} times counted too many", count - history.codes[OK], 0)
    calls = page.total(name, method="ModelInfer") - before.total(name, method="ModelInfer")
    verdict.exactly("calls counted too many", calls - history.invoked, 0)
    verdict.facts |= {"callers": dict(history.codes), "server": dict(served)}
    verdict.facts |= {"rejected": dict(rejected), "reasons": dict(history.reasons)}


async def _settled(arena: Arena, server: SubjectServer) -> Page:
    """Return the page once nothing is in flight: a call's end is counted after it was answered."""
    last = [-1.0]

    def still() -> bool:
        page = server.page()
        calls, last[0] = last[0], page.total("jitney_requests_total")
        return calls == last[0] and not page.total("jitney_inflight_requests")

    await arena.until(still, SETTLE)
    return server.page()


async def right_answers(
    arena: Arena,
    verdict: Verdict,
    *,
    requests: int,
    kill_every: float,
    reload_every: float,
    concurrency: int = 64,
    sabotage: str = "",
) -> None:
    """Reload the model and kill workers while callers call and one in ten goes away.

    Every row carries its request's number and comes back with the stamp of the load that computed
    it, so a row that went to somebody else, or came from a load that was over, shows.
    """
    model = FaultyModel(alpha=0.0001, beta=0.002, stamp=1)
    repository = arena.repository(model, max_rows=MAX_ROWS)
    server = await arena.server(repository, *EXPLICIT, RESTARTS, sabotage=sabotage)
    history = History()
    caller, watcher = arena.plain(server, history), arena.watcher(server)
    rng = random.Random(7)  # noqa: S311  # not a secret
    loads = [(0.0, 0.0, 1)]

    async def send(number: int) -> None:
        late = rng.uniform(0, LONGEST_CANCEL_DELAY)
        away = late if rng.random() < CANCEL_SHARE else None
        await caller(number, rows=rng.randint(1, ROWS), cancel_after=away)

    others = [
        asyncio.ensure_future(_keep_reloading(watcher, repository, model, reload_every, loads)),
        asyncio.ensure_future(_keep_killing(server, kill_every)),
    ]
    await closed_loop(send, Limited(arena.numbers, requests), concurrency)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    page = await _settled(arena, server)
    verdict.exactly("answers of loads that were over", history.stamp_problems(loads), 0)
    verdict.ends(history)
    _compare(verdict, history, page)
    verdict.tell("requests", history.invoked)
    verdict.tell("reloads", len(loads) - 1)
    verdict.tell("workers replaced", page.total("jitney_worker_restarts_total"))
    verdict.facts |= {"codes": dict(history.codes), "reasons": dict(history.reasons)}


def _compare(verdict: Verdict, history: History, page: Page) -> None:
    """Note where the server's counts cannot be those of its callers.

    A caller that went away may have been answered too late to matter, or before the server began
    with it; by no more than so many may the counts differ.
    """
    served = page.by("jitney_requests_total", "code", method="ModelInfer")
    away = history.codes[CANCELLED]
    for code in {*served, *history.codes} - {OK, CANCELLED}:
        name = f"{code} counted too many"
        verdict.exactly(name, served.get(code, 0) - history.codes[code], 0)
    surplus = served.get(OK, 0) - history.codes[OK]
    unseen = history.invoked - sum(served.values())
    verdict.at_least("OK counted too many", surplus, 0)
    verdict.at_least("calls the server never saw", unseen, 0)
    verdict.at_most("both together, of those that went away", surplus + unseen, away)


async def _keep_killing(server: SubjectServer, every: float) -> None:
    turn = 0
    while True:
        await asyncio.sleep(every)
        workers = await asyncio.to_thread(server.workers)
        if workers:
            os.kill(workers[turn % len(workers)], signal.SIGKILL)
            turn += 1


async def _keep_reloading(
    watcher: AsyncClient,
    repository: Path,
    model: FaultyModel,
    every: float,
    loads: list[tuple[float, float, int]],
) -> None:
    while True:
        await asyncio.sleep(every)
        await reload_once(watcher, repository, model, loads)


async def reload_once(
    watcher: AsyncClient,
    repository: Path,
    model: FaultyModel,
    loads: list[tuple[float, float, int]],
) -> None:
    """Write the model with the next stamp and have it loaded; note when that was."""
    stamp = loads[-1][2] + 1
    changed = FaultyModel(model.alpha, model.beta, stamp)
    await asyncio.to_thread(write_faulty_model, repository, changed, max_rows=MAX_ROWS)
    began = time.monotonic()
    loads.append((began, float("inf"), stamp))
    for _ in range(RELOAD_TRIES):
        try:
            await watcher.load("faulty")
        except JitneyError:  # its worker was killed meanwhile
            await asyncio.sleep(0.1)
        else:
            loads[-1] = (began, time.monotonic(), stamp)
            return


async def reloads(arena: Arena, verdict: Verdict, *, swaps: int, load: float = 0.7) -> None:
    """Load the model again and again under load, without retries."""
    model = FaultyModel(alpha=0.002, beta=0.005, stamp=1)
    rate = load * 2 * MAX_ROWS / model.seconds(MAX_ROWS)
    repository = arena.repository(model, max_rows=MAX_ROWS)
    server = await arena.server(repository, *EXPLICIT)
    steady, during = History(), History()
    caller: PlainCaller = arena.plain(server, steady)
    watcher = arena.watcher(server)
    await open_loop(caller, rate, max(2.0, swaps / 50), numbers=arena.numbers)
    loads = [(0.0, 0.0, 1)]
    numbers = Endless(arena.numbers)
    caller = arena.plain(server, during)
    running = asyncio.ensure_future(open_loop(caller, rate, float("inf"), numbers=numbers))
    settled = 0
    for swap in range(swaps):
        await reload_once(watcher, repository, model, loads)
        if swap == swaps // 5:
            settled = server.resources().rss
    after = server.resources().rss
    numbers.over = True
    await running
    verdict.ends(during)
    verdict.exactly("failed requests", during.invoked - during.codes[OK], 0)
    verdict.exactly("answers of loads that were over", during.stamp_problems(loads), 0)
    ratio = percentile(during.latencies(), 99) / percentile(steady.latencies(), 99)
    verdict.at_most("p99 over that without reloads", ratio, 2.0)
    verdict.at_most("memory after over that after a fifth", after / settled, 1.02)
    verdict.tell("swaps", swaps)
    verdict.facts |= {"codes": dict(during.codes), "requests_per_second": rate}


async def bad_versions(arena: Arena, verdict: Verdict, *, count: int) -> None:
    """Have wounded files loaded over a model that is being served, under load, without retries."""
    model = FaultyModel(alpha=0.0005, beta=0.004, stamp=1)
    repository = arena.repository(model, max_rows=MAX_ROWS)
    server = await arena.server(repository, *EXPLICIT, RESTARTS)
    history = History()
    caller, watcher = arena.plain(server, history), arena.watcher(server)
    numbers = Endless(arena.numbers)
    running = asyncio.ensure_future(open_loop(caller, 100.0, float("inf"), numbers=numbers))
    file = repository / "faulty" / "1" / "model.pt"
    good, ends = file.read_bytes(), collections.Counter[str]()
    for wounded in mutations([good], count):
        beside = repository / ".wounded"
        beside.write_bytes(wounded)
        beside.replace(file)
        try:
            await watcher.load("faulty")
        except JitneyError as error:
            ends[f"{error.code.name} {error.reason}"] += 1
            if not str(error).startswith("failed to load 'faulty'"):
                verdict.note(str(error)[:200])
        else:
            ends[OK] += 1
    numbers.over = True
    await running
    verdict.ends(history)
    verdict.exactly("failed requests", history.invoked - history.codes[OK], 0)
    odd = sum(n for end, n in ends.items() if end not in (OK, REFUSED))
    verdict.exactly("loads that ended otherwise than refused in words", odd, 0)
    verdict.tell("wounds that were none", ends[OK])
    verdict.tell("wounded files", count)
    verdict.facts |= {"codes": dict(history.codes), "loads": dict(ends)}
