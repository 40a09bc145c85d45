"""Who wants to know of single batches; the metrics tell, if somebody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from jitney.errors import JitneyError
    from jitney.execution.executor import Completion
    from jitney.scheduling.batch import Batch

__all__ = ["BatchWatcher"]


class BatchWatcher(Protocol):
    """Hears of every batch; its end is not told where its worker was lost and it runs again."""

    def batch_started(self, batch: Batch) -> None:
        """Note that a batch leaves."""

    def batch_done(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch ended well."""

    def batch_failed(self, batch: Batch, error: JitneyError) -> None:
        """Note that a batch failed."""
