"""How long a model takes for batches of several sizes: measured at load, learnt from later."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LatencyProfile"]


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """Device seconds by rows.

    ``sizes`` ascend, at least one; ``seconds`` are medians of several runs of each, and ``spread``
    their relative standard deviations. ``padded`` tells that the device runs no other sizes: a
    batch is padded up to the next of them. Otherwise every size runs as it is, and these are the
    ones that were measured.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    spread: tuple[float, ...]
    padded: bool = False
