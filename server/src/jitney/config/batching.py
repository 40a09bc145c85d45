"""How models are batched that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jitney.config.setting import setting

__all__ = ["BatchingSettings"]

LONGEST_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class BatchingSettings:
    """How models are batched that do not say it themselves in their model.toml."""

    max_batch_size: int = setting(32, "rows of one batch, at most", low=1, high=1 << 16)
    max_queue_delay_ms: float = setting(
        0.0,
        "how long the oldest request may wait for company while a device is free, in milliseconds",
        low=0,
        high=60_000,
    )
    max_queue_size: int = setting(
        4096, "rows that may wait, per model version", low=1, high=1 << 24
    )
    default_slo_ms: float = setting(
        0.0,
        "deadline of requests that bring none, in milliseconds from their arrival; it ends them as "
        "their caller's own would. 0: they have none",
        low=0,
        high=LONGEST_MS,
    )
    default_timeout_ms: float = setting(
        0.0,
        "how long a request may wait for its batch to start, in milliseconds; its own timeout can "
        "only shorten it. 0: as long as its deadline allows",
        low=0,
        high=LONGEST_MS,
    )
    default_priority: int = setting(
        2, "priority of requests that bring none; 1 is the highest", low=1, high=3
    )
    mode: str = setting(
        "latency",
        "latency gives a free device what there is; efficiency lets batches grow for as long as "
        "deadlines allow, which frees devices",
        choices=("latency", "efficiency"),
    )
    split_large_requests: bool = setting(
        default=True,
        help_="serve requests larger than a batch in parts, where the model can be batched",
    )
    max_overhead_ratio: float = setting(
        0.15,
        "share of the host's time that the fixed cost of batches may take: under load, small "
        "batches wait up to 2 ms for company; 1 lets every batch leave at the first chance",
        low=0.01,
        high=1,
    )
