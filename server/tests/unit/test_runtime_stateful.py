"""Models that keep state on purpose, and are told which row belongs to which sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import X4, Counter, PuppetDevice, Slots, Totals, Twice, fp32
from slot_bench import Bench

from jitney.datatypes import DataType
from jitney.load_report import Golden
from jitney.runtime.device import CpuDevice, Device
from jitney.sequence import Control, ControlKind, SequenceConfig, Strategy, with_controls
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

START = TensorSpec("start", DataType.INT32, ("N", 1), low=1, high=1)
BY_ID = Signature(
    (
        fp32("x", "N", 1),
        START,
        TensorSpec("corrid", DataType.INT64, ("N", 1), low=1, high=9),
    ),
    (fp32("y", "N", 1),),
)
BY_ROW = Signature(
    (fp32("x", "N", 1), START, TensorSpec("ready", DataType.INT32, ("N", 1), low=1, high=1)),
    BY_ID.outputs,
)
DEVICES = pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])


def column(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor with one value per row."""
    return torch.tensor(values, dtype=dtype).view(-1, 1)


def whole(*values: int) -> torch.Tensor:
    """Return INT32 control values, one per row."""
    return column(*values, dtype=torch.int32)


def ids(*values: int) -> torch.Tensor:
    """Return correlation ids, one per row."""
    return column(*values, dtype=torch.int64)


@DEVICES
def test_state_by_sequence_is_kept_between_batches(tmp_path: Path, device: Device) -> None:
    """Each batch goes on where the last one of its sequence ended, whatever its row."""
    bench = Bench(Totals(), BY_ID, device, tmp_path / "m.pt", stateful=True)

    assert bench.answer(column(1, 10, 100), whole(1, 1, 1), ids(4, 5, 6)) == [[1], [10], [100]]
    assert bench.answer(column(3, 2), whole(0, 0), ids(6, 4)) == [[103], [3]]
    assert bench.answer(column(5), whole(0), ids(5)) == [[15]]


@DEVICES
def test_state_by_row_is_not_moved_by_padding(tmp_path: Path, device: Device) -> None:
    """A batch of three rows leaves the fourth as it was, on devices that pad as well."""
    bench = Bench(Slots(), BY_ROW, device, tmp_path / "m.pt", stateful=True)

    bench.run(column(1, 2, 3, 4), whole(1, 1, 1, 1), whole(1, 1, 1, 1))
    bench.run(column(1, 1, 1), whole(0, 0, 0), whole(1, 0, 1))

    assert bench.answer(column(0, 0, 0, 0), whole(0, 0, 0, 0), whole(1, 1, 1, 1)) == [
        *([2.0], [2.0], [4.0], [4.0])
    ]
    assert not bench.instance.report.latency.padded


@DEVICES
def test_proofs_and_warm_up_leave_no_state_behind(tmp_path: Path, device: Device) -> None:
    """What is served starts as the file has it."""
    bench = Bench(Counter(), X4, device, tmp_path / "m.pt", stateful=True)

    assert bench.answer(torch.zeros(2, 4)) == [[1.0] * 4] * 2
    assert bench.answer(torch.zeros(1, 4)) == [[2.0] * 4]


def test_the_report_says_that_state_is_kept_on_purpose(tmp_path: Path) -> None:
    """Batching is allowed without proof, and nothing is compared."""
    report = Bench(Totals(), BY_ID, CpuDevice(), tmp_path / "m.pt", stateful=True).instance.report

    assert (report.batchable, report.max_batch_size, report.form) == (True, 8, "plain")
    assert report.batchable_why == "it keeps state, and is told which row belongs to whom"
    assert (report.golden, report.warnings) == (Golden(0, 0.0), ())
    assert "totals" in report.mutated_state


def test_control_inputs_are_made_up_so_that_a_model_takes_them(tmp_path: Path) -> None:
    """Every row begins a sequence: one that never began could not be continued."""
    clients = Signature((fp32("x", "N", 1),), BY_ID.outputs)
    controls = (
        Control("start", ControlKind.START, DataType.INT32),
        Control("corrid", ControlKind.CORRID, DataType.INT64),
    )
    signature = with_controls(clients, SequenceConfig(Strategy.OLDEST, controls))

    bench = Bench(Totals(), signature, CpuDevice(), tmp_path / "m.pt", stateful=True)

    assert bench.answer(column(1), whole(1), ids(7)) == [[1]]


def test_every_small_batch_size_is_warmed_where_none_can_be_padded(tmp_path: Path) -> None:
    """On a device that compiles each size, somebody would wait for it in the middle of a stream."""
    device = PuppetDevice()

    stateful = Bench(Twice(), X4, device, tmp_path / "m.pt", stateful=True).instance.report
    stateless = Bench(Twice(), X4, device, tmp_path / "m.pt").instance.report

    assert (stateful.buckets, stateless.buckets) == (tuple(range(1, 9)), (1, 2, 4, 8))
