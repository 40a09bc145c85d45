"""Runs that do not depend on each other, over as many processes as there are cores to spare."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Job", "Record", "run"]

Record = dict[str, Any]
"""What came of a job, ready for JSON: what was run, and figures by name."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call of a function of some module, whose arguments another process can be given.

    ``cost`` is how long it takes, roughly and in any unit: the longest begin first. ``policy`` is
    the name of the one that is measured, empty where there are several.
    """

    function: Callable[..., Record]
    arguments: tuple[object, ...]
    cost: float = 1.0
    policy: str = ""


def run(jobs: Sequence[Job], processes: int) -> list[Record]:
    """Run all; return their records in the order of the jobs.

    Progress goes to standard error where that is a terminal.
    """
    if processes == 1:
        return [job.function(*job.arguments) for job in jobs]
    began = time.monotonic()
    with ProcessPoolExecutor(processes) as pool:
        longest_first = sorted(jobs, key=lambda job: -job.cost)
        futures = {pool.submit(job.function, *job.arguments): id(job) for job in longest_first}
        records: dict[int, Record] = {}
        for future in as_completed(futures):
            records[futures[future]] = future.result()
            if sys.stderr.isatty():
                took = time.monotonic() - began
                print(f"\r{len(records)} of {len(jobs)}, {took:.0f} s ", end="", file=sys.stderr)
    return [records[id(job)] for job in jobs]
