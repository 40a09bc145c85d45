"""The batch sizes that a device runs.

On CUDA every shape costs memory and seconds of compiling once, so batches are padded up to one of a
few sizes; on the CPU a new shape costs next to nothing, and only the ladder is warmed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bucket_table", "ladder", "refine"]

SHARES: Final = (0.75, 0.87, 1.0)
GROWTH: Final = 1.15
"""Ratio of two buckets where the batches of a promised time end: padding costs the most there."""


def ladder(max_rows: int) -> tuple[int, ...]:
    """Return 1, 2, 4, 8, 12, 16, 24, 32, 48, 64 … below ``max_rows``, then ``max_rows`` itself.

    Above 8 a step is at most one half, so that padding wastes at most a third of a batch; below,
    the waste is a few rows and not worth further shapes.

    :raises ValueError: if ``max_rows`` is less than 1.
    """
    if max_rows < 1:
        msg = f"a ladder needs at least one row, got {max_rows}"
        raise ValueError(msg)
    steps = itertools.chain(
        (1, 2, 4),
        itertools.chain.from_iterable((8 << k, 12 << k) for k in itertools.count()),
    )
    return (*itertools.takewhile(lambda rows: rows < max_rows, steps), max_rows)


def refine(sizes: Sequence[int], seconds: Sequence[float], slo_seconds: float) -> tuple[int, ...]:
    """Return the buckets to add to ``sizes``, so that batches for a promised time fit one closely.

    A scheduler aims at the largest batch that two of, waiting for one and running in the next, fit
    into the promise (one of many devices: at one that nearly fills it). Around it, from three
    quarters of that size to all that the promise allows, buckets follow each other by 15 %. With a
    coarse ladder a fifth of the answers in time is lost to padding (simulated).

    Sizes between two that were measured are taken to lie on a straight line.

    :param sizes: ascending; with ``seconds``, what was measured.
    :param slo_seconds: what is promised; 0 adds nothing.
    """
    target, most = (_rows_within(sizes, seconds, limit) for limit in (slo_seconds / 2, slo_seconds))
    if not target:
        return ()
    wanted = {round(target * share) for share in SHARES}
    size = target * GROWTH
    while size < most + 1:
        wanted.add(round(size))
        size *= GROWTH
    largest = sizes[-1]
    return tuple(sorted({size for size in wanted if 1 <= size < largest} - set(sizes)))


def _rows_within(sizes: Sequence[int], seconds: Sequence[float], limit: float) -> int:
    """Return the most rows that take at most ``limit``; 0 where the smallest size takes longer."""
    if limit < seconds[0]:
        return 0
    rows = sizes[0]
    for (low, start), (high, end) in itertools.pairwise(zip(sizes, seconds, strict=True)):
        if end > limit:
            # Whole rows, tried one by one from the top: no division by a measured difference.
            between = range(high - 1, low, -1)
            slope = (end - start) / (high - low)
            return next((n for n in between if start + (n - low) * slope <= limit), low)
        rows = high
    return rows


def bucket_table(buckets: Sequence[int]) -> tuple[int, ...]:
    """Return a table whose element ``rows`` is the smallest bucket that holds so many rows.

    :param buckets: ascending, at least one; element 0 of the table is 0.
    """
    table = [0]
    for bucket in buckets:
        table.extend([bucket] * (bucket + 1 - len(table)))
    return tuple(table)
