"""The model, as every Python peer runs it: frozen, in inference mode, one call per batch.

Runs in the peers' environments, so it needs torch and numpy only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TASK", "Program"]

TASK = "JITNEY_COMPARE_TASK"
"""The variable with the path of the task: the JSON file that says what is served."""
WARM_UP_RUNS = 3
"""Of each power of two: TorchScript's executor looks at shapes in the first runs and compiles."""


class Program:
    """A TorchScript program, from rows of numpy arrays to rows of numpy arrays."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.inputs = [(name, np.dtype(kind), tuple(shape)) for name, kind, shape in task["inputs"]]
        self.outputs = [name for name, _, _ in task["outputs"]]
        self.max_batch: int = task["max_batch"]
        self.task = task
        torch.set_num_threads(task["threads"])
        module = torch.jit.load(task["file"], map_location="cpu").eval()
        self._module = torch.jit.freeze(module)

    @classmethod
    def of_environment(cls) -> Program:
        """Load and warm up the program of the task that the environment names."""
        program = cls(json.loads(Path(os.environ[TASK]).read_text()))
        program.warm_up()
        return program

    def warm_up(self) -> None:
        """Run batches of every size that is a power of two, and the largest."""
        sizes = {1 << n for n in range(self.max_batch.bit_length())} | {self.max_batch}
        for size in sorted(size for size in sizes if size <= self.max_batch):
            arrays = [np.ones((size, *shape), kind) for _, kind, shape in self.inputs]
            for _ in range(WARM_UP_RUNS):
                self.run(arrays)

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Run a batch; inputs and outputs in the order of the task."""
        with torch.inference_mode():
            found = self._module(*map(torch.from_numpy, arrays))
        outputs = found if isinstance(found, tuple) else (found,)
        return [output.numpy() for output in outputs]

    def run_bodies(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Run a batch of bodies: the inputs of a row, one after the other, of equal length."""
        columns = []
        for nth, (_, kind, shape) in enumerate(self.inputs):
            rows = []
            for body in bodies:
                size = len(body) // len(self.inputs)
                part = memoryview(body)[nth * size : (nth + 1) * size]
                rows.append(np.frombuffer(part, kind).reshape(1, *shape))
            columns.append(np.concatenate(rows))
        outputs = self.run(columns)
        return [b"".join(output[row].tobytes() for output in outputs) for row in range(len(bodies))]
