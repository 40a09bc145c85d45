"""The models that benchmarks serve, and the requests for them with their right answers."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

import jitney
from benchmarks.process import BenchmarkError
from benchmarks.workload import Workload
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build_identities", "copy_samples", "digits", "identity", "minilm"]

SAMPLES: Final = Path(__file__).resolve().parents[2] / "models" / "repository"
UNBATCHED: Final = "_unbatched"
"""What the name of a copy ends with that is served with batches of one row."""
SEED: Final = 7
TOLERANCE: Final = 1e-4
"""Absolute; scores of digits and elements of unit vectors are of order 1."""
VOCABULARY: Final = 30_000


class Identity(torch.nn.Module):
    """Its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``."""
        return x


class Swap(torch.nn.Module):
    """Its two inputs, the other way round."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``b, a``."""
        return b, a


def build_identities(repository: Path) -> Path:
    """Write models that return what they are given; return the repository.

    ``identity``: FP32 ``[N, -1]``. ``identity_int64``: INT64 ``[N, -1, -1]``. ``swap``: FP32
    ``[N, -1]`` and INT32 ``[N, 4]`` to the same in the other order.
    """
    models = (
        ("identity", Identity(), ["x:FP32[N,-1]"], ["y:FP32[N,-1]"]),
        ("identity_int64", Identity(), ["x:INT64[N,-1,-1]"], ["y:INT64[N,-1,-1]"]),
        ("swap", Swap(), ["a:FP32[N,-1]", "b:INT32[N,4]"], ["c:INT32[N,4]", "d:FP32[N,-1]"]),
    )
    for name, module, inputs, outputs in models:
        file = repository / name / "1" / "model.pt"
        file.parent.mkdir(parents=True)
        jitney.pack(module, file, inputs=inputs, outputs=outputs)
    return repository


def copy_samples(repository: Path, names: Sequence[str]) -> Path:
    """Copy sample models, and each once more as ``…_unbatched``; return the repository.

    :raises BenchmarkError: when one has not been built.
    """
    for name, ending in itertools.product(names, ("", UNBATCHED)):
        source = SAMPLES / name
        if not (source / "1" / "model.pt").exists():
            msg = f"the sample model {name} is not built: python models/build.py {name}"
            raise BenchmarkError(msg)
        shutil.copytree(source, repository / (name + ending))
        if ending:
            (repository / (name + ending) / "model.toml").write_text("max_batch_size = 1\n")
    return repository


def identity(count: int, elements: int) -> Workload:
    """Return ``count`` requests of FP32 ``[1, elements]`` for ``identity``."""
    rng = np.random.default_rng(SEED)
    requests, expected = [], []
    for nth in range(count):
        data = rng.standard_normal((1, elements)).astype("<f4").tobytes()
        requests.append(_request("identity", f"r{nth:04}", ("x", "FP32", [1, elements], data)))
        expected.append(data)
    return Workload(requests, expected)


def digits(count: int, model: str = "digits") -> Workload:
    """Return ``count`` requests of one random image each."""
    program = _program("digits")
    rng = np.random.default_rng(SEED)
    requests, expected = [], []
    for nth in range(count):
        image = rng.random((1, 1, 8, 8), np.float32)
        tensor = ("image", "FP32", [1, 1, 8, 8], image.tobytes())
        requests.append(_request(model, f"r{nth:04}", tensor))
        expected.append(_answer(program, image))
    return Workload(requests, expected, TOLERANCE)


def minilm(count: int, shortest: int, longest: int, model: str = "minilm") -> Workload:
    """Return ``count`` requests of one sentence each, of ``shortest`` to ``longest`` tokens."""
    program = _program("minilm")
    rng = np.random.default_rng(SEED)
    lengths = random.Random(SEED)  # noqa: S311  # not a secret
    requests, expected = [], []
    for nth in range(count):
        length = lengths.randint(shortest, longest)
        ids = rng.integers(0, VOCABULARY, (1, length))
        mask = np.ones_like(ids)
        named = (("input_ids", ids), ("attention_mask", mask))
        tensors = [(name, "INT64", [1, length], array.tobytes()) for name, array in named]
        requests.append(_request(model, f"r{nth:04}", *tensors))
        expected.append(_answer(program, ids, mask))
    return Workload(requests, expected, TOLERANCE)


def _request(model: str, identity: str, *tensors: tuple[str, str, list[int], bytes]) -> bytes:
    request = pb.ModelInferRequest(model_name=model, id=identity)
    for name, datatype, shape, data in tensors:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    return request.SerializeToString()


def _program(name: str) -> torch.jit.ScriptModule:
    file = SAMPLES / name / "1" / "model.pt"
    program: torch.jit.ScriptModule = torch.jit.load(file, "cpu")  # type: ignore[no-untyped-call]
    return program.eval()


def _answer(program: torch.jit.ScriptModule, *arrays: np.ndarray) -> bytes:
    with torch.inference_mode():
        answer: torch.Tensor = program(*map(torch.from_numpy, arrays))
    return answer.numpy().astype("<f4").tobytes()
