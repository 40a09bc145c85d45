"""The simulated truth: how long a device takes for a batch."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Line"]

SLACK = 1e-9
"""Of a row; what rounding may take away from a batch that fits exactly."""


class Line(NamedTuple):
    """Latency of a batch of ``rows``: ``alpha * rows + beta`` seconds."""

    alpha: float
    beta: float

    def seconds(self, rows: int) -> float:
        """Return how long a batch takes."""
        return self.alpha * rows + self.beta

    def rows_within(self, seconds: float) -> int:
        """Return the largest batch that takes no longer than ``seconds``, 0 if none does."""
        return max(0, math.floor((seconds - self.beta) / self.alpha + SLACK))
