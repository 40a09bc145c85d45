"""What the policy is told, what it answers, and what it tells about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Batch, Entry

__all__ = ["PolicySettings", "PolicyStatistics", "Turn"]


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What an operator may choose.

    ``max_overhead``: see the rule of rest. ``tenant_weights``: shares, 1 for who is not named.
    ``least_spread``: how certain, at best, a device's time is; relative.
    """

    max_overhead: float = 1.0
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    least_spread: float = 0.01


class Turn(NamedTuple):
    """What is to be done: entries that end with an error, and batches to start, in order."""

    refused: list[tuple[Entry, JitneyError]]
    batches: list[Batch]


@dataclass(frozen=True, slots=True)
class PolicyStatistics:
    """What is where, for metrics, status and tests.

    The load is that of the busiest group of devices that share models; ``tight`` tells that any is.
    """

    queued_entries: int
    queued_rows: int
    queues: int
    running: int
    staged: int
    utilisation: float
    pressure: float
    tight: bool
