"""The sweep over the buckets, with durations that a script decides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import X4, PuppetDevice, fp32

from jitney.datatypes import DataType
from jitney.errors import OutputTooLarge
from jitney.runtime.device import CpuDevice
from jitney.runtime.interface import Execution, InputView
from jitney.runtime.random_inputs import RandomInputs
from jitney.runtime.scratch import Scratch
from jitney.runtime.warmup import WarmUp
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.device import Device


class ScriptedForward:
    """A ``runtime.forward.Forward`` that takes ``seconds(rows, run)``, and counts its runs."""

    def __init__(
        self,
        seconds: Callable[[int, int], float],
        device: Device | None = None,
        signature: Signature = X4,
    ) -> None:
        self.signature = signature
        self.device = device or CpuDevice()
        self.mode = torch.inference_mode
        self.seconds = seconds
        self.runs: list[int] = []
        self.seen: list[bytes] = []

    def run(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        bucket: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Note a run and what it was given; the clock is the script's."""
        del out, now
        assert rows == bucket
        number = self.runs.count(rows)
        self.runs.append(rows)
        assert all(view is not None and view.shape[0] == rows for view in inputs)
        self.seen.append(b"".join(bytes(view.data) for view in inputs if view is not None))
        return Execution(1.0, 1.0, 1.0, 1.0 + self.seconds(rows, number), [])

    def sweep(
        self, *buckets: int, most_runs: int = 10, budget: float = 1e9, width: int = 4
    ) -> WarmUp:
        """Warm up."""
        shapes = [(width,)] * len(self.signature.inputs)
        source = RandomInputs(self.signature, shapes, self.device.torch_device)
        warmth = WarmUp(
            self,  # type: ignore[arg-type]  # it has what is asked for
            source,
            most_runs=most_runs,
            budget=budget,
            progress=lambda _: None,
        )
        warmth.run(buckets)
        return warmth


def test_the_first_runs_are_discarded() -> None:
    """Three runs until two agree, then five, of which the median counts."""
    times = [39, 7, 7, 1.0, 1.2, 1.1, 9.0, 1.1]
    forward = ScriptedForward(lambda _, run: times[run])

    profile = forward.sweep(1).profile(padded=False)

    assert 8 == len(forward.runs)
    assert (1.1,) == pytest.approx(profile.seconds)
    assert 1.4826 * 0.1 / 1.1 == pytest.approx(profile.spread[0])


def test_runs_go_on_until_they_agree() -> None:
    """A speed that still falls is run up to the limit."""
    forward = ScriptedForward(lambda _, run: 2.0**-run)
    forward.sweep(1, most_runs=7)

    assert 7 + 5 == len(forward.runs)


@pytest.mark.parametrize(("seconds", "times"), [(1.0, 5), (0.004, 5), (0.0015, 13), (1e-5, 25)])
def test_short_runs_are_timed_more_often(seconds: float, times: int) -> None:
    """A disturbance is long beside a run of microseconds, so there are more of them."""
    forward = ScriptedForward(lambda _, __: seconds)
    forward.sweep(1)

    assert 3 + times == len(forward.runs)


def test_the_largest_goes_first() -> None:
    """Each bucket is done before the next smaller one."""
    forward = ScriptedForward(lambda rows, _: 0.01 * rows)
    warmth = forward.sweep(1, 4, 2)

    assert [4] * 8 + [2] * 8 + [1] * 8 == forward.runs
    assert (1, 2, 4) == warmth.profile(padded=True).sizes
    assert warmth.profile(padded=True).padded


def test_large_models_are_run_less() -> None:
    """Beyond the budget a bucket is run twice, and far beyond it once."""
    forward = ScriptedForward(lambda rows, _: float(rows))
    profile = forward.sweep(1, 2, 4, 8, 16, budget=20).profile(padded=False)

    counts = {rows: forward.runs.count(rows) for rows in (16, 8, 4, 2, 1)}
    assert {16: 4, 8: 2, 4: 2, 2: 1, 1: 1} == counts
    assert (1.0, 2.0, 4.0, 8.0, 16.0) == profile.seconds
    assert (0.05,) * 5 == profile.spread

    forward = ScriptedForward(lambda rows, _: float(rows))
    forward.sweep(1, 2, 4, 8, 16, budget=10)
    assert {16: 4, 8: 1} == {rows: forward.runs.count(rows) for rows in (16, 8)}


def test_devices_that_compile_sizes_are_always_warmed() -> None:
    """Where a new size is compiled, only timed runs are saved."""
    forward = ScriptedForward(lambda rows, _: float(rows), PuppetDevice())
    forward.sweep(1, 16, budget=10)

    assert {16: 4, 1: 4} == {rows: forward.runs.count(rows) for rows in (16, 1)}


def test_the_budget_is_shared() -> None:
    """Timed runs of a bucket take its share of what is left, but there are never less than one."""
    forward = ScriptedForward(lambda _, __: 1.0)
    forward.sweep(1, 2, budget=9)

    assert [2] * (3 + 3) + [1] * (3 + 1) == forward.runs[:10]


def test_inputs_differ_from_run_to_run() -> None:
    """Three sets of values are used in turn; a smaller bucket has the first rows of a larger."""
    forward = ScriptedForward(lambda _, __: 1.0)
    forward.sweep(2, 1)

    assert 3 == len(set(forward.seen[:8]))
    assert forward.seen[0][:16] == forward.seen[8]
    assert 16 == len(forward.seen[8])


def test_texts_are_written_as_the_protocol_does() -> None:
    """Elements of BYTES stand behind their lengths, and are cut by rows."""
    signature = Signature((TensorSpec("t", DataType.BYTES, ("N", 4)),), (fp32("y", "N", 4),))
    forward = ScriptedForward(lambda _, __: 1.0, signature=signature)
    forward.sweep(3, 1)

    first = forward.seen[-1]
    texts = []
    while first:
        size = int.from_bytes(first[:4], "little")
        texts.append(first[4 : 4 + size])
        first = first[4 + size :]
    assert 4 == len(texts)
    assert all(text.isdigit() for text in texts)


def test_what_does_not_fit_is_dropped() -> None:
    """A bucket that runs out of memory is left out, and the device told to give memory back."""

    def seconds(rows: int, _: int) -> float:
        if rows > 4:
            msg = "CUDA out of memory. Tried to allocate 2 GiB"
            raise RuntimeError(msg)
        return 1.0

    device = PuppetDevice()
    warmth = ScriptedForward(seconds, device).sweep(2, 4, 8, 16)

    assert ([16, 8], (2, 4), 2) == (
        warmth.dropped,
        warmth.profile(padded=True).sizes,
        device.released,
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        ScriptedForward(seconds, device).sweep(8, 16)


def test_scratch_grows_to_the_outputs() -> None:
    """Outputs that are larger than the region get a larger one."""
    scratch = Scratch(page_locked=False)
    rooms: list[int] = []

    def forward(out: memoryview) -> Execution:
        rooms.append(len(out))
        if len(out) < 5 << 20:
            msg = "too small"
            raise OutputTooLarge(msg)
        return Execution(0.0, 0.0, 0.0, 0.0, [])

    scratch.run(forward)
    scratch.run(forward)

    assert [1 << 20, 1 << 22, 1 << 24, 1 << 24] == rooms


def test_scratch_aligns_inputs() -> None:
    """Every input begins at a multiple of 64 bytes, and holds what a tensor holds."""
    specs = (fp32("a", "N", 3), TensorSpec("b", DataType.BOOL, ("N", 1)), fp32("c", "N", 0))
    values = [torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[True]]), torch.empty(1, 0)]
    shapes = [tuple(value.shape) for value in values]

    views = Scratch(page_locked=False).fill(specs, shapes, values)

    assert all(view is not None for view in views)
    first, second, empty = (
        torch.frombuffer(v.data, dtype=torch.uint8) if v and len(v.data) else None for v in views
    )
    assert empty is None
    assert first is not None
    assert second is not None
    assert 64 == second.data_ptr() - first.data_ptr()
    assert [1.0, 2.0, 3.0] == first.view(torch.float32).tolist()
    assert [1] == second.tolist()


def test_peaks_of_memory_are_noted() -> None:
    """On Linux the resident set's high-water mark is known for every bucket."""
    warmth = ScriptedForward(lambda _, __: 1.0).sweep(1, 2)

    assert all(0 < measured.peak_bytes < math.inf for measured in warmth.measured.values())
