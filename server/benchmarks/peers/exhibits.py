"""The models that every peer serves, and the inputs with their right answers."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

import jitney
from benchmarks.dialects import Named
from benchmarks.models import SAMPLES
from benchmarks.process import BenchmarkError
from benchmarks.workload import Workload
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.dialects import Dialect

__all__ = ["EXHIBITS", "Exhibit", "Show", "Slot", "install"]

SEED: Final = 7
TOKENS: Final = 16
VOCABULARY: Final = 30_000
RELATIVE_TOLERANCE: Final = 1e-3
"""Of the largest value of all answers: rows of a batch of another size may round differently."""
NUMPY: Final = {"FP32": "<f4", "INT32": "<i4", "INT64": "<i8"}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a tensor: its name, datatype, and shape without the batch's dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A model as every peer is to serve it.

    ``threads`` are those of torch inside an operation, for every peer but ours, which chooses by
    measurement; 0 is one per core, torch's own default. ``concurrency`` is what
    is measured where nobody asks for anything else. With ``loop`` a tight loop of PyTorch is
    measured beside the servers: where a model is so small that it costs nothing, it says nothing.
    """

    name: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    max_batch: int
    threads: int
    concurrency: tuple[int, ...]
    cases: int
    loop: bool = False

    def torch_threads(self) -> int:
        """Return the number of threads that torch is to use."""
        return self.threads or len(os.sched_getaffinity(0))


EXHIBITS: Final[Mapping[str, Exhibit]] = {
    exhibit.name: exhibit
    for exhibit in (
        Exhibit(
            "simple",
            (Slot("INPUT0", "INT32", (16,)), Slot("INPUT1", "INT32", (16,))),
            (Slot("OUTPUT0", "INT32", (16,)), Slot("OUTPUT1", "INT32", (16,))),
            max_batch=64,
            threads=1,
            concurrency=(1, 16, 64),
            cases=64,
        ),
        Exhibit(
            "mlp",
            (Slot("x", "FP32", (64,)),),
            (Slot("scores", "FP32", (10,)),),
            max_batch=64,
            threads=1,
            concurrency=(1, 16, 64),
            cases=64,
        ),
        Exhibit(
            "resnet18",
            (Slot("image", "FP32", (3, 224, 224)),),
            (Slot("scores", "FP32", (1000,)),),
            max_batch=16,
            threads=0,
            concurrency=(8, 16),
            cases=16,
            loop=True,
        ),
        Exhibit(
            "minilm",
            (Slot("input_ids", "INT64", (TOKENS,)), Slot("attention_mask", "INT64", (TOKENS,))),
            (Slot("embedding", "FP32", (384,)),),
            max_batch=16,
            threads=0,
            concurrency=(8, 16),
            cases=16,
            loop=True,
        ),
    )
}


class Mlp(torch.nn.Module):
    """FP32 ``[N, 64]`` to scores ``[N, 10]`` through two layers of 512."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(64, 512),
            torch.nn.ReLU(),
            torch.nn.Linear(512, 512),
            torch.nn.ReLU(),
            torch.nn.Linear(512, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a score per class."""
        scores: torch.Tensor = self.layers(x)
        return scores


def install(exhibit: Exhibit, folder: Path) -> Show:
    """Put the model's file into ``folder``; return it with inputs and their right answers.

    :raises BenchmarkError: when a sample model has not been built.
    """
    folder.mkdir(parents=True)
    file = folder / "model.pt"
    if exhibit.name == "mlp":
        torch.manual_seed(SEED)
        jitney.pack(Mlp().eval(), file, inputs=["x:FP32[N,64]"], outputs=["scores:FP32[N,10]"])
    else:
        source = SAMPLES / exhibit.name / "1" / "model.pt"
        if not source.exists():
            msg = f"the sample model {exhibit.name} is not built: models/build.py {exhibit.name}"
            raise BenchmarkError(msg)
        shutil.copyfile(source, file)
    cases = _cases(exhibit)
    return Show(exhibit, file, cases, _answers(file, cases))


@dataclass(frozen=True, slots=True)
class Show:
    """A model that is ready to be served: ``cases[i]`` are inputs of one row, ``answers[i]`` right.

    The answers are the program's own, alone in its plain form.
    """

    exhibit: Exhibit
    file: Path
    cases: Sequence[Sequence[np.ndarray[Any, Any]]]
    answers: Sequence[Sequence[np.ndarray[Any, Any]]]

    def workload(self, dialect: Dialect) -> Workload:
        """Return the requests in a dialect."""
        name = self.exhibit.name
        requests = []
        for nth, arrays in enumerate(self.cases):
            slots = zip(self.exhibit.inputs, arrays, strict=True)
            tensors = [Named(slot.name, slot.datatype, array) for slot, array in slots]
            requests.append(dialect.request(name, f"r{nth:04}", tensors))
        expected = [b"".join(array.tobytes() for array in arrays) for arrays in self.answers]
        return Workload(requests, expected, self.tolerance(), dialect.name)

    def tolerance(self) -> float:
        """Return by how much an answer may differ, absolutely; 0 for whole numbers."""
        if any(slot.datatype != "FP32" for slot in self.exhibit.outputs):
            return 0.0
        return RELATIVE_TOLERANCE * max(float(np.abs(a).max()) for row in self.answers for a in row)

    def reply(self) -> bytes:
        """Return what a server says to the first request, for an echo to repeat."""
        response = pb.ModelInferResponse(
            model_name=self.exhibit.name, model_version="1", id="r0000"
        )
        for slot, array in zip(self.exhibit.outputs, self.answers[0], strict=True):
            response.outputs.add(name=slot.name, datatype=slot.datatype, shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        message: bytes = response.SerializeToString()
        return message

    def write_task(self, path: Path, **more: object) -> Path:
        """Write what ``programs`` need to know of the model, as JSON; return the path."""
        exhibit = self.exhibit
        task = {
            "name": exhibit.name,
            "file": str(self.file),
            "threads": exhibit.torch_threads(),
            "max_batch": exhibit.max_batch,
            "inputs": [[s.name, NUMPY[s.datatype], list(s.shape)] for s in exhibit.inputs],
            "outputs": [[s.name, NUMPY[s.datatype], list(s.shape)] for s in exhibit.outputs],
            **more,
        }
        path.write_text(json.dumps(task))
        return path


def _cases(exhibit: Exhibit) -> list[list[np.ndarray[Any, Any]]]:
    """Return inputs of one row each, the same ones at every call."""
    rng = np.random.default_rng(SEED)
    cases = []
    for _ in range(exhibit.cases):
        arrays: list[np.ndarray[Any, Any]] = []
        for slot in exhibit.inputs:
            shape = (1, *slot.shape)
            if slot.datatype == "FP32":
                arrays.append(rng.standard_normal(shape, np.float32))
            elif slot.name == "attention_mask":
                arrays.append(np.ones(shape, np.int64))
            else:
                high = VOCABULARY if slot.datatype == "INT64" else 100
                arrays.append(rng.integers(0, high, shape).astype(NUMPY[slot.datatype]))
        cases.append(arrays)
    return cases


def _answers(
    file: Path, cases: Sequence[Sequence[np.ndarray[Any, Any]]]
) -> list[list[np.ndarray[Any, Any]]]:
    program: torch.jit.ScriptModule = torch.jit.load(file, "cpu")  # type: ignore[no-untyped-call]
    program.eval()
    answers = []
    for arrays in cases:
        with torch.inference_mode():
            found = program(*map(torch.from_numpy, arrays))
        outputs = found if isinstance(found, tuple) else (found,)
        answers.append([output.numpy() for output in outputs])
    return answers
