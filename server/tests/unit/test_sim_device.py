"""Tests of simulated devices and models, without a process and without time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed, ModelError, OutputTooLarge
from jitney.load_options import LoadOptions
from jitney.repository.archive import Kind, read_archive
from jitney.runtime.interface import InputView
from jitney.signature import Signature, TensorSpec
from jitney.testing.sim_device import SimDevice, Span
from jitney.testing.sim_model import SimModel, read_sim_model, write_sim_model
from jitney.testing.sim_worker import SimInstance, SimRuntime

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = Signature(
    (TensorSpec("x", DataType.FP32, ("N", 2)),), (TensorSpec("y", DataType.FP32, ("N", 2)),)
)
OPTIONS = LoadOptions("sim", 1, IDENTITY, max_batch_size=8)


class Bed:
    """A device that sleeps as long as it should, and a bit longer."""

    def __init__(self, overshoot: float = 0.0) -> None:
        self.now = 1024.0
        self._overshoot = overshoot
        self.device = SimDevice(self._wait_until)

    def _wait_until(self, moment: float) -> None:
        self.now = max(self.now, moment) + self._overshoot

    def run(self, seconds: float, *, now: float | None = None) -> Span:
        """Run a batch that comes at ``now``, or as soon as the one before was reported."""
        return self.device.run(seconds, self.now if now is None else now)

    def instance(self, model: SimModel) -> SimInstance:
        """Return a loaded model."""
        return SimInstance(OPTIONS, model, self.device, random.Random(1))  # noqa: S311  # noise

    def execute(self, instance: SimInstance, data: bytes, out: memoryview) -> tuple[Span, bytes]:
        """Run a batch of ``data``; return its stamps and what was written."""
        rows = len(data) // 8
        view = InputView(DataType.FP32, (rows, 2), memoryview(data))
        ran = instance.execute([view], rows, out, lambda: self.now)
        [output] = ran.outputs
        written = bytes(out[output.offset : output.offset + output.nbytes])
        return Span(ran.started, ran.copied_out), written


def test_a_batch_on_a_free_device_begins_when_it_comes() -> None:
    """A batch on an idle device begins at once and takes exactly its time."""
    bed = Bed()

    assert bed.run(0.5) == Span(1024.0, 1024.5)


def test_sleeping_too_long_makes_no_batch_longer() -> None:
    """What a sleep overshoots delays the next batch's arrival and adds to no batch's time."""
    bed = Bed(overshoot=0.25)

    assert bed.run(0.5) == Span(1024.0, 1024.5)
    assert bed.run(0.5) == Span(1024.75, 1025.25)
    assert bed.device.busy_seconds == 1.0


def test_a_batch_that_came_early_begins_when_the_one_before_was_to_end() -> None:
    """A batch that waited behind another begins at its end, however late that was noticed."""
    bed = Bed(overshoot=0.25)
    bed.run(0.5)

    assert bed.run(0.5, now=1024.25) == Span(1024.5, 1025.0)


def test_time_grows_with_the_rows() -> None:
    """A batch takes beta, and alpha for each of its rows."""
    model = SimModel(alpha=0.25, beta=2.0)

    assert [model.seconds(rows) for rows in (1, 4)] == [2.25, 3.0]


def test_buckets_take_the_time_of_the_next_size() -> None:
    """With buckets a batch takes as long as the next of them that is as large."""
    model = SimModel(alpha=0.25, beta=2.0, buckets=(1, 4, 8))

    assert [model.seconds(rows) for rows in (1, 2, 4, 5)] == [2.25, 3.0, 3.0, 4.0]


def test_noise_is_around_the_mean() -> None:
    """The mean of noisy times is the time without noise."""
    model = SimModel(alpha=0.0, beta=1.0, noise=0.05)
    rng = random.Random(1)  # noqa: S311  # noise

    times = [model.drawn_seconds(1, rng) for _ in range(4000)]

    assert sum(times) / len(times) == pytest.approx(1.0, abs=0.005)
    assert len(set(times)) == 4000


def test_profile_is_the_formula() -> None:
    """The profile of a load has the formula's seconds, and says whether the device pads."""
    padded = SimModel(alpha=0.25, beta=2.0, noise=0.1, buckets=(1, 8)).profile(8)

    assert (padded.sizes, padded.seconds) == ((1, 8), (2.25, 4.0))
    assert (padded.spread, padded.padded) == ((0.1, 0.1), True)
    assert SimModel(alpha=0.25, beta=2.0).profile(8).padded is False


def test_a_written_model_reads_as_torchscript_with_its_signature(tmp_path: Path) -> None:
    """The server takes a simulated model for a model like any other, and the worker reads it."""
    model = SimModel(alpha=0.001, beta=0.02, noise=0.05, buckets=(1, 8))

    file = write_sim_model(tmp_path, "sim", model, max_rows=8, width=2)

    archive = read_archive(file)
    assert archive.kind is Kind.TORCHSCRIPT
    assert archive.signature == IDENTITY
    assert read_sim_model(str(file)) == model


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    """A file that is no simulated model is refused by its worker."""
    (tmp_path / "model.pt").write_bytes(b"PK")

    with pytest.raises(ModelError, match="not a simulated model"):
        read_sim_model(str(tmp_path / "model.pt"))


def test_outputs_are_the_inputs_after_the_models_time() -> None:
    """A batch returns its bytes, stamped with the model's time and not with the sleep's."""
    bed = Bed(overshoot=0.25)
    instance = bed.instance(SimModel(alpha=0.25, beta=1.0))

    span, written = bed.execute(instance, bytes(range(16)), memoryview(bytearray(64)))

    assert written == bytes(range(16))
    assert span == Span(1024.0, 1025.5)


def test_outputs_that_do_not_fit_are_refused() -> None:
    """A slot that is too small is told as a real runtime tells it."""
    bed = Bed()
    instance = bed.instance(SimModel(alpha=0.25, beta=1.0))

    with pytest.raises(OutputTooLarge):
        bed.execute(instance, bytes(16), memoryview(bytearray(15)))


def test_a_closed_model_runs_nothing() -> None:
    """After its end a model answers with a failure."""
    bed = Bed()
    instance = bed.instance(SimModel(alpha=0.25, beta=1.0))
    instance.close()

    with pytest.raises(InferenceFailed, match="unloaded"):
        bed.execute(instance, bytes(8), memoryview(bytearray(64)))


def test_loading_reports_the_profile(tmp_path: Path) -> None:
    """A load says how long batches take, and up to how many rows."""
    model = SimModel(alpha=0.25, beta=2.0)
    file = write_sim_model(tmp_path, "sim", model, max_rows=8, width=2)

    loaded = SimRuntime("sim:0", SimDevice()).load(str(file), OPTIONS, lambda _: None)

    assert loaded.report.max_batch_size == 8
    assert loaded.report.latency == model.profile(8)


def test_only_identities_are_simulated(tmp_path: Path) -> None:
    """A signature whose outputs are not its inputs is refused, because nothing would be right."""
    file = write_sim_model(tmp_path, "sim", SimModel(alpha=0.25, beta=2.0), max_rows=8, width=2)
    outputs = (TensorSpec("y", DataType.FP32, ("N", 3)),)
    options = LoadOptions("sim", 1, Signature(IDENTITY.inputs, outputs), max_batch_size=8)

    with pytest.raises(ModelError, match="return their inputs"):
        SimRuntime("sim:0", SimDevice()).load(str(file), options, lambda _: None)
