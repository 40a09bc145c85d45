"""Models that are broken or mean harm, each with what the server has to say about it."""

# The models are what authors write, not what this project does.
# ruff: noqa: EM101, TRY003

from __future__ import annotations

import shutil
import warnings
import zipfile
from typing import TYPE_CHECKING, Final

import torch
from tiny_models import Plus, Tensor, write_model
from torch import nn

from jitney.datatypes import DataType
from jitney.samples import EXTRA_FILE, Sample, SampleTensor, write_samples

if TYPE_CHECKING:
    from pathlib import Path

# TorchScript evaluates annotations.
from typing import Tuple  # noqa: UP035  # what the compiler understands

__all__ = ["REASONS", "write_hostile"]

X, Y = Tensor("x", "FP32", '["N", 4]'), Tensor("y", "FP32", '["N", 4]')

SKELETON: Final = """\
[[input]]
name = "x"
datatype = "FP32"
shape = ["N", "?"]

[[output]]
name = "OUTPUT__0"
datatype = "FP32"
shape = ["N", "?"]
"""

REASONS: Final = {
    "a b": "not a model's name",
    "bad_golden": "golden sample 0: output 'y' differs by 1 from what the author got",
    "bad_toml": "model.toml: not TOML: ",
    "bomb": "the file is built to do harm",
    "crash_at_load": "while it loaded the model: it closed its channel; killed by SIGSEGV",
    "cut": "the file was cut short, copy it again",
    "eager": "it lacks a program: this is no TorchScript file",
    "empty": "not a model file: expected an archive as torch.jit.save writes it",
    "flipped_code": "code/__torch__/hostile_models.py: cannot be unpacked",
    "flipped_weight": "data/0: cannot be unpacked; the file was cut short or changed",
    "leads_out": "leads out of the model repository, and is not followed",
    "link_out": "model.pt: leads out of the model repository, and is not followed",
    "m" * 129: "not a model's name",
    "no_file": "model.pt: there is no such file",
    "no_signature": SKELETON,
    "no_versions": "no version found: put the model at <name>/<number>/model.pt",
    "raises": "the model raised on made-up inputs: ValueError: never",
    "raises_at_load": "torch cannot read the file (ValueError: not today)",
    "text": "not a model file: expected an archive as torch.jit.save writes it",
    "too_many_inputs": "the signature has 2 inputs, x, z; the model is forward(x: Tensor)",
    "wrong_shape": "output 'y': expected FP32 [1, 4], the model returned float32 [1, 3]",
    "wrong_type": "output 'y': expected FP32 [1, 4], the model returned float64 [1, 4]",
    "\\xfc": "not a model's name",
}
"""A part of the reason why each of them is not served."""


class Weighted(nn.Module):
    """A linear layer: something with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(x)
        return result


class WrongType(nn.Module):
    """Doubles, whatever its signature says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float64)


class WrongShape(nn.Module):
    """One column less than its signature says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 1:]


class Raises(nn.Module):
    """Never answers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() > 0:
            raise ValueError("never")
        return x


class RaisesAtLoad(nn.Module):
    """Raises while its file is read: code of the file runs before any check of its answers."""

    @torch.jit.export
    def __getstate__(self) -> Tuple[int, bool]:  # noqa: UP006
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[int, bool]) -> None:  # noqa: UP006
        self.training = state[1]
        if state[0] == 1:
            raise ValueError("not today")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class CrashAtLoad(nn.Module):
    """Ends the process that reads its file, by writing where there is no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.wild = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> Tuple[torch.Tensor, bool]:  # noqa: UP006
        return self.wild, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[torch.Tensor, bool]) -> None:  # noqa: UP006
        self.training = state[1]
        far = torch.full([2, 1], 1 << 40, dtype=torch.int64)
        wild = torch.ops.aten._sparse_coo_tensor_unsafe(far, torch.ones([1]), [4, 4])
        self.wild = wild.to_dense()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_hostile(root: Path, outside: Path) -> None:
    """Write all of them, and a model named ``right`` that is.

    :param outside: a folder that is not part of the repository.
    """

    def write(name: str, module: nn.Module | None = None) -> Path:
        return write_model(root, name, module or Plus(1), [X], [Y])

    right = write("right")
    for name in ("a b", "ü", "m" * 129):
        shutil.copytree(right.parents[1], root / name)
    write("wrong_type", WrongType())
    write("wrong_shape", WrongShape())
    write("raises", Raises())
    write("raises_at_load", RaisesAtLoad())
    write("crash_at_load", CrashAtLoad())
    write_model(root, "too_many_inputs", Plus(1), [X, X._replace(name="z")], [Y])
    (write("no_signature").parents[1] / "model.toml").unlink()
    (write("bad_toml").parents[1] / "model.toml").write_text("[[input]\n")
    write("no_file").unlink()
    (root / "no_versions").mkdir()
    _write_damaged(root)
    _write_bad_golden(root)
    _write_links(root, outside, right)
    _write_bomb(write("bomb"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(Weighted().state_dict(), write("eager"))


def _write_damaged(root: Path) -> None:
    for name in ("cut", "empty", "text", "flipped_weight", "flipped_code"):
        file = write_model(root, name, Weighted(), [X], [Y])
        data = bytearray(file.read_bytes())
        if name == "cut":
            del data[len(data) // 2 :]
        elif name == "empty":
            data.clear()
        elif name == "text":
            data[:] = b"a model\n" * 100
        else:
            entry = "data/0" if name == "flipped_weight" else ".py"
            data[_place_in(file, entry)] ^= 1
        file.write_bytes(data)


def _place_in(file: Path, ending: str) -> int:
    """Return the place of a byte inside the first entry whose name ends so."""
    with zipfile.ZipFile(file) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith(ending))
    lengths = file.read_bytes()[entry.header_offset + 26 : entry.header_offset + 30]
    names = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return entry.header_offset + 30 + names + entry.compress_size // 2


def _write_bad_golden(root: Path) -> None:
    zeros = bytes(16)  # Plus(1) answers 1
    sample = Sample(
        [SampleTensor("x", DataType.FP32, (1, 4), zeros)],
        [SampleTensor("y", DataType.FP32, (1, 4), zeros)],
    )
    attached = {EXTRA_FILE: write_samples([sample])}
    write_model(root, "bad_golden", Plus(1), [X], [Y], attached=attached)


def _write_links(root: Path, outside: Path, right: Path) -> None:
    shutil.copytree(right.parents[1], outside / "model")
    (root / "leads_out").symlink_to(outside / "model")
    shutil.copytree(right.parents[1], root / "link_out")
    file = root / "link_out" / "1" / "model.pt"
    file.unlink()
    file.symlink_to(outside / "model" / "1" / "model.pt")


def _write_bomb(file: Path) -> None:
    """Add a gigabyte of zeros, which take a megabyte."""
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open(f"{archive.namelist()[0].partition('/')[0]}/code/bomb.py", "w") as entry,
    ):
        for _ in range(64):
            entry.write(bytes(1 << 24))
