"""How many threads one operator of a model uses on the CPU: one, or all that the worker has.

Threads that meet after every operator cost more than they bring where operators are short: a small
network takes 14 µs with two threads and 8 µs with one. And what they cost is taken from the server
process, which shares the cores. So the choice is measured, for each model, where it will run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.runtime.program import Program
    from jitney.runtime.random_inputs import RandomInputs
    from jitney.runtime.runner import Runner

__all__ = ["choose_threads"]

LEAST_GAIN: Final = 1.15
"""What all threads must bring over one, to be worth the cores that they take from others."""
ROUNDS: Final = 5
ROUND_SECONDS: Final = 1e-3
BUDGET_SECONDS: Final = 1.0
"""How long one size may be timed; larger sizes are left out when a round would take longer."""


def choose_threads(
    runner: Runner, program: Program, source: RandomInputs, buckets: Sequence[int]
) -> tuple[int, str]:
    """Return the number of threads, and why in a few words; 0 where it makes no difference.

    Rounds alternate between the two numbers and the best of each counts, so that a disturbance
    does not decide. The device is left with the number that won.
    """
    device = runner.device
    most = device.threads
    if most <= 1:
        return 0, ""
    gains: list[float] = []
    for rows in sorted({buckets[0], buckets[len(buckets) // 2], buckets[-1]}):
        values = source.make(rows, seed=4)
        device.use_threads(most)
        single = max(runner.seconds(program, values, rows), 1e-7)
        if gains and single * 2 * ROUNDS > BUDGET_SECONDS:
            break
        repeats = max(1, min(100, int(ROUND_SECONDS / single)))
        best = dict.fromkeys((1, most), math.inf)
        for _ in range(max(1, min(ROUNDS, int(BUDGET_SECONDS / single / 2)))):
            for threads in best:
                device.use_threads(threads)
                best[threads] = min(best[threads], runner.seconds(program, values, rows, repeats))
        gains.append(best[1] / best[most])
    gain = math.exp(sum(map(math.log, gains)) / len(gains))
    chosen = most if gain >= LEAST_GAIN else 1
    device.use_threads(chosen)
    return chosen, f"{most} threads run at {gain:.2f} times the speed of one, so it uses {chosen}"
