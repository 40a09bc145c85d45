"""One pass of a batch through a model: bytes of the host in, bytes and stamps out.

Both real batches (``instance``) and the warm-up (``warmup``) run through here, so what is measured
at load is what happens later, copies and checks included.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from jitney.datatypes import DataType
from jitney.runtime.interface import Execution, InputView
from jitney.runtime.outputs import OutputContract, cut, write_outputs
from jitney.runtime.tensors import Value, decode_texts, pad, tensor_from
from jitney.runtime.threads import AS_SET, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.device import Device
    from jitney.runtime.modes import Mode
    from jitney.runtime.program import Program
    from jitney.signature import Signature

__all__ = ["Forward"]


class Forward:
    """A program on a device, with everything that is around it in a batch.

    Exceptions of the model pass through, because what they mean depends on who asked. To be used by
    one thread, inside ``device.active()`` and ``mode()``.
    """

    def __init__(
        self,
        signature: Signature,
        device: Device,
        program: Program,
        *,
        fresh_inputs: bool,
        threads: Threads = AS_SET,
        mode: Mode = torch.inference_mode,
    ) -> None:
        """Take over a checked program.

        :param threads: how many threads its operators use on the CPU.
        :param fresh_inputs: whether the model writes its inputs, or keeps them: then it gets
            copies, because a slot is read again when a failed batch is retried.
        :param mode: makes the context in which batches are to be run.
        """
        self.signature = signature
        self.device = device
        self.mode = mode
        self._program = program
        self._contract = OutputContract(signature)
        self._names = [spec.name for spec in signature.inputs]
        self._fresh_inputs = fresh_inputs
        self._threads = threads

    def of(self, program: Program) -> Forward:
        """Return the same around another copy of the program."""
        return Forward(
            self.signature,
            self.device,
            program,
            fresh_inputs=self._fresh_inputs,
            threads=self._threads,
            mode=self.mode,
        )

    def run(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        bucket: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Run a batch, and write its outputs into ``out``.

        :param inputs: in the signature's order; None for an optional input that is left out.
        :param bucket: how many rows the model is to see; the further ones repeat the last.
        :param now: monotonic seconds.
        :raises InputRejected: if BYTES are no texts.
        :raises InferenceFailed: if the model returned what it should not.
        :raises OutputTooLarge: if ``out`` is too small.
        """
        device = self.device
        started = device.mark(0, now)
        device.use_threads(self._threads.of(bucket))
        values = self._read(inputs, rows, bucket - rows)
        copied_in = device.mark(1, now)
        results = self._program(values)
        inferred = device.mark(2, now)
        shapes = self._contract.check(results, bucket)
        if bucket != rows:
            results, shapes = cut(results, shapes, rows)
        outputs = write_outputs(
            self._contract.specs, results, shapes, out, device, batched=self._contract.batched
        )
        copied_out = device.mark(3, now)
        marks = device.settle((started, copied_in, inferred, copied_out), now)
        return Execution(*marks, outputs)

    def _read(
        self, inputs: Sequence[InputView | None], rows: int, padding: int
    ) -> list[Value | None]:
        device = self.device
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
