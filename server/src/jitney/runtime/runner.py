"""Running a program while it is being loaded: the way a batch runs, minus the slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from jitney.runtime.outputs import OutputContract, cut
from jitney.runtime.tensors import Value, pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.runtime.device import Device
    from jitney.runtime.modes import Mode
    from jitney.runtime.program import Program
    from jitney.signature import Signature

__all__ = ["Runner"]


class Runner:
    """Runs programs under the conditions of real batches, and checks their outputs.

    Exceptions of the model pass through, because what they mean depends on who asked.
    """

    def __init__(
        self, signature: Signature, device: Device, mode: Mode = torch.inference_mode
    ) -> None:
        """Take what is common to all runs; ``mode`` makes the context of each."""
        self.signature = signature
        self.device = device
        self._mode = mode
        self._contract = OutputContract(signature)

    def run(
        self, program: Program, values: Sequence[Value | None], rows: int, bucket: int | None = None
    ) -> list[Value]:
        """Return the outputs of one run, finished and in memory that no later run touches.

        :param bucket: how many rows the model is to see; the further ones repeat the last.
        :raises InferenceFailed: if the outputs are not as the signature says.
        """
        bucket = bucket if bucket is not None and self.signature.batched else rows
        with self.device.active(), self._mode():
            results = program(pad(values, rows, bucket))
            shapes = self._contract.check(results, bucket)
            if bucket != rows:
                results, _ = cut(results, shapes, rows)
            kept = [value if isinstance(value, list) else value.clone() for value in results]
            self.device.wait()
        return kept

    def seconds(
        self, program: Program, values: Sequence[Value | None], rows: int, times: int = 1
    ) -> float:
        """Return how long one of ``times`` runs takes, in seconds; outputs are checked once."""
        with self.device.active(), self._mode():
            self.device.wait()
            started = time.monotonic()
            for _ in range(times):
                results = program(values)
            self.device.wait()
            ended = time.monotonic()
            self._contract.check(results, rows)
        return (ended - started) / times
