"""One loaded copy of a model version on one device: a batch in, outputs and stamps out."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from jitney.errors import InferenceFailed, InputRejected, JitneyError, OutOfDeviceMemory
from jitney.runtime.buckets import bucket_table
from jitney.runtime.faults import classify, summary
from jitney.runtime.interface import DeviceFault, Execution, InputView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.load_options import LoadOptions
    from jitney.load_report import LoadReport
    from jitney.runtime.forward import Forward

__all__ = ["Execution", "InputView", "Instance"]


class Instance:
    """A model that is loaded, checked and warm.

    To be used by one thread. A failed batch leaves the instance as it was, except after
    ``DeviceFault``: then the process must end.
    """

    def __init__(self, options: LoadOptions, forward: Forward, report: LoadReport) -> None:
        """Take over a checked model."""
        self.options = options
        self.report = report
        self._forward: Forward | None = forward
        self._device = forward.device
        self._mode = forward.mode
        # None where batches run at their own size.
        self._table = bucket_table(report.buckets) if report.latency.padded else None

    def __repr__(self) -> str:
        """Return model, device and form."""
        state = "closed" if self._forward is None else self.report.form
        return f"<Instance {self.options.name}/{self.options.version} {self._device.name} {state}>"

    def execute(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Run a batch, and write its outputs into ``out``.

        :param inputs: in the signature's order; None for an optional input that is left out.
        :param rows: rows of the batch, at most the report's ``max_batch_size``; 1 without batch
            dimension.
        :param now: monotonic seconds.
        :raises InputRejected: if the model raised, or BYTES are no texts.
        :raises InferenceFailed: if it returned what it should not. Running the members of the
            batch alone tells whose they are.
        :raises OutputTooLarge: if ``out`` is too small.
        :raises OutOfDeviceMemory: if the batch did not fit beside what is loaded.
        :raises DeviceFault: if the device is lost; the process must end.
        """
        try:
            with self._device.active(), self._mode():
                return self._loaded().run(
                    inputs, rows, self._table[rows] if self._table else rows, out, now
                )
        except JitneyError as exc:
            failure: Exception = exc if self._quiesce() else DeviceFault(summary(exc))
        except Exception as exc:  # noqa: BLE001  # the model is a foreign program
            failure = self._translate(exc, rows)
        # Raised only here: inside the handler the old exception would hang on to the new one, with
        # all its frames, and with them the tensors that did not fit.
        if isinstance(failure, OutOfDeviceMemory):
            self._device.release()
        raise failure

    def _loaded(self) -> Forward:
        if self._forward is None:
            msg = "the model was unloaded"
            raise InferenceFailed(msg)
        return self._forward

    def _translate(self, exc: Exception, rows: int) -> Exception:
        if classify(exc) == "fault" or not self._quiesce():
            return DeviceFault(summary(exc))
        if classify(exc) == "oom":
            return OutOfDeviceMemory(
                f"a batch of {rows} row{'s' if rows != 1 else ''} does not fit into the memory of "
                f"{self._device.name}"
            )
        return InputRejected(f"the model raised: {summary(exc)}")

    def _quiesce(self) -> bool:
        """Wait for what the failed batch queued, which still reads and writes its slot."""
        try:
            self._device.wait()
        except Exception:  # noqa: BLE001  # whatever it is, the device does not answer any more
            return False
        return True

    def close(self) -> None:
        """Let go of the model and its memory; may be called again."""
        self._forward = None
        # Modules and their methods refer to each other, so only the collector frees them.
        gc.collect()
        self._device.release()
