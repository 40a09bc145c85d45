"""Running batches: bytes of a slot in, bytes and stamps out."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import (
    DIGITS,
    X4,
    AsFloat,
    Digits,
    InPlace,
    Picky,
    PuppetDevice,
    Same,
    Shouted,
    Sums,
    Texts,
    Twice,
    fp32,
)
from slot_bench import Bench, texts_raw

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed, InputRejected, OutOfDeviceMemory, OutputTooLarge
from jitney.runtime.device import CpuDevice, Device
from jitney.runtime.faults import DeviceFault
from jitney.runtime.instance import InputView
from jitney.runtime.outputs import WrittenOutput
from jitney.runtime.tensors import DTYPES
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
def test_a_batch_is_answered_like_the_model_alone(
    tmp_path: Path, device: Device, rows: int
) -> None:
    """Padded or not, the outputs have exactly the batch's rows."""
    torch.manual_seed(rows)
    module = Digits()
    bench = Bench(module, DIGITS, device, tmp_path / "m.pt")
    image = torch.randn(rows, 1, 8, 8)

    (output,) = bench.run(image).outputs

    assert output == WrittenOutput(DataType.FP32, (rows, 10), 0, rows * 40, -1)
    with torch.no_grad():
        torch.testing.assert_close(bench.read(output), module(image))


def test_stamps_are_taken_in_order(tmp_path: Path) -> None:
    """One reading of the clock per stage, each after the stage."""
    execution = Bench(Twice(), X4, CpuDevice(), tmp_path / "m.pt").run(torch.ones(1, 4))

    assert execution[:4] == (0.0, 1.0, 2.0, 3.0)


def test_outputs_are_read_only_after_the_device_settled(tmp_path: Path) -> None:
    """A device that copies late gets the chance to."""
    device = PuppetDevice()
    bench = Bench(Twice(), X4, device, tmp_path / "m.pt")

    execution = bench.run(torch.ones(3, 4))

    assert bench.read(execution.outputs[0]).tolist() == [[2.0] * 4] * 3
    assert (device.pending, execution.started, execution.copied_out) == ([], 0.0, 4.0)


def test_several_outputs_are_aligned(tmp_path: Path) -> None:
    """Each starts at a multiple of 64 bytes."""
    signature = Signature(
        (fp32("a", "N", 3), fp32("b", "N", 3)),
        (fp32("sum", "N", 3), fp32("difference", "N", 3)),
    )
    bench = Bench(Sums(), signature, CpuDevice(), tmp_path / "m.pt")

    outputs = bench.run(torch.full((2, 3), 5.0), torch.full((2, 3), 3.0)).outputs

    assert [(o.offset, o.nbytes) for o in outputs] == [(0, 24), (64, 24)]
    assert [bench.read(o).tolist() for o in outputs] == [[[8.0] * 3] * 2, [[2.0] * 3] * 2]


NUMBERS = [datatype for datatype in DataType if datatype is not DataType.BYTES]
EDGES = {
    DataType.BOOL: [False, True, True],
    DataType.UINT8: [0, 1, 255],
    DataType.UINT16: [0, 1, 65535],
    DataType.UINT32: [0, 1, (1 << 32) - 1],
    DataType.UINT64: [0, 1, (1 << 64) - 1],
    DataType.INT8: [-128, 1, 127],
    DataType.INT16: [-32768, 1, 32767],
    DataType.INT32: [-(1 << 31), 1, (1 << 31) - 1],
    DataType.INT64: [-(1 << 63), 1, (1 << 63) - 1],
    DataType.FP16: [-0.0, 65504.0, 6e-8],
    DataType.BF16: [-0.0, 3e38, 1e-40],
    DataType.FP32: [-0.0, 3.4e38, 1e-45],
    DataType.FP64: [-0.0, 1.7e308, 5e-324],
}


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_datatype_passes_through(tmp_path: Path, datatype: DataType, device: Device) -> None:
    """The bytes that come out are those that went in, the largest and the smallest values too."""
    spec = TensorSpec("x", datatype, ("N", 3))
    signature = Signature((spec,), (TensorSpec("y", datatype, ("N", 3)),))
    bench = Bench(Same(), signature, device, tmp_path / "m.pt")
    x = torch.tensor([EDGES[datatype]] * 3, dtype=DTYPES[datatype])

    (output,) = bench.run(x).outputs

    assert (output.nbytes, output.datatype) == (9 * datatype.item_size, datatype)
    assert bytes(bench.out[: output.nbytes]) == bytes(bench.slot[: output.nbytes])


@pytest.mark.parametrize("shape", [(), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_datatype_may_be_a_scalar_or_empty(
    tmp_path: Path, datatype: DataType, shape: tuple[int, ...]
) -> None:
    """Where there is no batch dimension, a tensor has one element, or none."""
    declared = tuple(size or -1 for size in shape)
    signature = Signature(
        (TensorSpec("x", datatype, declared),), (TensorSpec("y", datatype, declared),)
    )
    bench = Bench(Same(), signature, CpuDevice(), tmp_path / "m.pt")
    x = torch.ones(shape, dtype=DTYPES[datatype])

    (output,) = bench.run(x, rows=1).outputs

    assert (output.shape, output.nbytes) == (shape, x.numel() * datatype.item_size)
    assert bench.read(output).tolist() == x.tolist()


@pytest.mark.parametrize("datatype", [DataType.UINT16, DataType.UINT32, DataType.UINT64])
def test_unsigned_numbers_are_served_to_models_that_convert_them_first(
    tmp_path: Path, datatype: DataType
) -> None:
    """Torch stores them and computes nothing with them, so the proofs must not either."""
    signature = Signature((TensorSpec("x", datatype, ("N", 3)),), (fp32("y", "N", 3),))
    bench = Bench(AsFloat(), signature, PuppetDevice(), tmp_path / "m.pt")
    x = torch.tensor([[0, 7, 65535]] * 3, dtype=DTYPES[datatype])

    (output,) = bench.run(x).outputs

    assert bench.instance.report.batchable
    assert bench.read(output).tolist() == [[0.0, 7.0, 65535.0]] * 3


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_dimensions_of_size_zero_are_served(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Tensors without elements take no bytes, and no view of the slot."""
    signature = Signature((fp32("x", -1, -1),), (fp32("y", -1, -1),))
    bench = Bench(Twice(), signature, CpuDevice(), tmp_path / "m.pt")

    (output,) = bench.run(torch.empty(shape), rows=1).outputs

    assert (output.shape, output.nbytes) == (shape, 0)


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
def test_rows_may_be_empty(tmp_path: Path, device: Device) -> None:
    """Three rows of nothing come back as three rows of nothing."""
    signature = Signature((fp32("x", "N", -1),), (fp32("y", "N", -1),))
    bench = Bench(Twice(), signature, device, tmp_path / "m.pt")

    (output,) = bench.run(torch.empty(3, 0)).outputs

    assert (output.shape, output.nbytes) == ((3, 0), 0)


def test_a_model_that_writes_its_inputs_does_not_write_the_slot(tmp_path: Path) -> None:
    """A batch that is run again finds its inputs as they were."""
    bench = Bench(InPlace(), X4, CpuDevice(), tmp_path / "m.pt")

    first = bench.read(bench.run(torch.ones(2, 4)).outputs[0])

    assert bytes(bench.slot[:32]) == torch.ones(2, 4).numpy().tobytes()
    assert first.tolist() == [[2.0] * 4] * 2


TEXTS = Signature(
    (TensorSpec("text", DataType.BYTES, ("N", 2)),),
    (
        TensorSpec("shouted", DataType.BYTES, ("N", 2)),
        TensorSpec("length", DataType.INT64, ("N",)),
    ),
)


class PairTexts(Texts):
    """One length per pair of texts; texts of TorchScript are bytes, and only ASCII has capitals."""

    def forward(self, text: list[str]) -> tuple[list[str], torch.Tensor]:  # noqa: D102
        shouted: list[str] = []
        lengths = torch.zeros(len(text) // 2, dtype=torch.int64)
        for index in range(len(text)):
            lengths[index // 2] += len(text[index])
            shouted.append(text[index].upper())
        return shouted, lengths


@pytest.mark.parametrize("shape", [(), (0,), (2, 2)], ids=str)
def test_texts_may_be_a_scalar_or_empty(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A list has no shape, so it has to have as many elements as the declared one."""
    declared = tuple(size or -1 for size in shape)
    signature = Signature(
        (TensorSpec("text", DataType.BYTES, declared),),
        (TensorSpec("shouted", DataType.BYTES, declared),),
    )
    bench = Bench(Shouted(), signature, CpuDevice(), tmp_path / "m.pt")
    data = texts_raw(*[b"a"] * math.prod(shape))
    bench.slot[: len(data)] = data
    view = InputView(DataType.BYTES, shape, bench.slot[: len(data)])

    (output,) = bench.instance.execute([view], 1, bench.out, lambda: 0.0).outputs

    assert (output.shape, output.row_offsets_at) == (shape, -1)
    assert bytes(bench.out[: output.nbytes]) == data.replace(b"a", b"A")


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
def test_texts_come_back_with_the_offsets_of_their_rows(tmp_path: Path, device: Device) -> None:
    """Rows + 1 offsets, relative to the data, tell where each row starts and ends."""
    bench = Bench(PairTexts(), TEXTS, device, tmp_path / "m.pt")
    data = texts_raw(b"a", b"", "ü".encode(), b"cde", b"f", b"gh")
    bench.slot[: len(data)] = data
    view = InputView(DataType.BYTES, (3, 2), bench.slot[: len(data)])

    texts, lengths = bench.instance.execute([view], 3, bench.out, lambda: 0.0).outputs

    expected = texts_raw(b"A", b"", "ü".encode(), b"CDE", b"F", b"GH")
    assert (texts.shape, bytes(bench.out[: texts.nbytes])) == ((3, 2), expected)
    assert struct.unpack_from("<4Q", bench.out, texts.row_offsets_at) == (0, 9, 22, 33)
    assert (lengths.offset, bench.read(lengths).tolist()) == (128, [1, 5, 3])


def test_bytes_that_are_no_text_are_the_requests_fault(tmp_path: Path) -> None:
    """The error names the input and the element; the model is not run."""
    bench = Bench(PairTexts(), TEXTS, CpuDevice(), tmp_path / "m.pt")
    data = texts_raw(b"a", b"\xff")
    bench.slot[: len(data)] = data
    view = InputView(DataType.BYTES, (1, 2), bench.slot[: len(data)])

    with pytest.raises(InputRejected, match="input 'text': element 1 is not UTF-8"):
        bench.instance.execute([view], 1, bench.out, lambda: 0.0)


@pytest.mark.parametrize("device", [CpuDevice(), PuppetDevice()], ids=["cpu", "padding"])
def test_a_failed_batch_leaves_the_instance_as_it_was(tmp_path: Path, device: Device) -> None:
    """What the model raised, or returned wrongly, is told; the next batch is answered."""
    bench = Bench(Picky(), X4, device, tmp_path / "m.pt")

    with pytest.raises(
        InferenceFailed, match=r"^the model raised: ValueError: too large$"
    ) as caught:
        bench.run(torch.full((2, 4), 101.0))
    with pytest.raises(InferenceFailed, match=r"output 'y': expected FP32 .* returned float64"):
        bench.run(torch.full((2, 4), -101.0))

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert bench.read(bench.run(torch.ones(1, 4)).outputs[0]).tolist() == [[2.0] * 4]


def test_outputs_that_do_not_fit_say_what_they_need(tmp_path: Path) -> None:
    """Nothing is written, and the same batch runs in a larger slot."""
    bench = Bench(Twice(), X4, CpuDevice(), tmp_path / "m.pt")

    with pytest.raises(OutputTooLarge, match="the outputs take 128 bytes, a slot has 100"):
        bench.run(torch.ones(8, 4), out=100)

    assert bytes(bench.out[:100]) == bytes(100)
    (output,) = bench.run(torch.ones(8, 4), out=128).outputs
    assert (output.offset, output.nbytes) == (0, 8 * 4 * 4)


def test_a_batch_that_runs_out_of_memory_frees_what_it_took(tmp_path: Path) -> None:
    """The allocator's blocks go back, so that half the batch has a chance."""
    device = PuppetDevice()
    bench = Bench(Twice(), X4, device, tmp_path / "m.pt")
    device.released = 0
    device.failures = [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]

    with pytest.raises(OutOfDeviceMemory, match="a batch of 3 rows does not fit into the memory"):
        bench.run(torch.ones(3, 4))

    assert device.released == 1
    assert bench.read(bench.run(torch.ones(1, 4)).outputs[0]).tolist() == [[2.0] * 4]


@pytest.mark.parametrize(
    "failures",
    [
        [RuntimeError("CUDA error: device-side assert triggered")],
        [RuntimeError("something odd"), RuntimeError("CUDA error: unspecified launch failure")],
    ],
)
def test_a_lost_device_is_told_from_a_failed_batch(
    tmp_path: Path, failures: list[Exception]
) -> None:
    """Also when it only shows while the failed batch is waited for."""
    device = PuppetDevice()
    bench = Bench(Twice(), X4, device, tmp_path / "m.pt")
    device.failures = list(failures)

    with pytest.raises(DeviceFault):
        bench.run(torch.ones(3, 4))


def test_a_closed_instance_refuses_batches(tmp_path: Path) -> None:
    """Closing twice is fine."""
    bench = Bench(Twice(), X4, CpuDevice(), tmp_path / "m.pt")
    bench.instance.close()
    bench.instance.close()

    with pytest.raises(InferenceFailed, match="the model was unloaded"):
        bench.run(torch.ones(1, 4))
    assert repr(bench.instance) == "<Instance m/1 cpu closed>"
