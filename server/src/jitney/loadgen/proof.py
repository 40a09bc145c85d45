"""When enough calls were made to believe that 99 % of all calls are in time."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["CONFIDENCE", "TARGET", "calls_needed", "passes"]

TARGET: Final = 0.99
CONFIDENCE: Final = 0.99


def passes(hits: int, misses: int) -> bool:
    """Whether so many hits and misses prove 99 % at a confidence of 99 %.

    Source: MLPerf Inference rules, early stopping: I_p(h, t + 1) <= 1 - c with the regularised
    incomplete beta function. That is the chance of at most ``t`` misses in ``h + t`` calls whose
    true share of misses is 1 %, and is summed as such here: scipy would be a heavy dependency.
    """
    calls = hits + misses
    if misses >= (1 - TARGET) * calls:
        return False  # not even the share itself; and the sum stays short
    # Downwards from the likeliest term, until what is left cannot matter.
    total = 0.0
    for k in range(misses, -1, -1):
        term = math.exp(_log_chance(calls, k))
        total += term
        if term < total * 1e-12:
            break
    return total <= 1 - CONFIDENCE


def calls_needed(misses: int) -> int:
    """Return the least number of calls that proves the target with so many misses among them."""
    low, high = misses, 100 * (misses + 5)
    while not passes(high - misses, misses):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle - misses, misses) else (middle, high)
    return high


def _log_chance(calls: int, misses: int) -> float:
    ways = math.lgamma(calls + 1) - math.lgamma(misses + 1) - math.lgamma(calls - misses + 1)
    return ways + misses * math.log(1 - TARGET) + (calls - misses) * math.log(TARGET)
