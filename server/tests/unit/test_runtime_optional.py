"""Inputs that a request may leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import Masked, Needy, OptionalKey, PuppetDevice, Scaled, Twice, fp32
from slot_bench import Bench, texts_raw

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.runtime.device import CpuDevice, Device
from jitney.runtime.instance import InputView
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

Y2 = (fp32("y", "N", 2),)


def maybe(name: str, datatype: DataType = DataType.FP32, *shape: int | str) -> TensorSpec:
    """Return the description of an optional input."""
    return TensorSpec(name, datatype, shape or ("N", 2), optional=True)


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
@pytest.mark.parametrize("optimise", ["off", "frozen", "optimised"])
def test_an_optional_input_may_be_left_out(tmp_path: Path, device: Device, optimise: str) -> None:
    """Then its argument has its default, in batches of any size and in any form."""
    signature = Signature((fp32("x", "N", 2), maybe("shift")), (*Y2, fp32("same", "N", 2)))
    bench = Bench(Scaled(), signature, device, tmp_path / "m.pt", optimise=optimise)

    assert bench.instance.report.batchable
    for rows in (1, 3):
        x = torch.ones(rows, 2)
        assert bench.answer(x, None) == [[2.0, 2.0]] * rows
        assert bench.answer(x, x) == [[3.0, 3.0]] * rows


def test_optional_texts_may_be_left_out(tmp_path: Path) -> None:
    """An argument ``Optional[List[str]] = None`` takes BYTES."""
    words = maybe("words", DataType.BYTES, "N")
    bench = Bench(
        Masked(), Signature((fp32("x", "N", 2), words), Y2), CpuDevice(), tmp_path / "m.pt"
    )
    data = texts_raw(b"abc")
    bench.slot[64 : 64 + len(data)] = data
    bench.slot[:8] = bytes(8)
    x = InputView(DataType.FP32, (1, 2), bench.slot[:8])
    text = InputView(DataType.BYTES, (1,), bench.slot[64 : 64 + len(data)])

    (output,) = bench.instance.execute([x, text], 1, bench.out, lambda: 0.0).outputs

    assert bench.read(output).tolist() == [[3.0, 3.0]]
    assert bench.answer(torch.ones(1, 2), None) == [[1.0, 1.0]]


def test_a_key_that_is_left_out_is_not_in_the_dict(tmp_path: Path) -> None:
    """A model that takes one dict asks it whether the key is there."""
    signature = Signature((fp32("x", "N", 2), maybe("shift")), Y2)
    bench = Bench(OptionalKey(), signature, CpuDevice(), tmp_path / "m.pt")

    assert bench.answer(torch.ones(1, 2), None) == [[1.0, 1.0]]
    assert bench.answer(torch.ones(1, 2), torch.ones(1, 2)) == [[2.0, 2.0]]


def test_batches_without_optional_inputs_are_proved_as_well(tmp_path: Path) -> None:
    """A model that mixes its rows only then is given one request at a time."""
    signature = Signature((fp32("x", "N", 2), maybe("mask")), Y2)

    good = Bench(Masked(), signature, CpuDevice(), tmp_path / "m.pt").instance.report
    bad = Bench(Masked(mixes=True), signature, CpuDevice(), tmp_path / "m.pt").instance.report

    assert (good.batchable, bad.batchable) == (True, False)
    assert bad.batchable_why.startswith("without its optional inputs, output 'y' of a row changes")


@pytest.mark.parametrize(
    ("module", "spec", "text"),
    [
        (Needy(), maybe("shift"), "the model fails without its optional inputs shift: .*no shift"),
        (Twice(), maybe("x"), "the input 'x' is optional, and its argument 'x' has no default"),
    ],
)
def test_what_a_model_needs_is_not_optional(
    tmp_path: Path, module: nn.Module, spec: TensorSpec, text: str
) -> None:
    """It is refused when it is loaded, not when the first request leaves it out."""
    inputs = (spec,) if spec.name == "x" else (fp32("x", "N", 2), spec)

    with pytest.raises(ModelError, match=text) as caught:
        Bench(module, Signature(inputs, Y2), CpuDevice(), tmp_path / "m.pt")

    assert caught.value.reason == "MODEL_SIGNATURE"
