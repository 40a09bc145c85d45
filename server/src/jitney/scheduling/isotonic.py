"""The nearest sequence that never decreases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["isotonic"]


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return ``values`` without their descents: pool adjacent violators, O(length).

    A pool takes the weighted geometric mean of its members, because durations err by factors: by
    the arithmetic one, a stall of a hundred times would drag its neighbours up with it.

    :param values: all positive. They are returned as they are where nothing descends.
    """
    if (ascending := list(values)) == sorted(values):
        return ascending
    pools: list[tuple[float, float, int]] = []  # value, weight, members
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            pool = _merged(pools.pop(), pool)
        pools.append(pool)
    return [value for value, _, members in pools for _ in range(members)]


def _merged(a: tuple[float, float, int], b: tuple[float, float, int]) -> tuple[float, float, int]:
    weight = a[1] + b[1]
    log = (math.log(a[0]) * a[1] + math.log(b[0]) * b[1]) / weight
    return math.exp(log), weight, a[2] + b[2]
