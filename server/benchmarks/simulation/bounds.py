"""What no scheduler can beat, and what a well-staggered one reaches: requests per second."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.simulation.arrivals import traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.simulation.settings import Setting

__all__ = [
    "bisect_rate",
    "clairvoyant",
    "half_slo_rows",
    "staggered",
    "staggered_rows",
    "strict",
    "windowed",
]

STEPS: Final = 16
CREDIT: Final = 0.01
"""The share that may be missed."""


def staggered_rows(setting: Setting) -> int:
    """Return b*: the largest batch whose gathering and running fit into the SLO, at least 1."""
    room = setting.slo * setting.devices / (setting.devices + setting.models)
    return max(1, setting.line.rows_within(room))


def half_slo_rows(setting: Setting) -> int:
    """Return b2, the largest batch that takes half the SLO (Nexus's rule), at least 1."""
    return max(1, setting.line.rows_within(setting.slo / 2))


def staggered(setting: Setting) -> float:
    """Return the fluid capacity: all devices busy with batches of b* rows."""
    rows = staggered_rows(setting)
    return setting.devices * rows / setting.line.seconds(rows)


def clairvoyant(setting: Setting, seed: int) -> float:
    """Return the rate beyond which even a scheduler that knows the future misses 1 % of the work.

    A batch needs its last member to arrive early enough for the deadline of its first, and every
    part of such a batch is one too; so greedy, maximal batches are the fewest, and their device
    time is the least.
    """
    per_model = _by_model(setting, seed)
    line, count = setting.line, setting.count

    def fits(rate: float) -> bool:
        batches = sum(_fewest_batches(times, rate, setting) for times in per_model)
        work = (1 - CREDIT) * (line.alpha * count + line.beta * batches)
        return work <= setting.devices * (_last(per_model) / rate + setting.slo)

    return bisect_rate(fits, 1.02 * setting.ceiling, STEPS)


def strict(setting: Setting, seed: int) -> float:
    """Return the bound that credits 1 % of the requests, which may save more than 1 % of batches.

    Slightly higher than ``clairvoyant`` and the honest one of the two; ratios are taken to the
    other because the published reference figures are.
    """
    per_model = _by_model(setting, seed)
    line, count = setting.line, setting.count
    drops = int(CREDIT * count)

    def fits(rate: float) -> bool:
        fewest = np.zeros(1)
        for times in per_model:
            fewest = _joined(fewest, _fewest_with_drops(times, rate, setting, drops), drops)
        work = line.alpha * (count - drops) + line.beta * float(fewest[-1])
        return work <= setting.devices * (_last(per_model) / rate + setting.slo)

    return bisect_rate(fits, 1.05 * setting.ceiling, STEPS)


def windowed(setting: Setting, seed: int) -> float:
    """Return the bound that follows from bursts: every stretch of time must hold its own work.

    With no batch larger than fits into the SLO a row takes at least ``w`` device seconds, and what
    arrives between two moments must be done between the first and the SLO after the last.
    """
    line = setting.line
    per_row = line.alpha + line.beta / line.rows_within(setting.slo)
    times = np.asarray(traffic(setting, seed).times)
    index = np.arange(setting.count)
    drops = int(CREDIT * setting.count)

    def fits(rate: float) -> bool:
        level = index * per_row - setting.devices * times / rate
        least = np.minimum.accumulate(level)
        needed = level + (1 - drops) * per_row - setting.devices * setting.slo
        return bool(np.all(needed <= least))

    return bisect_rate(fits, 1.02 * setting.ceiling, STEPS)


def bisect_rate(fits: Callable[[float], bool], highest: float, steps: int) -> float:
    """Return the largest rate in 0 … ``highest`` that fits, to ``highest / 2**steps``."""
    lowest = 0.0
    for _ in range(steps):
        middle = (lowest + highest) / 2
        if fits(middle):
            lowest = middle
        else:
            highest = middle
    return lowest


def _by_model(setting: Setting, seed: int) -> list[list[float]]:
    per_model: list[list[float]] = [[] for _ in range(setting.models)]
    for time, model in zip(*traffic(setting, seed), strict=True):
        per_model[model].append(time)
    return per_model


def _last(per_model: Sequence[Sequence[float]]) -> float:
    return max(times[-1] for times in per_model if times)


def _ends(times: Sequence[float], rate: float, setting: Setting) -> list[int]:
    """Return for every request the end of the largest batch that begins with it."""
    line = setting.line
    # Position j may follow position i while t_j + alpha * (j - i + 1) + beta <= t_i + SLO.
    scaled = np.asarray(times) / rate
    steps = line.alpha * np.arange(len(times))
    limit = scaled + steps + (setting.slo - line.beta - line.alpha)
    ends = np.searchsorted(scaled + steps, limit, side="right")
    alone = np.arange(1, len(times) + 1)
    return [int(end) for end in np.maximum(ends, alone)]


def _fewest_batches(times: Sequence[float], rate: float, setting: Setting) -> int:
    line = setting.line
    keys = [time / rate + line.alpha * i for i, time in enumerate(times)]
    room = setting.slo - line.beta - line.alpha
    i = batches = 0
    while i < len(keys):
        i = max(bisect_right(keys, keys[i] + room, lo=i), i + 1)
        batches += 1
    return batches


def _fewest_with_drops(
    times: Sequence[float], rate: float, setting: Setting, drops: int
) -> np.ndarray:
    """Return, for up to ``drops`` drops each, the fewest batches of one model's requests."""
    ends = _ends(times, rate, setting)
    fewest = np.full((len(times) + 1, drops + 1), math.inf)
    fewest[-1] = 0.0
    for i in range(len(times) - 1, -1, -1):
        # Dropping the head of a batch is no worse than dropping inside it.
        fewest[i] = 1 + fewest[ends[i]]
        np.minimum(fewest[i, 1:], fewest[i + 1, :-1], out=fewest[i, 1:])
    result: np.ndarray = fewest[0]
    return result


def _joined(one: np.ndarray, other: np.ndarray, drops: int) -> np.ndarray:
    """Return the min-plus convolution: the best split of the drops between the two."""
    joined = np.full(min(len(one) + len(other) - 1, drops + 1), math.inf)
    for taken, batches in enumerate(one):
        part = other[: len(joined) - taken] + batches
        np.minimum(joined[taken : taken + len(part)], part, out=joined[taken : taken + len(part)])
    return joined
