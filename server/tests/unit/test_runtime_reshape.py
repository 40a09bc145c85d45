"""Rows that clients see with other dimensions than the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import PuppetDevice, Rotated, Texts, Twice, fp32
from slot_bench import Bench

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed, ModelError
from jitney.runtime.device import CpuDevice, Device
from jitney.runtime.reshape import Reshape
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


def reshaped(name: str, *shape: int | str, to: tuple[int, ...]) -> TensorSpec:
    """Return the description of a tensor that the model has as rows of ``to``."""
    return replace(fp32(name, *shape), reshape=to)


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
@pytest.mark.parametrize("optimise", ["off", "optimised"])
def test_a_model_takes_and_gives_rows_of_its_own_dimensions(
    tmp_path: Path, device: Device, optimise: str
) -> None:
    """Clients send 6 numbers and get 6, the model takes 2x3 and gives 3x2."""
    signature = Signature((reshaped("x", "N", 6, to=(2, 3)),), (reshaped("y", "N", 6, to=(3, 2)),))
    bench = Bench(Rotated(), signature, device, tmp_path / "m.pt", optimise=optimise)

    (output,) = bench.run(torch.arange(18.0).view(3, 6)).outputs

    assert (bench.instance.report.batchable, output.shape) == (True, (3, 6))
    assert bench.read(output)[0].tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]


def test_a_model_without_batch_dimension_is_reshaped_as_a_whole(tmp_path: Path) -> None:
    """An image without batch goes into a model that insists on a batch of one."""
    signature = Signature((reshaped("x", 2, 3, to=(1, 2, 3)),), (reshaped("y", 6, to=(1, 3, 2)),))
    bench = Bench(Rotated(), signature, CpuDevice(), tmp_path / "m.pt")

    assert bench.answer(torch.arange(6.0).view(2, 3), rows=1) == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]


def test_sizes_that_vary_keep_their_values() -> None:
    """The n-th of one side is the n-th of the other."""
    view = Reshape("input", "x", (-1, 4, -1), (2, 2, -1, 1, -1), 1)
    back = Reshape("output", "x", (2, 2, -1, 1, -1), (-1, 4, -1), 1)
    with pytest.raises(InferenceFailed, match="input 'x': expected rows, -1, 4, -1 before it is"):
        view(torch.zeros(7, 3, 5, 2))
    # Not a reshape that fits_reshape allows; only the sizes matter here.
    value = view(torch.zeros(7, 3, 4, 2))

    assert isinstance(value, torch.Tensor)
    assert tuple(value.shape) == (7, 2, 2, 3, 1, 2)
    assert tuple(back(value).shape) == (7, 3, 4, 2)  # type: ignore[union-attr]  # a tensor


def test_texts_have_no_shape_to_change(tmp_path: Path) -> None:
    """A list of texts is flat on both sides."""
    signature = Signature(
        (TensorSpec("text", DataType.BYTES, ("N", 1), reshape=()),),
        (
            TensorSpec("shouted", DataType.BYTES, ("N", 1), reshape=()),
            TensorSpec("length", DataType.INT64, ("N", 1), reshape=()),
        ),
    )

    assert Bench(Texts(), signature, CpuDevice(), tmp_path / "m.pt").instance.report.batchable


def test_an_output_of_other_dimensions_is_not_bent_into_shape(tmp_path: Path) -> None:
    """As many elements are not enough: the text says what the model was to give."""
    signature = Signature((fp32("x", "N", 4),), (reshaped("y", "N", 4, to=(2, 2)),))

    with pytest.raises(ModelError, match=r"output 'y': expected rows, 2, 2 before it is reshaped"):
        Bench(Twice(), signature, CpuDevice(), tmp_path / "m.pt")
