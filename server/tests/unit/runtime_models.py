"""Tiny scripted models, one for each thing that loading and running have to cope with."""

# The models are what authors write, not what this project does.
# ruff: noqa: D102, EM101, TRY003

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from jitney.datatypes import DataType
from jitney.runtime.device import CpuDevice
from jitney.samples import EXTRA_FILE, Sample, write_samples
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jitney.runtime.device import Marks

# TorchScript evaluates annotations, so those of `forward` are not under TYPE_CHECKING.
from typing import Dict, List, Optional, Tuple  # noqa: UP035  # what the compiler understands

# Two threads for a model of ten numbers cost more in waking each other than they compute, and many
# times that where tests run side by side.
torch.set_num_threads(1)


class Digits(nn.Module):
    """A small convolutional classifier of 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 36, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(torch.relu(self.norm(self.convolution(image))).flatten(1))
        return scores


class Twice(nn.Module):
    """Twice its input, whatever the shape and type."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Same(nn.Module):
    """Its input itself, not a copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Centred(nn.Module):
    """Mixes rows: takes the mean over the batch off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class Remembering(nn.Module):
    """Adds the row before, which it keeps; made for one row at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.last
        self.last.copy_(x)
        return y


class Counter(nn.Module):
    """Writes a buffer, a number and a list of its own in every run."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: torch.Tensor
        self.register_buffer("runs", torch.zeros(()))
        self.number = 0
        self.seen = [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs.add_(1)
        self.number += 1
        self.seen.append(1)
        return x + self.runs


class Noise(nn.Module):
    """Draws random numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class InPlace(nn.Module):
    """Writes its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


class Folded(nn.Module):
    """Always returns two rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(2, -1)


class Picky(nn.Module):
    """Raises where a value is above 100, and returns doubles where one is below -100."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x > 100).any()):
            raise ValueError("too large")
        if bool((x < -100).any()):
            return x.double()
        return x + 1


class Roots(nn.Module):
    """NaN for negative inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sqrt()


class Pooled(nn.Module):
    """Needs images of 16x16 at least."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(2) < 16:
            raise ValueError("too small")
        return x.mean((2, 3))


class Sums(nn.Module):
    """Two inputs, a dict of two outputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Dict[str, torch.Tensor]:  # noqa: UP006
        return {"sum": a + b, "difference": a - b}


class Scaled(nn.Module):
    """Defaults before, between and after what the signature names."""

    def forward(
        self,
        x: torch.Tensor,
        scale: float = 2.0,
        shift: Optional[torch.Tensor] = None,  # noqa: UP045
        negate: bool = False,  # noqa: FBT001, FBT002  # torch calls by position
    ) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        y = x * scale
        if shift is not None:
            y = y + shift
        return -y if negate else y, x


class FromDict(nn.Module):
    """Takes one dict of tensors."""

    def forward(self, inputs: Dict[str, torch.Tensor]) -> List[torch.Tensor]:  # noqa: UP006
        return [inputs["a"] + inputs["b"]]


class Texts(nn.Module):
    """Texts in; texts and their lengths out."""

    def forward(self, text: List[str]) -> Tuple[List[str], torch.Tensor]:  # noqa: UP006
        lengths = torch.zeros(len(text), dtype=torch.int64)
        shouted: List[str] = []  # noqa: UP006
        for index in range(len(text)):
            lengths[index] = len(text[index])
            shouted.append(text[index].upper())
        return shouted, lengths


class Shouted(nn.Module):
    """Texts in capitals."""

    def forward(self, text: List[str]) -> List[str]:  # noqa: UP006
        return [one.upper() for one in text]


class AsFloat(nn.Module):
    """Its input as FP32, whatever the type."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float32)


class Masked(nn.Module):
    """Two optional inputs, of which one is a list of texts; without a mask it mixes rows."""

    def __init__(self, *, mixes: bool = False) -> None:
        super().__init__()
        self.mixes = mixes

    def forward(
        self,
        x: torch.Tensor,
        mask: Optional[torch.Tensor] = None,  # noqa: UP045
        words: Optional[List[str]] = None,  # noqa: UP006, UP045
    ) -> torch.Tensor:
        if mask is not None:
            x = x * mask
        elif self.mixes:
            x = x - x.mean(0)
        if words is not None:
            x = x + torch.tensor([len(word) for word in words]).unsqueeze(1)
        return x


class OptionalKey(nn.Module):
    """Takes one dict, of which one key may be left out."""

    def forward(self, inputs: Dict[str, torch.Tensor]) -> torch.Tensor:  # noqa: UP006
        y = inputs["x"]
        if "shift" in inputs:
            y = y + inputs["shift"]
        return y


class Needy(nn.Module):
    """Says that it can do without its second input, and cannot."""

    def forward(
        self,
        x: torch.Tensor,
        shift: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> torch.Tensor:
        if shift is None:
            raise ValueError("no shift")
        return x + shift


class Rotated(nn.Module):
    """Takes rows of 2x3 only, and gives them as 3x2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 3 or x.size(1) != 2 or x.size(2) != 3:
            raise ValueError("no rows of 2x3")
        return x.transpose(1, 2)


class Lookup(nn.Module):
    """Fails on ids outside its table of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.table(ids)
        return rows.sum(1)


class Totals(nn.Module):
    """Adds up what each sequence sent, by its id; a sequence that did not start is an error."""

    def __init__(self) -> None:
        super().__init__()
        # A class annotation would be a text to the compiler, which does not look names up in it.
        empty: Any = torch.jit.Attribute({}, Dict[int, torch.Tensor])  # noqa: UP006
        self.totals: dict[int, torch.Tensor] = empty

    def forward(self, x: torch.Tensor, start: torch.Tensor, corrid: torch.Tensor) -> torch.Tensor:
        answers: List[torch.Tensor] = []  # noqa: UP006
        for row in range(x.size(0)):
            key = int(corrid[row].item())
            if bool(start[row].item()):
                self.totals[key] = x[row]
            else:
                self.totals[key] = self.totals[key] + x[row]
            answers.append(self.totals[key])
        return torch.stack(answers)


class Slots(nn.Module):
    """Adds up what each row sent, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.totals: torch.Tensor
        self.register_buffer("totals", torch.zeros(8, 1))

    def forward(self, x: torch.Tensor, start: torch.Tensor, ready: torch.Tensor) -> torch.Tensor:
        rows = x.size(0)
        kept = self.totals[:rows] * (1 - start)
        self.totals[:rows] = torch.where(ready != 0, kept + x, self.totals[:rows])
        return self.totals[:rows].clone()


def fp32(name: str, *shape: int | str) -> TensorSpec:
    """Return the description of a tensor of FP32."""
    return TensorSpec(name, DataType.FP32, shape)


X4 = Signature((fp32("x", "N", 4),), (fp32("y", "N", 4),))
DIGITS = Signature((fp32("image", "N", 1, 8, 8),), (fp32("scores", "N", 10),))


def save(
    module: nn.Module,
    path: Path,
    *,
    samples: Sequence[Sample] = (),
    traced_with: torch.Tensor | None = None,
) -> str:
    """Script (or trace) a module into a file, and return its path."""
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if traced_with is None:
            program = torch.jit.script(module)
        else:
            program = torch.jit.trace(module, (traced_with,))  # type: ignore[no-untyped-call]
        extra = {EXTRA_FILE: write_samples(samples)} if samples else {}
        torch.jit.save(program, str(path), _extra_files=extra)
    return str(path)


class Copy(NamedTuple):
    """A copy from the device that was asked for and has not happened."""

    target: torch.Tensor
    source: torch.Tensor


class PuppetDevice(CpuDevice):
    """Behaves like CUDA as far as anybody can see: it pads, and copies back only when it settles.

    ``failures`` are raised by the next calls of ``wait`` and ``settle``, in order; None is none.
    """

    pads = True

    def __init__(self, failures: Sequence[Exception | None] = ()) -> None:
        super().__init__("cuda:3")
        self.pending: list[Copy] = []
        self.failures = list(failures)
        self.released = 0

    def fetch(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Note the copy."""
        self.pending.append(Copy(target, source))

    def settle(self, marks: Marks, now: Callable[[], float]) -> Marks:
        """Do the copies; everything ended just now."""
        self._fail()
        for copy in self.pending:
            copy.target.copy_(copy.source)
        self.pending.clear()
        end = now()
        return (marks[0], end, end, end)

    def wait(self) -> None:
        """Forget the copies of a batch that failed."""
        self._fail()
        self.pending.clear()

    def release(self) -> None:
        """Count."""
        self.released += 1

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
