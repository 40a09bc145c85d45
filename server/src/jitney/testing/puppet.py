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

    def produced(self, batch: Batch, completion: Completion) -> None:
        """Note one of several replies."""

    def detached(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch needs its device no longer."""


class Stages(NamedTuple):
    """How long, in seconds, the puppet says that each stage took."""

    compute_input: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0


class PuppetExecutor:
    """An ``execution.executor.Executor`` that does nothing by itself.

    ``pending`` are the batches that were started and have not ended, in the order in which they
    came; ``started`` are all that ever were. On one device batches end in order, as on a real one.
    Those of a decoupled model are given replies by ``produce``, may ``detach``, which moves them to
    ``detached``, and are ended by ``finish``.
    """

    def __init__(self, clock: Clock, listener: Completed | None = None) -> None:
        self._clock = clock
        self.listener = listener
        self.pending: list[Batch] = []
        self.detached: list[Batch] = []
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
        if outputs is None:
            outputs = echo(batch)
        self._told.completed(batch, self._completion(outputs, stages))
        return batch

    def fail_next(self, error: JitneyError, *, device: str | None = None) -> Batch:
        """End the oldest batch with an error; return it."""
        batch = self._pop(device)
        self._told.completed(batch, Completion(None, error))
        return batch

    def produce(self, batch: Batch, outputs: BatchOutputs | None = None) -> None:
        """Give a reply of a batch that goes on, the inputs themselves when left out."""
        outputs = echo(batch) if outputs is None else outputs
        self._told.produced(batch, self._completion(outputs, None))

    def detach(self, batch: Batch, *, stages: Stages | None = None) -> None:
        """Let a batch go on without its device, which was at it for so long."""
        self.pending.remove(batch)
        self.detached.append(batch)
        self._told.detached(batch, self._completion(None, stages))

    def finish(
        self, batch: Batch, error: JitneyError | None = None, *, stages: Stages | None = None
    ) -> None:
        """End a batch that has had all its replies, or an error in place of the rest of them."""
        (self.detached if batch in self.detached else self.pending).remove(batch)
        completion = self._completion(None, stages) if error is None else Completion(None, error)
        self._told.completed(batch, completion)

    def _completion(self, outputs: BatchOutputs | None, stages: Stages | None) -> Completion:
        took = stages or Stages()
        copied_out = self._clock.now()
        inferred = copied_out - took.compute_output
        copied_in = inferred - took.compute_infer
        started = copied_in - took.compute_input
        return Completion(outputs, None, started, copied_in, inferred, copied_out)

    def _pop(self, device: str | None) -> Batch:
        for i, batch in enumerate(self.pending):
            if device is None or batch.device == device:
                return self.pending.pop(i)
        msg = f"no batch is pending on {device or 'any device'}"
        raise LookupError(msg)

    @property
    def _told(self) -> Completed:
        if self.listener is None:
            msg = "set PuppetExecutor.listener to the scheduler or the engine first"
            raise LookupError(msg)
        return self.listener
