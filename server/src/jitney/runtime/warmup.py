"""Running every bucket until its speed is steady, and measuring it, before anybody waits for it."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from jitney.latency_profile import LatencyProfile
from jitney.load_options import LEAST_WARMUP_RUNS
from jitney.runtime.faults import classify
from jitney.runtime.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.forward import Forward
    from jitney.runtime.random_inputs import RandomInputs
    from jitney.runtime.tensors import Value

__all__ = ["Measured", "WarmUp"]

AGREEMENT: Final = 0.1
TIMED_RUNS: Final = 5
SHORT_RUNS: Final = 25
SHORT_SECONDS: Final = 0.02
"""Short runs are repeated for so long, as often as that: an interruption is as long as they are."""
INPUT_SETS: Final = 3
"""Different inputs, taken in turn: making them anew for every run would take longer than running
small models does."""
FAR_BEYOND: Final = 4
NORMAL_MAD: Final = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""
ONE_RUN_SPREAD: Final = 0.05
"""What is assumed where one run does not tell."""
LEAST_SECONDS: Final = 1e-9


class Measured(NamedTuple):
    """A bucket's median in seconds, its relative spread, and the peak of memory in bytes."""

    seconds: float
    spread: float
    peak_bytes: int


class WarmUp:
    """The sweep over the buckets of one model.

    Batches go through ``Forward``, from page-locked host memory and back into it, because the time
    that a schedule needs is that between a batch's two ends. (Rejected: to time the program alone,
    as the choice of its form does. Copies and checks are up to half of a small batch.)

    What is seen of each bucket: at least three discarded runs, until two agree within 10 %, then
    five timed ones (up to 25 where they are short), of which the median counts. The spread is made
    of medians too: workers load side by side and disturb each other, which says nothing about how
    they will serve.

    ``budget`` bounds it in seconds, because large models on the CPU would take minutes. There a
    new size costs at most about twice, once, so beyond the budget two runs do, and far beyond one.
    A device that pads compiles new sizes, so there only timed runs are saved.
    """

    def __init__(
        self,
        forward: Forward,
        source: RandomInputs,
        *,
        most_runs: int,
        budget: float,
        progress: Callable[[str], None],
    ) -> None:
        self.measured: dict[int, Measured] = {}
        self.dropped: list[int] = []
        """The buckets that did not fit into the device's memory."""
        self._forward = forward
        self._source = source.on(torch.device("cpu"))
        self._most_runs = most_runs
        self._budget = budget
        self._progress = progress
        self._spent = 0.0
        self._scratch = Scratch(page_locked=forward.device.torch_device.type == "cuda")
        self._inputs: list[list[Value | None]] = []
        self._input_rows = 0

    def run(self, buckets: Sequence[int]) -> None:
        """Measure buckets.

        The largest goes first: then the allocator has its high-water mark at once, and what does
        not fit is known before the rest is compiled.

        :raises Exception: what the model raises, and out of memory if no bucket fits.
        """
        device = self._forward.device
        ordered = sorted(buckets, reverse=True)
        for position, rows in enumerate(ordered):
            self._progress(f"warm up {rows} rows")
            measured = None
            try:
                with device.active(), self._forward.mode():
                    measured = self._measure(rows, len(ordered) - position)
            except Exception as exc:
                last = position == len(ordered) - 1 and not self.measured
                if last or classify(exc) != "oom":
                    raise
            # Outside the handler, where the tensors in the frames of the error are free.
            if measured is None:
                device.release()
                self.dropped.append(rows)
            else:
                self.measured[rows] = measured

    def profile(self, *, padded: bool) -> LatencyProfile:
        """Return what was measured so far."""
        table = sorted(self.measured.items())
        return LatencyProfile(
            tuple(rows for rows, _ in table),
            tuple(measured.seconds for _, measured in table),
            tuple(measured.spread for _, measured in table),
            padded,
        )

    def _measure(self, rows: int, left: int) -> Measured:
        device = self._forward.device
        device.watch_memory()
        runs = self._discard(rows)
        times = 1
        if runs and self._spent < self._budget:
            share = (self._budget - self._spent) / left
            most = max(TIMED_RUNS, min(SHORT_RUNS, int(SHORT_SECONDS / runs[-1])))
            times = max(1, min(most, int(share / runs[-1])))
        timed = [self._once(rows, number) for number in range(times)]
        median = statistics.median(timed)
        residuals = [abs(seconds / median - 1.0) for seconds in timed]
        spread = NORMAL_MAD * statistics.median(residuals) if times > 1 else ONE_RUN_SPREAD
        return Measured(median, spread, device.peak_memory())

    def _discard(self, rows: int) -> list[float]:
        """Run until the speed is steady, or as often as there is time."""
        most = self._most_runs
        if not self._forward.device.pads and self._spent > self._budget:
            most = 1 if self._spent <= FAR_BEYOND * self._budget else 0
        runs: list[float] = []
        while len(runs) < most:
            runs.append(self._once(rows, len(runs)))
            if len(runs) >= LEAST_WARMUP_RUNS:
                last, before = runs[-1], runs[-2]
                if abs(last - before) <= AGREEMENT * min(last, before):
                    break
        return runs

    def _once(self, rows: int, number: int) -> float:
        forward = self._forward
        views = self._scratch.fill(
            forward.signature.inputs, self._source.shapes(rows), self._values(rows, number)
        )
        forward.device.wait()
        ran = self._scratch.run(lambda out: forward.run(views, rows, rows, out, time.monotonic))
        seconds = max(LEAST_SECONDS, ran.copied_out - ran.started)
        self._spent += seconds
        return seconds

    def _values(self, rows: int, number: int) -> list[Value | None]:
        if rows > self._input_rows:
            self._inputs = [self._source.make(rows, seed=3 + seed) for seed in range(INPUT_SETS)]
            self._input_rows = rows
        largest = self._input_rows
        return [
            value if value is None or rows == largest else value[: len(value) // largest * rows]
            for value in self._inputs[number % INPUT_SETS]
        ]
