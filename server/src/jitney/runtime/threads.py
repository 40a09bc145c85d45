"""How many threads one operator of a model uses on the CPU: one, or all that the worker has.

Threads that meet after every operator cost more than they bring where operators are short: a small
network takes 14 µs with two threads and 8 µs with one. And what they cost is taken from the server
process, which shares the cores. The operators of a larger batch are longer, so the choice is
measured for each model and for several sizes of its batches, where it will run: a small transformer
gains nothing from a second thread at one row and 1.6 times the speed at sixteen.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.runtime.program import Program
    from jitney.runtime.random_inputs import RandomInputs
    from jitney.runtime.runner import Runner

__all__ = ["AS_SET", "Threads", "choose_threads"]

LEAST_GAIN: Final = 1.15
"""What all threads must bring over one, to be worth the cores that they take from others."""
MOST_SIZES: Final = 5
"""Sizes of batches at which that is measured."""
ROUNDS: Final = 5
ROUND_SECONDS: Final = 1e-3
BUDGET_SECONDS: Final = 1.0
"""How long one size may be timed; larger sizes are left out when a round would take longer."""


class Threads(NamedTuple):
    """``most`` threads for batches of at least ``from_rows`` rows, one for smaller ones.

    With ``most`` 0 what is set is left alone.
    """

    most: int
    from_rows: int = 1

    def of(self, rows: int) -> int:
        """Return the number for a batch of so many rows, 0 to leave what is set."""
        return self.most if rows >= self.from_rows else min(1, self.most)


AS_SET: Final = Threads(0)


def choose_threads(
    runner: Runner, program: Program, source: RandomInputs, buckets: Sequence[int]
) -> tuple[Threads, str]:
    """Return the numbers of threads, and why in a few words.

    Rounds alternate between one thread and all, and the best of each counts, so that a disturbance
    does not decide.
    """
    most = runner.device.threads
    if most <= 1:
        return AS_SET, ""
    gains: dict[int, float] = {}
    for rows in _some_of(sorted(set(buckets))):
        gain = _gain(runner, program, source, rows, known=bool(gains))
        if gain is None:
            break
        gains[rows] = gain
    found = _from(gains)
    said = ", ".join(f"{gain:.2f} at {rows}" for rows, gain in gains.items())
    why = f"{most} threads run at so many times the speed of one, by rows: {said}; so it uses "
    if found is None:
        return Threads(1), f"{why}1"
    if found == min(gains):
        return Threads(most), f"{why}{most}"
    return Threads(most, found), f"{why}{most} from {found} rows on"


def _some_of(sizes: Sequence[int]) -> list[int]:
    """Return a few of ascending sizes, the first and the last among them."""
    count = min(MOST_SIZES, len(sizes))
    steps = max(1, count - 1)
    return [sizes[round(nth * (len(sizes) - 1) / steps)] for nth in range(count)]


def _gain(
    runner: Runner, program: Program, source: RandomInputs, rows: int, *, known: bool
) -> float | None:
    """Return how much faster all threads are than one; None where it would take too long.

    :param known: whether smaller sizes were measured: the first one always is.
    """
    device = runner.device
    most = device.threads
    values = source.make(rows, seed=4)
    device.use_threads(most)
    single = max(runner.seconds(program, values, rows), 1e-7)
    if known and single * 2 * ROUNDS > BUDGET_SECONDS:
        return None
    repeats = max(1, min(100, int(ROUND_SECONDS / single)))
    best = dict.fromkeys((1, most), math.inf)
    for _ in range(max(1, min(ROUNDS, int(BUDGET_SECONDS / single / 2)))):
        for threads in best:
            device.use_threads(threads)
            best[threads] = min(best[threads], runner.seconds(program, values, rows, repeats))
    return best[1] / best[most]


def _from(gains: dict[int, float]) -> int | None:
    """Return the smallest size from which on all threads are worth it, None where they never are.

    Two sizes that follow each other are looked at together: one that was disturbed does not decide.
    """
    sizes = list(gains)
    pairs = [*pairwise(sizes), (sizes[-1], sizes[-1])]
    worth = [math.sqrt(gains[one] * gains[next_]) >= LEAST_GAIN for one, next_ in pairs]
    if not worth[-1]:
        return None
    first = len(worth) - 1
    while first and worth[first - 1] and gains[sizes[first - 1]] >= 1:
        first -= 1
    return sizes[first]
