"""What the server says that it did in a run: the difference of two readings of its statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney_client.protocol import inference as pb

__all__ = ["Figures"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts and seconds; sums over requests, except for those of batches.

    ``rows`` are those that ran, in ``batches``; ``by_rows`` counts batches by their rows, in the
    server's own steps where it has such.
    """

    requests: int = 0
    failed: int = 0
    rows: int = 0
    batches: int = 0
    queue: float = 0.0
    compute_input: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0
    by_rows: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, statistics: Iterable[pb.ModelStatistics]) -> Figures:
        """Return the sums of all versions."""
        total = cls()
        for one in statistics:
            stats = one.inference_stats
            total = total._plus(
                cls(
                    stats.success.count,
                    stats.fail.count,
                    one.inference_count,
                    one.execution_count,
                    stats.queue.ns / 1e9,
                    stats.compute_input.ns / 1e9,
                    stats.compute_infer.ns / 1e9,
                    stats.compute_output.ns / 1e9,
                    {batch.batch_size: batch.compute_infer.count for batch in one.batch_stats},
                ),
                1,
            )
        return total

    def since(self, before: Figures) -> Figures:
        """Return what was added."""
        return self._plus(before, -1)

    def _plus(self, other: Figures, sign: int) -> Figures:
        sizes = sorted({*self.by_rows, *other.by_rows})
        by_rows = {n: self.by_rows.get(n, 0) + sign * other.by_rows.get(n, 0) for n in sizes}
        return Figures(
            self.requests + sign * other.requests,
            self.failed + sign * other.failed,
            self.rows + sign * other.rows,
            self.batches + sign * other.batches,
            self.queue + sign * other.queue,
            self.compute_input + sign * other.compute_input,
            self.compute_infer + sign * other.compute_infer,
            self.compute_output + sign * other.compute_output,
            {rows: count for rows, count in by_rows.items() if count},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures, means per request in milliseconds."""
        count = max(1, self.requests)
        return {
            "requests": self.requests,
            "failed": self.failed,
            "rows": self.rows,
            "batches": self.batches,
            "mean_rows": round(self.rows / max(1, self.batches), 2),
            **{
                f"{name}_ms": round(1e3 * getattr(self, name) / count, 4)
                for name in ("queue", "compute_input", "compute_infer", "compute_output")
            },
            "batches_by_rows": {str(rows): n for rows, n in self.by_rows.items()},
        }
