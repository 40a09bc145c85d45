"""What loading a model found out about it: for the operator, the metrics and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Golden", "LoadReport"]


@dataclass(frozen=True, slots=True)
class Golden:
    """How many golden samples were compared, and the largest difference of any element."""

    samples: int
    max_error: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of all checks of one load.

    ``form`` is what runs: ``optimised``, ``frozen`` or ``plain``; ``why`` says in one sentence why,
    with the measured speed. ``max_batch_size`` is the limit in rows that held: 1 for a model that
    cannot be batched, 0 for one without batch dimension. ``buckets`` are the batch sizes that were
    warmed, ascending; ``warmup`` has the duration in seconds of the last run of each.
    ``mutated_state`` names the attributes that a run writes, ``mutated_inputs`` the inputs.
    """

    form: str
    why: str
    batchable: bool
    batchable_why: str
    max_batch_size: int
    deterministic: bool
    mutated_state: tuple[str, ...]
    mutated_inputs: tuple[str, ...]
    golden: Golden
    buckets: tuple[int, ...]
    warmup: dict[int, float]
    memory_bytes: int
    load_seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; the keys of ``warmup`` become texts, as JSON wants them."""
        return {
            "form": self.form,
            "why": self.why,
            "batchable": self.batchable,
            "batchable_why": self.batchable_why,
            "max_batch_size": self.max_batch_size,
            "deterministic": self.deterministic,
            "mutated_state": list(self.mutated_state),
            "mutated_inputs": list(self.mutated_inputs),
            "golden": {"samples": self.golden.samples, "max_error": self.golden.max_error},
            "buckets": list(self.buckets),
            "warmup": {str(rows): seconds for rows, seconds in self.warmup.items()},
            "memory_bytes": self.memory_bytes,
            "load_seconds": self.load_seconds,
            "warnings": list(self.warnings),
        }
