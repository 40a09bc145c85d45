"""One loaded copy of a model version on one device: a batch in, outputs and stamps out."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed, InputRejected, JitneyError, OutOfDeviceMemory
from jitney.runtime.buckets import bucket_table
from jitney.runtime.faults import DeviceFault, classify, summary
from jitney.runtime.outputs import OutputContract, WrittenOutput, cut, write_outputs
from jitney.runtime.tensors import Value, decode_texts, pad, tensor_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.load_options import LoadOptions
    from jitney.load_report import LoadReport
    from jitney.runtime.binding import Program
    from jitney.runtime.device import Device

__all__ = ["Execution", "InputView", "Instance"]


class InputView(NamedTuple):
    """An input of a batch: a region of the slot, writable, aligned to 64 bytes.

    ``shape`` includes the batch dimension; ``data`` has exactly that many elements. BYTES are in
    the protocol's raw form, each element behind its length.
    """

    datatype: DataType
    shape: tuple[int, ...]
    data: memoryview


class Execution(NamedTuple):
    """What became of a batch; the stamps are of the caller's clock, when each stage ended."""

    started: float
    copied_in: float
    inferred: float
    copied_out: float
    outputs: list[WrittenOutput]


class Instance:
    """A model that is loaded, checked and warm.

    To be used by one thread. A failed batch leaves the instance as it was, except after
    ``DeviceFault``: then the process must end.
    """

    def __init__(
        self,
        options: LoadOptions,
        device: Device,
        program: Program,
        report: LoadReport,
        *,
        fresh_inputs: bool,
        threads: int = 0,
    ) -> None:
        """Take over a checked program.

        :param threads: how many threads its operators use on the CPU; 0 leaves what is set.
        :param fresh_inputs: whether the model writes its inputs, or keeps them: then it gets
            copies, because a slot is read again when a failed batch is retried.
        """
        self.options = options
        self.report = report
        self._program: Program | None = program
        self._device = device
        self._contract = OutputContract(options.signature)
        self._names = [spec.name for spec in options.signature.inputs]
        self._batched = options.signature.batched
        self._fresh_inputs = fresh_inputs
        self._threads = threads
        # None where batches run at their own size.
        self._table = bucket_table(report.buckets) if device.pads and self._batched else None

    def __repr__(self) -> str:
        """Return model, device and form."""
        state = "closed" if self._program is None else self.report.form
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
            with self._device.active(), torch.inference_mode():
                return self._run(inputs, rows, out, now)
        except JitneyError as exc:
            failure: Exception = exc if self._quiesce() else DeviceFault(summary(exc))
        except Exception as exc:  # noqa: BLE001  # the model is a foreign program
            failure = self._translate(exc, rows)
        # Raised only here: inside the handler the old exception would hang on to the new one, with
        # all its frames, and with them the tensors that did not fit.
        if isinstance(failure, OutOfDeviceMemory):
            self._device.release()
        raise failure

    def _run(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        device, program = self._device, self._program
        if program is None:
            msg = "the model was unloaded"
            raise InferenceFailed(msg)
        started = device.mark(0, now)
        device.use_threads(self._threads)
        bucket = self._table[rows] if self._table else rows
        values = self._read(inputs, rows, bucket - rows)
        copied_in = device.mark(1, now)
        results = program(values)
        inferred = device.mark(2, now)
        shapes = self._contract.check(results, bucket)
        if bucket != rows:
            results, shapes = cut(results, shapes, rows)
        outputs = write_outputs(
            self._contract.specs, results, shapes, out, device, batched=self._batched
        )
        copied_out = device.mark(3, now)
        marks = device.settle((started, copied_in, inferred, copied_out), now)
        return Execution(*marks, outputs)

    def _read(
        self, inputs: Sequence[InputView | None], rows: int, padding: int
    ) -> list[Value | None]:
        device = self._device
        values: list[Value | None] = []
        for index, view in enumerate(inputs):
            if view is None:
                values.append(None)
                continue
            datatype, shape, data = view
            if datatype is DataType.BYTES:
                texts = decode_texts(self._names[index], data, math.prod(shape))
                values.extend(pad([texts], rows, rows + padding))
                continue
            host = tensor_from(data, datatype, shape)
            staged = device.stage(host, padding)
            values.append(host.clone() if staged is host and self._fresh_inputs else staged)
        return values

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
        self._program = None
        # Modules and their methods refer to each other, so only the collector frees them.
        gc.collect()
        self._device.release()
