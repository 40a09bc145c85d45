"""What the scheduler asks of whoever runs batches. The smallest file is the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from jitney.errors import JitneyError, ModelError
    from jitney.load_report import LoadReport
    from jitney.scheduling.batch import Batch
    from jitney.types import BatchOutputs, ModelRef

__all__ = ["Completion", "Executor", "Listener"]


class Completion(NamedTuple):
    """How a batch ended: outputs or an error, and the worker's stamps in monotonic seconds.

    The views in ``outputs`` are valid only until the call that hands them over returns. Without
    outputs and without an error, all that there was to say has been ``produced`` before. The stamps
    are 0 where the batch never got that far.
    """

    outputs: BatchOutputs | None
    error: JitneyError | None
    started: float = 0.0
    copied_in: float = 0.0
    inferred: float = 0.0
    copied_out: float = 0.0

    @property
    def stages(self) -> tuple[float, float, float]:
        """Seconds of copying in, of the model, and of copying out."""
        return (
            self.copied_in - self.started,
            self.inferred - self.copied_in,
            self.copied_out - self.inferred,
        )


class Executor(Protocol):
    """Runs closed batches on devices, one after the other on each."""

    def start(self, batch: Batch) -> None:
        """Run a batch on ``batch.device``; end it by exactly one ``Listener.completed``.

        Never raises: what goes wrong is a completion with an error, in a later turn.
        """


class Listener(Protocol):
    """Whom an executor tells, on the thread that owns the scheduler."""

    def completed(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch ended."""

    def produced(self, batch: Batch, completion: Completion) -> None:
        """Note one of several replies of a batch that goes on; more follow, or ``completed``."""

    def detached(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch needs its device no longer, although it has not ended.

        Its outputs come by ``produced``; ``completed`` still ends it. The stamps tell how long the
        device was at it.
        """

    def device_up(self, device: str) -> None:
        """Note that a device can take batches; models become ready on it one by one."""

    def device_down(self, device: str, back_in: float = 0.0) -> None:
        """Note that a device's worker ended and is replaced; its batches end after this.

        ``back_in`` is in how many seconds the new one should have its models: requests may wait for
        that; 0 where it takes so long that they had better go elsewhere.
        """

    def device_loading(self, device: str, *, loading: bool) -> None:
        """Note that a device begins or ends to load a model, and runs no batches meanwhile."""

    def device_failed(self, device: str, why: str) -> None:
        """Note that a device was given up."""

    def model_loaded(self, device: str, model: ModelRef, report: LoadReport) -> None:
        """Note that a model can run on a device."""

    def model_refused(self, device: str, model: ModelRef, error: ModelError) -> None:
        """Note that a model cannot be loaded onto a device."""

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Note that a model can no longer run on a device."""
