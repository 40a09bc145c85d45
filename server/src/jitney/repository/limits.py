"""What the operator allows a model: ``model.toml`` where it says something, else the settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from jitney.scheduling.batch import Mode

if TYPE_CHECKING:
    from jitney.config import BatchingSettings
    from jitney.repository.manifest import ModelManifest

    T = TypeVar("T")

__all__ = ["ModelLimits", "limits_of"]


class ModelLimits(NamedTuple):
    """What the operator allows: rows of a batch, rows waiting, and how long things may take.

    ``max_queue_delay`` is how long the oldest request may wait for company; ``default_slo`` and
    ``default_timeout`` stand in for a deadline and bound the wait for a batch, from arrival, both
    infinite for none. All three are seconds. ``default_priority`` is the protocol's, 1 the highest.
    ``slot_bytes`` is the size of a batch's inputs, all together, at most. ``split`` tells that
    requests larger than a batch may be served in parts.
    """

    max_batch_size: int
    max_queue_rows: int
    max_queue_delay: float
    slot_bytes: int
    default_slo: float = math.inf
    default_timeout: float = math.inf
    default_priority: int = 2
    mode: Mode = Mode.LATENCY
    split: bool = True


def limits_of(manifest: ModelManifest, defaults: BatchingSettings, slot_bytes: int) -> ModelLimits:
    """Return the limits of a model."""
    given = manifest.batching
    return ModelLimits(
        max_batch_size=(manifest.max_batch_size or defaults.max_batch_size) if given.enabled else 1,
        max_queue_rows=_first(given.max_queue_size, defaults.max_queue_size),
        max_queue_delay=_first(given.max_queue_delay_ms, defaults.max_queue_delay_ms) / 1000,
        slot_bytes=slot_bytes,
        default_slo=_limit(_first(given.default_slo_ms, defaults.default_slo_ms)),
        default_timeout=_limit(_first(given.default_timeout_ms, defaults.default_timeout_ms)),
        default_priority=_first(given.default_priority, defaults.default_priority),
        mode=Mode(_first(given.mode, defaults.mode)),
        split=_first(given.split_large_requests, defaults.split_large_requests),
    )


def _first(given: T | None, default: T) -> T:
    return default if given is None else given


def _limit(milliseconds: float) -> float:
    """Return seconds; 0 means that there is no limit."""
    return milliseconds / 1000 if milliseconds else math.inf
