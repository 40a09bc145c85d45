"""What a sweep would find of devices that take exactly so long."""

from __future__ import annotations

from jitney.latency_profile import LatencyProfile

__all__ = ["SIZES", "line"]

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def line(
    alpha: float, beta: float, *, sizes: tuple[int, ...] = SIZES, padded: bool = False
) -> LatencyProfile:
    """Return the profile of a model that takes alpha * rows + beta seconds, exactly."""
    seconds = tuple(alpha * n + beta for n in sizes)
    return LatencyProfile(sizes, seconds, (0.0,) * len(sizes), padded)
