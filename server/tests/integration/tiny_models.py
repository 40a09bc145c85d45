"""A repository of tiny scripted models, each of which does one thing that a server must survive."""

# The models are what authors write, not what this project does.
# ruff: noqa: EM101, FBT003

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# TorchScript evaluates annotations, so those of `forward` are not under TYPE_CHECKING.
from typing import List, Tuple  # noqa: UP035  # what the compiler understands

__all__ = ["MAX_ROWS", "NUMERIC", "POISON", "Gate", "Tensor", "write_model", "write_repository"]

MAX_ROWS: Final = 8
"""The batch limit of every model here that has a batch dimension."""
POISON: Final = 2e6
"""What ``poison`` raises on, and what ends the process of ``crash``."""

NUMERIC: Final = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64"),
)


class Same(nn.Module):
    """Its input, copied."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class SameTexts(nn.Module):
    """Its input."""

    def forward(self, texts: List[str]) -> List[str]:  # noqa: UP006
        return texts


class AddSub(nn.Module):
    """The sum and the difference of its inputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        return a + b, a - b


class Plus(nn.Module):
    """Its input and a number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.number


class Joined(nn.Module):
    """The sum of two inputs that are equally long."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Centred(nn.Module):
    """Mixes rows: takes the mean over the batch off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class Poison(nn.Module):
    """Its input plus one; raises on values above a million."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x > 1e6).any()):
            raise ValueError("poisoned")
        return x + 1


class Crash(nn.Module):
    """Its input plus one; takes its process down on values above a million."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x > 1e6).any()):
            far = torch.full([2, 1], 1 << 40, dtype=torch.int64)
            wild = torch.ops.aten._sparse_coo_tensor_unsafe(far, torch.ones([1]), [4, 4])
            return wild.to_dense()
        return x + 1


class Held(nn.Module):
    """Its input, after a file on the disk says so: how a test decides how long a batch takes.

    The file is opened anew in every turn. The number of turns decides how much of it is mapped (at
    least one byte) and is part of the answer; otherwise the compiler would read the file once, or
    leave the loop out.
    """

    def __init__(self, gate: str) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turns = int(x.numel() > (1 << 30))
        while int(torch.from_file(self.gate, True, 1 + turns // (1 << 60), dtype=torch.uint8)[0]):
            turns += 1
        return x + 0.0 * turns


class Gate:
    """The other side of ``Held``: shut, a batch of ``held`` runs until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()

    def shut(self) -> None:
        """Keep every later batch of ``held`` on its device."""
        self._write(b"\1\0")

    def open(self) -> None:
        """Let all of them go."""
        self._write(b"\0\0")

    def _write(self, data: bytes) -> None:
        # In place: a worker may have the file mapped, and must not find it empty.
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.write(data)


class Tensor(NamedTuple):
    """A table of ``model.toml``; ``extra`` is appended to it as it is."""

    name: str
    datatype: str
    shape: str
    extra: str = ""

    def lines(self, side: str) -> Iterator[str]:
        """Yield the table."""
        yield f"[[{side}]]"
        yield f'name = "{self.name}"'
        yield f'datatype = "{self.datatype}"'
        yield f"shape = {self.shape}"
        yield self.extra


def write_model(
    root: Path,
    name: str,
    module: nn.Module,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    version: int = 1,
    head: str = "",
    attached: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a model into a repository; return its file.

    :param head: what stands in ``model.toml`` before the tensors, beside ``max_batch_size``.
    :param attached: extra files inside the model's.
    """
    folder = root / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    batched = '["N"' in inputs[0].shape
    lines = [f"max_batch_size = {MAX_ROWS}" if batched else "", head]
    for side, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            lines += tensor.lines(side)
    (root / name / "model.toml").write_text("\n".join(lines))
    with warnings.catch_warnings():
        # That TorchScript is deprecated is for the operators of this project to know.
        warnings.simplefilter("ignore")
        program = torch.jit.script(module.eval())
        torch.jit.save(program, folder / "model.pt", _extra_files=dict(attached or {}))
    return folder / "model.pt"


def write_repository(root: Path, gate: Gate) -> None:
    """Write every model that is right; hostile ones are written by the tests of those."""
    any_length, row = '["N", -1]', '["N", 4]'
    for datatype in NUMERIC:
        write_model(
            root,
            f"same_{datatype.lower()}",
            Same(),
            [Tensor("x", datatype, any_length)],
            [Tensor("y", datatype, any_length)],
        )
    write_model(
        root,
        "same_bytes",
        SameTexts(),
        [Tensor("x", "BYTES", any_length)],
        [Tensor("y", "BYTES", any_length)],
    )
    sixteen = '["N", 16]'
    write_model(
        root,
        "simple",
        AddSub(),
        [Tensor("INPUT0", "INT32", sixteen), Tensor("INPUT1", "INT32", sixteen)],
        [Tensor("OUTPUT0", "INT32", sixteen), Tensor("OUTPUT1", "INT32", sixteen)],
    )
    by_length = '["N", "L"]'
    write_model(
        root,
        "joined",
        Joined(),
        [Tensor("a", "FP32", by_length), Tensor("b", "FP32", by_length)],
        [Tensor("y", "FP32", by_length)],
    )
    for name, module, shape in (
        ("planes", Same(), '["N", -1, -1]'),
        ("unbatched", Plus(1), "[2, -1]"),
        ("scalar", Plus(1), "[]"),
        ("centred", Centred(), row),
        ("poison", Poison(), row),
        ("crash", Crash(), row),
        ("held", Held(str(gate.path)), row),
    ):
        write_model(root, name, module, [Tensor("x", "FP32", shape)], [Tensor("y", "FP32", shape)])
    for name, head in (
        ("shared", ""),
        ("short_queue", "batching.max_queue_size = 4"),
        ("patient", "batching.max_queue_delay_ms = 1000"),
        ("hasty", "batching.default_timeout_ms = 200"),
        ("whole", "batching.split_large_requests = false"),
    ):
        x, y = Tensor("x", "FP32", row), Tensor("y", "FP32", row)
        write_model(root, name, Plus(1), [x], [y], head=head)
    for version in (1, 2):
        write_model(
            root,
            "versions",
            Plus(version),
            [Tensor("x", "FP32", row)],
            [Tensor("y", "FP32", row)],
            version=version,
            head='versions.policy = "all"',
        )
