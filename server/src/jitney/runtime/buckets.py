"""The batch sizes that a device runs.

On CUDA every shape costs memory and seconds of compiling once, so batches are padded up to one of a
few sizes; on the CPU a new shape costs next to nothing, and only the ladder is warmed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bucket_table", "ladder"]


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


def bucket_table(buckets: Sequence[int]) -> tuple[int, ...]:
    """Return a table whose element ``rows`` is the smallest bucket that holds so many rows.

    :param buckets: ascending, at least one; element 0 of the table is 0.
    """
    table = [0]
    for bucket in buckets:
        table.extend([bucket] * (bucket + 1 - len(table)))
    return tuple(table)
