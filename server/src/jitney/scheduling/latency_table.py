"""What follows from a table of how long batches take, by size."""

from __future__ import annotations

import operator
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["densest_of", "plans_of", "row_seconds_of"]

DENSE: Final = 1.05
"""How much longer than at the best size a row may take at another one that counts as as good."""


def plans_of(means: Sequence[float], spreads: Sequence[float], z: float) -> list[float]:
    """Return the seconds to count with: the means and ``z`` spreads, never falling."""
    plans = [mean * (1.0 + z * spread) for mean, spread in zip(means, spreads, strict=False)]
    # The spread of a small size may be the larger one, so a plan has to be made to rise.
    return list(accumulate(plans, max))


def row_seconds_of(means: Sequence[float], sizes: Sequence[int]) -> float:
    """Return the seconds per row at the size with the best throughput, 0 for an empty table."""
    return min(map(operator.truediv, means, sizes), default=0.0)


def densest_of(means: Sequence[float], sizes: Sequence[int], max_rows: int) -> int:
    """Return the largest size with nearly the best throughput, at most ``max_rows``."""
    enough = DENSE * row_seconds_of(means, sizes)
    for seconds, rows in zip(reversed(means), reversed(sizes), strict=True):
        if seconds <= enough * rows:
            # Of what is beyond the table nothing is known.
            return max_rows if rows == sizes[-1] else min(rows, max_rows)
    return max_rows
