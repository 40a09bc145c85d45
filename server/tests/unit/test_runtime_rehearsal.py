"""What an operator adds to the warm-up: batch sizes, and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import X4, Masked, Picky, PuppetDevice, Remembering, Texts, Twice, fp32, save

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.load_options import LoadOptions
from jitney.runtime.device import CpuDevice, Device
from jitney.runtime.load import load_instance
from jitney.signature import Signature, TensorSpec
from jitney.warmup_sample import WarmupInput, WarmupSample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from jitney.load_report import LoadReport


def load(
    module: nn.Module,
    signature: Signature,
    path: Path,
    *samples: WarmupSample,
    device: Device | None = None,
    buckets: tuple[int, ...] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> LoadReport:
    """Load a model of 8 rows at most, and return its report."""
    options = LoadOptions(*("m", 1, signature, 8), optimise="off", warmup=samples, buckets=buckets)
    return load_instance(
        save(module, path / "m.pt"), options, device or CpuDevice(), progress
    ).report


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
def test_the_operators_batch_sizes_are_measured_with_ours(tmp_path: Path, device: Device) -> None:
    """Those that a batch may have; a device that pads uses them as buckets."""
    report = load(Twice(), X4, tmp_path, device=device, buckets=(3, 6, 9, 16))

    assert report.buckets == (1, 2, 3, 4, 6, 8)
    assert report.warnings == (
        "the buckets 9, 16 are left out: a batch of this model has at most 8 rows",
    )


ROW = torch.tensor([1.0, 2.0, 3.0, 4.0]).numpy().tobytes()
OPTIONAL = Signature(
    (
        fp32("x", "N", "L"),
        TensorSpec("mask", DataType.FP32, ("N", "L"), optional=True),
        TensorSpec("words", DataType.BYTES, ("N",), optional=True),
    ),
    (fp32("y", "N", "L"),),
)


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
@pytest.mark.parametrize(
    "inputs",
    [
        (WarmupInput("x", "zero", (4,)),),
        (WarmupInput("x", "random", (5,)), WarmupInput("mask", "zero", (5,))),
        (WarmupInput("x", "data", (4,), ROW), WarmupInput("words", "zero", ())),
        (WarmupInput("x", "data", (4,), ROW * 3), WarmupInput("words", "random", ())),
        (WarmupInput("x", "zero", (0,)), WarmupInput("words", "data", (), b"\2\0\0\0ab")),
        (WarmupInput("x", "zero", (1,)), WarmupInput("words", "data", (), b"\1\0\0\0a" * 3)),
    ],
)
def test_samples_are_run(tmp_path: Path, device: Device, inputs: tuple[WarmupInput, ...]) -> None:
    """Zeros, random values, and data of one row or of all; optional inputs may be left out."""
    steps: list[str] = []

    load(
        *(Masked(), OPTIONAL, tmp_path, WarmupSample("big", 3, 2, inputs)),
        device=device,
        progress=steps.append,
    )

    assert steps[-2:] == ["warm up without optional inputs", "warm up with the sample big"]


def test_a_sample_of_more_rows_than_a_batch_is_run_in_parts(tmp_path: Path) -> None:
    """That a model turned out to take single rows is no fault of the sample."""
    sample = WarmupSample("s", 3, 1, (WarmupInput("x", "data", (4,), ROW * 3),))

    report = load(Remembering(), X4, tmp_path, sample)

    assert report.max_batch_size == 1


def test_samples_without_batch_dimension_are_whole_tensors(tmp_path: Path) -> None:
    """Their rows mean nothing."""
    signature = Signature((fp32("x", 2, 2),), (fp32("y", 2, 2),))
    sample = WarmupSample("s", 5, 1, (WarmupInput("x", "data", (2, 2), ROW),))

    assert load(Twice(), signature, tmp_path, sample).warnings == ()


@pytest.mark.parametrize(
    ("module", "sample", "text", "reason"),
    [
        (
            Picky(),
            WarmupSample("s", inputs=(WarmupInput("x", "data", (4,), b"\0\0\xc8\x42" * 4),)),
            None,
            "",
        ),
        (
            Picky(),
            WarmupSample("s", inputs=(WarmupInput("x", "data", (4,), b"\0\0\xca\x42" * 4),)),
            "warm-up sample 's': the model raised: ValueError: too large",
            "MODEL_RAISED",
        ),
        (
            Twice(),
            WarmupSample("s", inputs=(WarmupInput("x", "zero", (5,)),)),
            r"warm-up sample 's': input 'x': a row has the shape \[4\], the sample \[5\]",
            "MODEL_SIGNATURE",
        ),
        (
            Twice(),
            WarmupSample("s", 2, inputs=(WarmupInput("x", "data", (4,), ROW[:-1]),)),
            r"FP32 \[2, 4\] takes 32 bytes, or 16 for one row to be repeated; the sample has 15",
            "MODEL_SIGNATURE",
        ),
        (Twice(), WarmupSample("s"), "sample 's': the input 'x' is missing", "MODEL_SIGNATURE"),
        (
            Twice(),
            WarmupSample("s", inputs=(WarmupInput("z", "zero", (4,)),)),
            "warm-up sample 's': the model has no input 'z'",
            "MODEL_SIGNATURE",
        ),
    ],
)
def test_a_sample_that_the_model_does_not_take_is_refused_by_name(
    tmp_path: Path, module: nn.Module, sample: WarmupSample, text: str | None, reason: str
) -> None:
    """The model does not load: whoever wrote the sample expects such requests."""
    if text is None:
        assert load(module, X4, tmp_path, sample).batchable
        return
    with pytest.raises(ModelError, match=text) as caught:
        load(module, X4, tmp_path, sample)

    assert caught.value.reason == reason


def test_data_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    """BYTES are in the protocol's raw form, each element behind its length."""
    signature = Signature(
        (TensorSpec("text", DataType.BYTES, ("N",)),),
        (
            TensorSpec("shouted", DataType.BYTES, ("N",)),
            TensorSpec("length", DataType.INT64, ("N",)),
        ),
    )
    sample = WarmupSample("s", inputs=(WarmupInput("text", "data", (), b"hello"),))

    with pytest.raises(ModelError, match="sample 's': input 'text': expected 1 elements, each"):
        load(Texts(), signature, tmp_path, sample)
