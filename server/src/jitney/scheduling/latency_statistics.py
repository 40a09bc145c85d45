"""What a latency model tells about itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LatencyStatistics"]


@dataclass(frozen=True, slots=True)
class LatencyStatistics:
    """What a model has learnt; ``seconds`` are means with the drift ``g`` in them.

    ``planned`` are the seconds that schedules count with: the mean and ``z`` times the relative
    ``spread``, never less than those of a smaller size. ``observations`` counts the batches that
    each size learnt from; one between two sizes counts for both, in parts. ``padded`` tells that
    the device runs no other sizes. ``alpha`` and ``beta`` are seconds per row and per batch,
    ``row_seconds`` those per row at the size with the best throughput.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    planned: tuple[float, ...]
    spread: tuple[float, ...]
    observations: tuple[float, ...]
    padded: bool
    alpha: float
    beta: float
    row_seconds: float
    z: float
    g: float
