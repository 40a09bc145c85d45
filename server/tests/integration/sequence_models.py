"""Models that keep state between requests, or act as if: those of Triton's examples, and ours."""

# The models are what authors write, not what this project does.
# ruff: noqa: N803

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from tiny_models import MAX_ROWS, Tensor, write_model
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# TorchScript evaluates annotations, so those of `forward` are not under TYPE_CHECKING.
from typing import Dict, List  # noqa: UP035  # what the compiler understands

__all__ = ["Control", "write_sequence_model", "write_sequence_models"]


class Control(NamedTuple):
    """A table of ``[[sequence.control]]``."""

    kind: str
    datatype: str = "INT32"
    values: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the table; the input has the name of the kind, in capitals."""
        yield "[[sequence.control]]"
        yield f'name = "{self.kind.upper()}"'
        yield f'kind = "{self.kind}"'
        yield f'datatype = "{self.datatype}"'
        if self.values:
            yield f"values = {self.values}"


class SimpleSequence(nn.Module):
    """``simple_sequence`` of Triton's examples: its input, plus 1 at the start."""

    def forward(
        self, INPUT: torch.Tensor, START: torch.Tensor, READY: torch.Tensor
    ) -> torch.Tensor:
        return torch.where(READY != 0, INPUT + START, INPUT)


class SimpleDynaSequence(nn.Module):
    """``simple_dyna_sequence``: the same, and the correlation id on top at the end."""

    def forward(
        self,
        INPUT: torch.Tensor,
        START: torch.Tensor,
        END: torch.Tensor,
        READY: torch.Tensor,
        CORRID: torch.Tensor,
    ) -> torch.Tensor:
        last = END * CORRID.to(torch.int64).to(torch.int32)
        return torch.where(READY != 0, INPUT + START + last, INPUT)


class SimpleStringDynaSequence(nn.Module):
    """``simple_string_dyna_sequence``: sums by id, a text that spells a number; that at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = torch.jit.Attribute({}, Dict[str, torch.Tensor])  # noqa: UP006

    def forward(
        self,
        INPUT: torch.Tensor,
        START: torch.Tensor,
        END: torch.Tensor,
        READY: torch.Tensor,
        CORRID: List[str],  # noqa: UP006
    ) -> torch.Tensor:
        output = INPUT.clone()
        for row in range(INPUT.size(0)):
            if int(READY[row, 0]) != 0:
                key = CORRID[row]
                total = INPUT[row].clone()
                if int(START[row, 0]) == 0 and key in self.sums:
                    total = total + self.sums[key]
                self.sums[key] = total
                output[row] = total
                if int(END[row, 0]) != 0:
                    output[row] = total + int(key)
                    self.sums.pop(key)
        return output


class SumByRow(nn.Module):
    """The sum of a sequence so far, kept in the row of a buffer in which the sequence stands."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(rows, 1))

    def forward(self, x: torch.Tensor, START: torch.Tensor, READY: torch.Tensor) -> torch.Tensor:
        rows = x.size(0)
        before = self.sums[:rows]
        after = torch.where(START, x, before + x)
        self.sums[:rows] = torch.where(READY, after, before)
        return after


class SumByIdentity(nn.Module):
    """The sum of a sequence so far, kept under its correlation id."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = torch.jit.Attribute({}, Dict[int, torch.Tensor])  # noqa: UP006

    def forward(
        self, x: torch.Tensor, START: torch.Tensor, END: torch.Tensor, CORRID: torch.Tensor
    ) -> torch.Tensor:
        output = x.clone()
        for row in range(x.size(0)):
            key = int(CORRID[row, 0])
            if not bool(START[row, 0]) and key in self.sums:
                output[row] = x[row] + self.sums[key]
            self.sums[key] = output[row].clone()
            if bool(END[row, 0]):
                self.sums.pop(key)
        return output


class SumOfOne(nn.Module):
    """The sum of a sequence so far, without a batch dimension: there is one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1))

    def forward(self, x: torch.Tensor, START: torch.Tensor) -> torch.Tensor:
        self.total[:] = torch.where(START > 0, x, self.total + x)
        return self.total.clone()


def write_sequence_model(
    root: Path,
    name: str,
    module: nn.Module,
    datatype: str,
    controls: Sequence[Control],
    *,
    batched: bool = True,
    options: str = "",
) -> None:
    """Write a model of one number in and one out into a repository.

    :param options: further lines of its table ``[sequence]``.
    """
    shape = '["N", 1]' if batched else "[1]"
    upper = datatype == "INT32"  # as Triton's examples name them
    given, returned = ("INPUT", "OUTPUT") if upper else ("x", "y")
    write_model(
        root,
        name,
        module,
        [Tensor(given, datatype, shape)],
        [Tensor(returned, datatype, shape)],
    )
    lines = ["[sequence]", options]
    for control in controls:
        lines += control.lines()
    with (root / name / "model.toml").open("a") as file:
        file.write("\n" + "\n".join(lines) + "\n")


DYNA: Final = (Control("start"), Control("end"), Control("ready"))
OLDEST: Final = 'strategy = "oldest"'


def write_sequence_models(root: Path) -> None:
    """Write all of them."""
    write_sequence_model(
        root, "simple_sequence", SimpleSequence(), "INT32", [Control("start"), Control("ready")]
    )
    write_sequence_model(
        root,
        "simple_dyna_sequence",
        SimpleDynaSequence(),
        "INT32",
        [*DYNA, Control("corrid", "UINT64")],
        options=OLDEST,
    )
    write_sequence_model(
        root,
        "simple_string_dyna_sequence",
        SimpleStringDynaSequence(),
        "INT32",
        [*DYNA, Control("corrid", "BYTES")],
        options=OLDEST,
    )
    write_sequence_model(
        root,
        "sum_by_row",
        SumByRow(MAX_ROWS),
        "FP32",
        [Control("start", "BOOL"), Control("ready", "BOOL")],
        options="max_idle_ms = 60_000",
    )
    write_sequence_model(
        root,
        "sum_by_identity",
        SumByIdentity(),
        "FP32",
        [Control("start", "BOOL"), Control("end", "BOOL"), Control("corrid", "INT64")],
        options=f"{OLDEST}\nmax_candidates = 5\nmax_idle_ms = 60_000",
    )
    write_sequence_model(
        root,
        "sum_of_one",
        SumOfOne(),
        "FP32",
        [Control("start", "FP32", "[-1.0, 1.0]")],
        batched=False,
        options="max_idle_ms = 100",
    )
