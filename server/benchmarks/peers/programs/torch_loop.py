"""A tight loop of PyTorch: what is left when there is no server at all.

    python torch_loop.py TASK

Reads an order per line of standard input (``form``, ``batch``, ``seconds``) and writes what it saw,
both JSON; ends with its input. ``frozen`` is what the other peers run, ``optimised`` the same after
``optimize_for_inference``. Runs in our own environment.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

FORMS = ("frozen", "optimised")


class Loop:
    """The program in each form, and the inputs with their right answers."""

    def __init__(self, task: dict[str, Any]) -> None:
        torch.set_num_threads(task["threads"])
        module = torch.jit.load(task["file"], map_location="cpu").eval()
        self._forms = {
            "frozen": torch.jit.freeze(module),
            "optimised": torch.jit.optimize_for_inference(module),
        }
        self._tolerance = task["tolerance"]
        with np.load(task["cases"]) as arrays:
            self._inputs = [arrays[f"input{n}"] for n in range(len(task["inputs"]))]
            self._answers = [arrays[f"answer{n}"] for n in range(len(task["outputs"]))]

    def run(self, form: str, batch: int, seconds: float) -> dict[str, float]:
        """Run batches for some seconds; the answers of each are compared with the right ones."""
        module = self._forms[form]
        rows = np.arange(batch) % len(self._inputs[0])
        tensors = [torch.from_numpy(array[rows]) for array in self._inputs]
        answers = [array[rows] for array in self._answers]
        times: list[float] = []
        wrong = 0
        began, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            while time.perf_counter() - began < seconds:
                start = time.perf_counter()
                found = module(*tensors)
                times.append(time.perf_counter() - start)
                outputs = found if isinstance(found, tuple) else (found,)
                for output, answer in zip(outputs, answers, strict=True):
                    wrong += int((np.abs(output.numpy() - answer) > self._tolerance).any())
        spent = time.process_time() - cpu
        times.sort()
        return {
            "requests": batch * len(times),
            "seconds": time.perf_counter() - began,
            "p50_ms": 1000 * times[len(times) // 2],
            "p99_ms": 1000 * times[min(len(times) - 1, len(times) * 99 // 100)],
            "cpu_seconds": spent,
            "wrong": wrong,
        }


def main() -> None:
    """Run what standard input asks for."""
    loop = Loop(json.loads(Path(sys.argv[1]).read_text()))
    for line in sys.stdin:
        print(json.dumps(loop.run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
