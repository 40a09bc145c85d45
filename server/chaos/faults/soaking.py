"""Whether anything grows: millions of requests, some of which go wrong."""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING, Final, NamedTuple

from chaos.faults.truth import CANCEL_SHARE, EXPLICIT, LONGEST_CANCEL_DELAY, reload_once
from chaos.faulty_model import Command, FaultyModel
from chaos.history import OK, History
from chaos.load import Limited, closed_loop
from chaos.resources import shared_mappings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.arena import Arena
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict

__all__ = ["Sample", "slope", "soak"]

MODEL: Final = FaultyModel(beta=0.0005, stamp=1)
MAX_ROWS: Final = 16
CONCURRENCY: Final = 64
ERROR_SHARE: Final = 0.05
PER_RELOAD: Final = 10_000
LEAST_SAMPLES: Final = 20
SLOPE_GOAL: Final = 8.0
BLOCKS_GOAL: Final = 0.05
GROWTH_GOAL: Final = 20 * (1 << 20)
MIB: Final = 1 << 20
QUIET: Final = 10.0
FLAT: Final = ("descriptors", "threads", "tasks", "futures", "entries", "mappings", "workers")


class Sample(NamedTuple):
    """What the server holds when nothing is under way, after so many requests."""

    requests: int
    rss: int
    blocks: int
    descriptors: int
    threads: int
    tasks: int
    futures: int
    entries: int
    mappings: int
    workers: int


async def soak(
    arena: Arena,
    verdict: Verdict,
    *,
    requests: int,
    settle: int = 0,
    per_reload: int = PER_RELOAD,
    slope_goal: float = SLOPE_GOAL,
    blocks_goal: float = BLOCKS_GOAL,
    sabotage: str = "",
) -> None:
    """Send requests, of which a tenth is cancelled and a twentieth fails; reload now and then.

    It is looked at what the server holds between bursts, when all has ended.

    :param settle: the growth of the last half counts, and of no more than what comes after so many
        requests: caches fill, and allocators take what they need.
    :param slope_goal: bytes of memory per request. Runs of thousands only see page sizes.
    :param blocks_goal: objects of Python per request. Runs of thousands see caches fill.
    """
    repository = arena.repository(MODEL, max_rows=MAX_ROWS)
    server = await arena.server(repository, *EXPLICIT, sabotage=sabotage)
    history = History(keep=False)
    caller, watcher = arena.plain(server, history), arena.watcher(server)
    rng = random.Random(7)  # noqa: S311  # not a secret
    loads = [(0.0, 0.0, 1)]

    async def send(number: int) -> None:
        chance = rng.random()
        if chance < CANCEL_SHARE:
            await caller(number, cancel_after=rng.uniform(0, LONGEST_CANCEL_DELAY))
        elif chance < CANCEL_SHARE + ERROR_SHARE / 2:
            await caller(number, Command.REJECT)
        elif chance < CANCEL_SHARE + ERROR_SHARE:
            await caller(number, rows=MAX_ROWS + 1)
        else:
            await caller(number, rows=rng.randint(1, 4))

    burst = max(1, min(per_reload, requests // LEAST_SAMPLES))
    samples: list[Sample] = []
    while history.invoked < requests:
        if history.invoked >= per_reload * len(loads):
            await reload_once(watcher, repository, MODEL, loads)
        await closed_loop(send, Limited(arena.numbers, burst), CONCURRENCY)
        await arena.until(lambda: _quiet(server), QUIET)
        samples.append(await _sample(arena, server, history.invoked))
    verdict.ends(history)
    _judge(verdict, samples, max(requests / 2, settle), slope_goal, blocks_goal)
    verdict.tell("requests", history.invoked)
    verdict.tell("reloads", len(loads) - 1)
    verdict.tell("answered", 100 * history.codes[OK] / history.invoked, "%")
    verdict.facts |= {"codes": dict(history.codes), "samples": [s._asdict() for s in samples]}


def _quiet(server: SubjectServer) -> bool:
    page = server.page()
    return not page.total("jitney_inflight_requests") + page.total("jitney_queue_depth")


async def _sample(arena: Arena, server: SubjectServer, requests: int) -> Sample:
    """Return what is held, once two looks agree: gRPC lets go of ended calls a moment later."""
    seen: list[Sample] = []

    def steady() -> bool:
        census, held = server.census(), server.resources()
        now = Sample(
            requests,
            held.rss,
            census["blocks"],
            held.descriptors,
            held.threads,
            census["tasks"],
            census["futures"],
            census["entries"],
            shared_mappings(server.pid),
            len(server.workers()),
        )
        seen.append(now)
        return len(seen) > 1 and seen[-2][3:] == now[3:]

    await arena.until(steady, QUIET)
    return seen[-1]


def _judge(
    verdict: Verdict,
    samples: Sequence[Sample],
    after: float,
    slope_goal: float,
    blocks_goal: float,
) -> None:
    late = [sample for sample in samples if sample.requests > after]
    per_request = slope([s.requests for s in late], [s.rss for s in late])
    verdict.at_most("memory per request", per_request, slope_goal, "B")
    growth = (late[-1].rss - late[0].rss) / MIB
    verdict.at_most("memory in all, last half", growth, GROWTH_GOAL / MIB, "MiB")
    blocks = slope([s.requests for s in late], [s.blocks for s in late])
    verdict.at_most("blocks per request", blocks, blocks_goal)
    for name in FLAT:
        values = [getattr(sample, name) for sample in late]
        # The ends of the line and not its extremes: one look may meet a connection that closes.
        first, last = values[: len(values) // 3 + 1], values[-(len(values) // 3 + 1) :]
        verdict.at_most(name, min(last) - max(first), 0, "more")


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Return how much ``values`` grow per unit of ``at`` (least squares)."""
    return statistics.linear_regression(at, values).slope
