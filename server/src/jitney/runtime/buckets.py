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

TURNS: Final = 4
"""How many batches' time a promise may have to hold: as many models as that share a device."""
GROWTH: Final = 1.125
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

    A scheduler aims at batches of which the promise holds one to wait for and one to run in; at
    larger ones where many devices serve one model, at smaller ones where models share a device.
    From a quarter of the promise to all of it, buckets follow each other by an eighth. With a
    coarse ladder a tenth of the goodput is lost to padding (simulated).

    Sizes between two that were measured are taken to lie on a straight line.

    :param sizes: ascending; with ``seconds``, what was measured.
    :param slo_seconds: what is promised; 0 adds nothing.
    """
    if not _rows_within(sizes, seconds, slo_seconds / 2):
        return ()
    most = _rows_within(sizes, seconds, slo_seconds)
    size = max(1, _rows_within(sizes, seconds, slo_seconds / TURNS))
    wanted = set()
    while size <= most:
        wanted.add(size)
        size = max(size + 1, round(size * GROWTH))
    return tuple(sorted({size for size in wanted if size < sizes[-1]} - set(sizes)))


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
