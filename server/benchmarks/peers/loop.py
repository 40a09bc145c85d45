"""The tight loop of PyTorch, as one more thing to compare with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.peers.environment import PROGRAMS
from benchmarks.process import BenchmarkError, ChildProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers.exhibits import Show

__all__ = ["FORMS", "NAME", "LoopProcess"]

NAME: Final = "loop"
FORMS: Final = ("frozen", "optimised")
TRIAL_SECONDS: Final = 0.5
"""Of each batch size, once to warm up and once to tell which is best."""


class LoopProcess(ChildProcess):
    """``programs/torch_loop.py`` over one model."""

    def __init__(self, show: Show, folder: Path) -> None:
        cases = folder / "cases.npz"
        inputs = {f"input{n}": _column(show.cases, n) for n in range(len(show.exhibit.inputs))}
        answers = {f"answer{n}": _column(show.answers, n) for n in range(len(show.exhibit.outputs))}
        # numpy has a keyword of its own there, which types cannot tell from names of arrays.
        np.savez(cases, **inputs, **answers)  # type: ignore[arg-type]
        task = show.write_task(
            folder / "task.json", cases=str(cases), tolerance=show.tolerance() or 0.0
        )
        super().__init__([str(PROGRAMS / "torch_loop.py"), str(task)], folder / "log")

    def run(self, form: str, batch: int, seconds: float) -> dict[str, Any]:
        """Run batches of one size for some seconds and return what was seen.

        :raises BenchmarkError: when an answer was wrong.
        """
        self.tell(json.dumps({"form": form, "batch": batch, "seconds": seconds}))
        seen: dict[str, Any] = json.loads(self.line())
        if seen["wrong"]:
            msg = f"{seen['wrong']} batches of {batch} had wrong answers"
            raise BenchmarkError(msg)
        return seen

    def best_batch(self, form: str, largest: int) -> int:
        """Return the batch size, a power of two, with most rows per second.

        :raises BenchmarkError: when an answer was wrong.
        """
        rates = {}
        for power in range(largest.bit_length()):
            for _ in range(2):
                seen = self.run(form, 1 << power, TRIAL_SECONDS)
            rates[1 << power] = seen["requests"] / seen["seconds"]
        return max(rates, key=rates.__getitem__)


def _column(
    rows: Sequence[Sequence[np.ndarray[Any, Any]]], number: int
) -> np.ndarray[Any, np.dtype[Any]]:
    return np.concatenate([arrays[number] for arrays in rows])
