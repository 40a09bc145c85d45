"""An executor whose batches end when, and how, the test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from jitney.execution.executor import Completion
from jitney.testing.echo import echo

if TYPE_CHECKING:
    from jitney.clock import Clock
    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Batch
    from jitney.types import BatchOutputs

__all__ = ["PuppetExecutor", "Stages"]


class Completed(Protocol):
    """Whom the puppet tells: a scheduler, or an engine."""

    def completed(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch ended."""


class Stages(NamedTuple):
    """How long, in seconds, the puppet says that each stage took."""

    compute_input: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0


class PuppetExecutor:
    """An ``execution.executor.Executor`` that does nothing by itself.

    ``pending`` are the batches that were started and have not ended, in the order in which they
    came; ``started`` are all that ever were. On one device batches end in order, as on a real one.
    """

    def __init__(self, clock: Clock, listener: Completed | None = None) -> None:
        self._clock = clock
        self.listener = listener
        self.pending: list[Batch] = []
        self.started: list[Batch] = []

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<PuppetExecutor {len(self.pending)} pending of {len(self.started)} started>"

    def start(self, batch: Batch) -> None:
        """Take a batch on."""
        self.pending.append(batch)
        self.started.append(batch)

    def complete_next(
        self,
        outputs: BatchOutputs | None = None,
        *,
        device: str | None = None,
        stages: Stages | None = None,
    ) -> Batch:
        """End the oldest batch well; return it.

        :param outputs: what the model returned; the inputs themselves when left out.
        :param device: whose batch; that of any device when left out.
        :param stages: durations; the last one ends now. None means that it took no time.
        """
        batch = self._pop(device)
        took = stages or Stages()
        copied_out = self._clock.now()
        inferred = copied_out - took.compute_output
        copied_in = inferred - took.compute_infer
        started = copied_in - took.compute_input
        if outputs is None:
            outputs = echo(batch)
        self._tell(batch, Completion(outputs, None, started, copied_in, inferred, copied_out))
        return batch

    def fail_next(self, error: JitneyError, *, device: str | None = None) -> Batch:
        """End the oldest batch with an error; return it."""
        batch = self._pop(device)
        self._tell(batch, Completion(None, error))
        return batch

    def _pop(self, device: str | None) -> Batch:
        for i, batch in enumerate(self.pending):
            if device is None or batch.device == device:
                return self.pending.pop(i)
        msg = f"no batch is pending on {device or 'any device'}"
        raise LookupError(msg)

    def _tell(self, batch: Batch, completion: Completion) -> None:
        if self.listener is None:
            msg = "set PuppetExecutor.listener to the scheduler or the engine first"
            raise LookupError(msg)
        self.listener.completed(batch, completion)
