"""Feed a target, on all cores, and say what came of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
from typing import TYPE_CHECKING, Final

from chaos.fuzz import archives, configs, control, names, requests
from chaos.fuzz.target import Fed, Target, feed, keep, kept
from jitney.execution.discovery import cores

if TYPE_CHECKING:
    from chaos.arena import Arena
    from chaos.verdict import Verdict

__all__ = ["TARGETS", "fuzz"]

TARGETS: Final = {
    target.name: target
    for target in (
        Target("requests", requests.RequestReader, requests.corpus),
        Target("control", control.ControlReader, control.corpus),
        Target("configs", configs.ConfigReader, configs.corpus),
        Target("archives", archives.ArchiveReader, archives.corpus),
        Target("names", names.NameReader, names.corpus),
    )
}
SLOWEST_GOAL: Final = 1.0


async def fuzz(
    arena: Arena,  # noqa: ARG001  # scenarios are given one
    verdict: Verdict,
    *,
    target: str,
    count: int,
    seed: int = 1,
    processes: int = 0,
) -> None:
    """Feed a target with so many wounded inputs, and first with all that ever was a finding.

    :param processes: how many, 0 for one per core. Each has a seed of its own: ``seed``, and those
        behind it.
    """
    workers = processes or cores()
    share = -(-count // workers)
    if workers == 1:
        parts = [await asyncio.to_thread(_feed, target, share, seed)]
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
            loop = asyncio.get_running_loop()
            jobs = [
                loop.run_in_executor(pool, _feed, target, share, seed + nth)
                for nth in range(workers)
            ]
            parts = await asyncio.gather(*jobs)
    fed = Fed()
    for part in parts:
        fed.add(part)
    verdict.exactly("crashers", len(fed.crashers), 0)
    verdict.exactly("faults", len(fed.faults), 0)
    verdict.at_most("slowest input", fed.slowest, SLOWEST_GOAL, "s")
    verdict.tell("inputs", fed.count)
    verdict.tell("taken", 100 * fed.taken / max(1, fed.count), "%")
    verdict.tell("rate", fed.count / max(1e-9, fed.seconds), "inputs/s")
    for fault in fed.faults:
        verdict.note(fault)
    for crasher in fed.crashers:
        verdict.note(f"kept as {keep(target, crasher).name}")


def _feed(name: str, count: int, seed: int) -> Fed:
    return feed(TARGETS[name], count, seed, kept(name))
