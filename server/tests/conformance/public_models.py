"""The models that the public clients of the protocol expect, in the folder layout of Triton.

Contracts are those that the example programs and the quality-assurance programs of Triton's client
repository assume. What computes is TorchScript made here; what only hands bytes on is built in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["DTYPES", "LABELS", "write_public_models"]

LABELS: Final = 1000
"""Classes of the image model; the label of class 7 is ``CLASS 7``."""

DTYPES: Final = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "FP32": torch.float32,
    "FP64": torch.float64,
    "BF16": torch.bfloat16,
}
"""Datatypes of the protocol with which TorchScript computes."""


class AddSub(torch.nn.Module):
    """``simple``: the sum and the difference."""

    def forward(
        self,
        INPUT0: torch.Tensor,  # noqa: N803
        INPUT1: torch.Tensor,  # noqa: N803
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return INPUT0 + INPUT1, INPUT0 - INPUT1


class AddSubText(torch.nn.Module):
    """``simple_string``: the same of decimal numbers in texts."""

    def forward(self, INPUT0: list[str], INPUT1: list[str]) -> tuple[list[str], list[str]]:  # noqa: N803
        sums: list[str] = []
        differences: list[str] = []
        for i in range(len(INPUT0)):
            sums.append(str(int(INPUT0[i]) + int(INPUT1[i])))
            differences.append(str(int(INPUT0[i]) - int(INPUT1[i])))
        return sums, differences


class Sequence(torch.nn.Module):
    """``simple_sequence``: adds 1 to the first value of a sequence."""

    def forward(
        self,
        INPUT: torch.Tensor,  # noqa: N803
        START: torch.Tensor,  # noqa: N803
        READY: torch.Tensor,  # noqa: N803
    ) -> torch.Tensor:
        return INPUT + START * READY


class DynaSequence(torch.nn.Module):
    """``simple_dyna_sequence``: adds the correlation id to the last value as well."""

    def forward(
        self,
        INPUT: torch.Tensor,  # noqa: N803
        START: torch.Tensor,  # noqa: N803
        READY: torch.Tensor,  # noqa: N803, ARG002
        END: torch.Tensor,  # noqa: N803
        CORRID: torch.Tensor,  # noqa: N803
    ) -> torch.Tensor:
        return INPUT + START + END * CORRID.to(torch.int32)


class Accumulator(torch.nn.Module):
    """``accumulate``: the running sum of each sequence, kept by row."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(rows, 1, dtype=torch.int32))

    def forward(
        self,
        INPUT: torch.Tensor,  # noqa: N803
        START: torch.Tensor,  # noqa: N803
        READY: torch.Tensor,  # noqa: N803
    ) -> torch.Tensor:
        rows = INPUT.size(0)
        before = torch.where(START == 1, torch.zeros_like(INPUT), self.sums[:rows])
        after = torch.where(READY == 1, before + INPUT, self.sums[:rows])
        self.sums[:rows] = after
        return after


class Image(torch.nn.Module):
    """A small network under a large one's name: what matters is its contract."""

    def __init__(self, classes: int, *, last: bool) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.last = last
        self.conv = torch.nn.Conv2d(3, 8, 7, stride=8)
        self.head = torch.nn.Linear(8, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.last:
            image = image.unsqueeze(0).permute(0, 3, 1, 2)
        scores = self.head(torch.relu(self.conv(image)).mean(dim=(2, 3)))
        return scores.reshape(-1) if self.last else scores


class Negate(torch.nn.Module):
    """``-x``, or ``not x``; whatever its type."""

    def __init__(self, *, flag: bool) -> None:
        super().__init__()
        self.flag = flag

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logical_not(x) if self.flag else x * 3


class Optional(torch.nn.Module):
    """``a + b``, with b twos where it is left out."""

    def forward(self, a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return a + 2 if b is None else a + b


class Rows(torch.nn.Module):
    """The sum of every row, of any length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True)


class Scalar(torch.nn.Module):
    """Twice a tensor without dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Picky(torch.nn.Module):
    """Raises on numbers that no warm-up makes up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x > 1000).any()):
            raise ValueError("too large")  # noqa: EM101, TRY003
        return x


SIMPLE: Final = """
platform: "pytorch_libtorch"
max_batch_size: 8
input [
  {{ name: "INPUT0" data_type: {0} dims: [ 16 ] }},
  {{ name: "INPUT1" data_type: {0} dims: [ 16 ] }}
]
output [
  {{ name: "OUTPUT0" data_type: {0} dims: [ 16 ] }},
  {{ name: "OUTPUT1" data_type: {0} dims: [ 16 ] }}
]
"""
START_READY: Final = """
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START {0}: [ 0, 1 ] }} ] }},
    {{ name: "READY" control [ {{ kind: CONTROL_SEQUENCE_READY {0}: [ 0, 1 ] }} ] }}
""".format("int32_false_true")
DYNA: Final = """,
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
"""
ONE_INT: Final = """
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
IDENTITY: Final = """
backend: "identity"
max_batch_size: {rows}
input [ {{ name: "INPUT0" data_type: {datatype} dims: [ {dims} ] }} ]
output [ {{ name: "OUTPUT0" data_type: {datatype} dims: [ {dims} ] }} ]
"""
DELAY: Final = (
    'parameters [ { key: "execute_delay_ms" value: { string_value: "%d" } } ]\n'  # of milliseconds
)
ONE_TO_ONE: Final = """
backend: "pytorch"
max_batch_size: {rows}
input [ {{ name: "{x}" data_type: {datatype} dims: [ {dims} ] {more} }} ]
output [ {{ name: "{y}" data_type: {datatype} dims: [ {out} ] {out_more} }} ]
"""


def write_public_models(root: Path, names: Iterable[str] = ()) -> None:
    """Write the models, or those of these names, into a folder."""
    wanted = set(names)
    for name, (module, config) in _models().items():
        if wanted and name not in wanted:
            continue
        folder = root / name
        (folder / "1").mkdir(parents=True)
        (folder / "config.pbtxt").write_text(f'name: "{name}"\n{config.strip()}\n')
        if module is not None:
            torch.jit.script(module.eval()).save(folder / "1" / "model.pt")
        if "label_filename" in config:
            labels = "".join(f"CLASS {i}\n" for i in range(1001))
            (folder / "labels.txt").write_text(labels)


def _models() -> dict[str, tuple[torch.nn.Module | None, str]]:
    batching = "dynamic_batching { }\n"
    models: dict[str, tuple[torch.nn.Module | None, str]] = {
        "simple": (AddSub(), SIMPLE.format("TYPE_INT32") + batching),
        "simple_int8": (AddSub(), SIMPLE.format("TYPE_INT8")),
        "simple_string": (AddSubText(), SIMPLE.format("TYPE_STRING")),
        "simple_identity": (None, IDENTITY.format(rows=8, datatype="TYPE_STRING", dims=-1)),
        "simple_sequence": (
            Sequence(),
            (
                'platform: "pytorch_libtorch"\nmax_batch_size: 8\n'
                f"{ONE_INT} sequence_batching {{ max_sequence_idle_microseconds: 5000000"
                f"{START_READY}] }}"
            ),
        ),
        "simple_dyna_sequence": (
            DynaSequence(),
            (
                'platform: "pytorch_libtorch"\nmax_batch_size: 8\n'
                f"{ONE_INT} sequence_batching {{ oldest {{ max_candidate_sequences: 1024 }}\n"
                f"  max_sequence_idle_microseconds: 5000000 {START_READY}{DYNA}] }}"
            ),
        ),
        "accumulate": (
            Accumulator(4),
            (
                'platform: "pytorch_libtorch"\nmax_batch_size: 4\n'
                f"{ONE_INT} sequence_batching {{ direct {{ }}\n"
                f"  max_sequence_idle_microseconds: 1000000 {START_READY}] }}"
            ),
        ),
        "densenet_onnx": (
            Image(LABELS, last=False),
            (
                'platform: "pytorch_libtorch"\nmax_batch_size: 0\n'
                'input [ { name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW '
                "dims: [ 3, 224, 224 ] reshape { shape: [ 1, 3, 224, 224 ] } } ]\n"
                'output [ { name: "fc6_1" data_type: TYPE_FP32 dims: [ 1000 ] '
                'reshape { shape: [ 1, 1000 ] } label_filename: "labels.txt" } ]'
            ),
        ),
        "inception_onnx": (
            Image(LABELS + 1, last=True),
            (
                'platform: "pytorch_libtorch"\nmax_batch_size: 0\n'
                'input [ { name: "input:0" data_type: TYPE_FP32 format: FORMAT_NHWC '
                "dims: [ 299, 299, 3 ] } ]\n"
                'output [ { name: "InceptionV3/Predictions/Softmax:0" data_type: TYPE_FP32 '
                'dims: [ 1001 ] label_filename: "labels.txt" } ]'
            ),
        ),
        "repeat_int32": (
            None,
            (
                'backend: "repeat"\nmax_batch_size: 0\n'
                "model_transaction_policy { decoupled: true }\n"
                'input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },'
                ' { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },'
                ' { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] } ]\n'
                'output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },'
                ' { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] } ]'
            ),
        ),
        "custom_identity_int32": (
            None,
            IDENTITY.format(rows=1024, datatype="TYPE_INT32", dims=-1) + DELAY % 300,
        ),
        "custom_zero_1_float32": (
            None,
            IDENTITY.format(rows=1, datatype="TYPE_FP32", dims=-1)
            + DELAY % 200
            + "dynamic_batching { default_queue_policy { max_queue_size: 2 } }",
        ),
        "identity_fp32": (None, IDENTITY.format(rows=0, datatype="TYPE_FP32", dims="-1, -1")),
        "identity_bytes": (None, IDENTITY.format(rows=0, datatype="TYPE_STRING", dims=-1)),
        "parameter": (
            None,
            (
                'backend: "echo"\nmax_batch_size: 0\n'
                'input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] } ]\n'
                'output [ { name: "key" data_type: TYPE_STRING dims: [ -1 ] },'
                ' { name: "value" data_type: TYPE_STRING dims: [ -1 ] } ]'
            ),
        ),
        "optional": (
            Optional(),
            (
                'backend: "pytorch"\nmax_batch_size: 8\n'
                'input [ { name: "a" data_type: TYPE_FP32 dims: [ 4 ] },'
                ' { name: "b" data_type: TYPE_FP32 dims: [ 4 ] optional: true } ]\n'
                'output [ { name: "sum" data_type: TYPE_FP32 dims: [ 4 ] } ]'
            ),
        ),
        "rows": (
            Rows(),
            (
                'backend: "pytorch"\nmax_batch_size: 16\n'
                'input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
                'output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 1 ] } ]\n' + batching
            ),
        ),
        "scalar": (
            Scalar(),
            ONE_TO_ONE.format(
                rows=0, x="x", y="y", datatype="TYPE_FP32", dims="", out="", more="", out_more=""
            ),
        ),
        "picky": (
            Picky(),
            ONE_TO_ONE.format(
                rows=8, x="x", y="y", datatype="TYPE_FP32", dims=4, out=4, more="", out_more=""
            ),
        ),
        "untouched": (None, IDENTITY.format(rows=0, datatype="TYPE_FP32", dims=-1)),
        "large": (None, IDENTITY.format(rows=0, datatype="TYPE_FP32", dims=-1)),
    }
    for name in DTYPES:
        models[f"libtorch_{name.lower()}"] = (
            Negate(flag=name == "BOOL"),
            ONE_TO_ONE.format(
                rows=8,
                x="INPUT__0",
                y="OUTPUT__0",
                datatype=f"TYPE_{name}",
                dims=-1,
                out=-1,
                more="",
                out_more="",
            ),
        )
    return models
