"""What is known of how long one model's batches take on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jitney.scheduling.latency import LatencyModel
    from jitney.types import ModelRef

__all__ = ["ModelLatency"]


class ModelLatency(NamedTuple):
    """One figure for all shapes of a row, because there may be thousands: they come from the wire.

    ``shapes`` is how many were asked for. ``latency`` is that of the shape of which most batches
    ran; where nothing was asked for, it is what was measured when the model was loaded.
    """

    device: str
    model: ModelRef
    shapes: int
    latency: LatencyModel
