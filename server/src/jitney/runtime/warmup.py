"""Running every bucket until its speed is steady, before anybody waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.load_options import LEAST_WARMUP_RUNS
from jitney.runtime.faults import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.binding import Program
    from jitney.runtime.random_inputs import RandomInputs
    from jitney.runtime.runner import Runner

__all__ = ["Warmth", "warm_up"]

AGREEMENT: Final = 0.1
CPU_BUDGET_SECONDS: Final = 5.0
"""On the CPU a new size costs at most about twice, once: after so long, one run each is enough."""


class Warmth(NamedTuple):
    """The last run of each bucket in seconds, ascending, and the buckets that did not fit."""

    seconds: dict[int, float]
    dropped: tuple[int, ...]


def warm_up(
    runner: Runner,
    program: Program,
    source: RandomInputs,
    *,
    buckets: Sequence[int],
    most_runs: int,
    progress: Callable[[str], None],
) -> Warmth:
    """Run each bucket at least three times, until two runs agree within 10 %.

    The largest goes first: then the allocator has its high-water mark at once, and what does not
    fit is known before the rest is compiled.

    :raises Exception: what the model raises, and out of memory at the smallest bucket.
    """
    seconds: dict[int, float] = {}
    dropped: list[int] = []
    spent = 0.0
    for rows in sorted(buckets, reverse=True):
        progress(f"warm up {rows} rows")
        hurry = not runner.device.pads and spent > CPU_BUDGET_SECONDS
        try:
            runs = _run_until_steady(runner, program, source, rows, 1 if hurry else most_runs)
        except Exception as exc:
            if classify(exc) != "oom" or rows == min(buckets):
                raise
            runs = []
        if not runs:
            runner.device.release()
            dropped.append(rows)
            continue
        spent += sum(runs)
        seconds[rows] = runs[-1]
    return Warmth(dict(sorted(seconds.items())), tuple(sorted(dropped)))


def _run_until_steady(
    runner: Runner, program: Program, source: RandomInputs, rows: int, most_runs: int
) -> list[float]:
    runs: list[float] = []
    for number in range(most_runs):
        values = source.make(rows, seed=3 + number)
        runs.append(runner.seconds(program, values, rows))
        if len(runs) >= LEAST_WARMUP_RUNS and abs(runs[-1] - runs[-2]) <= AGREEMENT * min(
            runs[-2:]
        ):
            break
    return runs
