"""perf_analyzer, the load generator for this protocol: how to run it, and what it reported.

Its binary lies in the wheel of tritonclient 2.41.0; ``make compat`` puts it, and the libraries that
it is linked with, into a folder of their own.
"""

from __future__ import annotations

import csv
import functools
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import tritonclient.grpc as triton

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Counts", "Level", "PerfAnalyzer", "Run"]

FOLDER: Final = Path(__file__).resolve().parents[3] / ".compat"
BINARY: Final = FOLDER / "tritonclient-2.41/bin/perf_analyzer"
LIBRARIES: Final = ("cudart/nvidia/cuda_runtime/lib", "libb64/usr/lib/*")
NOT_LINKED: Final = 127
"""The exit code of a program whose libraries are not found."""
PATIENCE: Final = 60.0

WINDOW_MS: Final = 500
WINDOWS: Final = ("-p", f"{WINDOW_MS}", "-r", "3", "-s", "999")
"""Three windows, and whatever they say is stable enough: this is about counts, not speed."""
COMPLAINTS: Final = re.compile(r"fail|error|unable|not |exceed", re.IGNORECASE)
TOLERATED: Final = (
    "was not able to keep up",  # of a shared machine, and no matter of the protocol
    "requests were delayed",
)

# To the end of the line: the summary at the end names every level again.
HEADING: Final = re.compile(
    r"^Request (?:concurrency|Rate): ([\d.]+)(?: inference requests per seconds)?$", re.MULTILINE
)
# Averages of microseconds, summed by perf_analyzer from what ModelStatistics said.
SERVER_TIMES: Final = re.compile(
    r"Avg request latency: (\d+) usec \(overhead (\d+) usec \+ queue (\d+) usec"
    r" \+ compute input (\d+) usec \+ compute infer (\d+) usec \+ compute output (\d+) usec\)"
)


class Counts(NamedTuple):
    """Counters of ModelStatistics, or how far they moved."""

    success: int
    fail: int
    queue: int
    inferences: int
    executions: int


class Level(NamedTuple):
    """What was reported of one level of load; ``limit`` is the concurrency, or the rate.

    Requests and latency (mean, in microseconds) as the client saw them; the rest as the server
    told it. ``server_parts`` are overhead, queue, and the three of compute.
    """

    limit: float
    requests: int
    latency_us: int
    inferences: int
    executions: int
    successes: int
    server_us: int
    server_parts: tuple[int, ...]


class Run(NamedTuple):
    """One run: what it printed, level by level, its table, and how the server's counters moved."""

    output: str
    levels: list[Level]
    table: list[dict[str, str]]
    moved: Counts

    @property
    def complaints(self) -> list[str]:
        """Return the lines that tell that something was not as it should be."""
        return [
            line.strip()
            for line in self.output.splitlines()
            if COMPLAINTS.search(line) and not any(words in line for words in TOLERATED)
        ]


class PerfAnalyzer:
    """Runs perf_analyzer against one server.

    The test is skipped, with the reason, where the program or one of its libraries is missing.
    """

    def __init__(self, address: str, folder: Path) -> None:
        if why := _missing():
            pytest.skip(why)
        self._address = address
        self._folder = folder

    def run(self, model: str, *flags: str) -> Run:
        """Load a model; return what was reported.

        :raises AssertionError: when it does not end well.
        """
        table = self._folder / f"{len(list(self._folder.glob('*.csv')))}.csv"
        before = self._counts(model)
        output = self._run("-m", model, "-f", str(table), "--verbose-csv", *WINDOWS, *flags)
        moved = Counts(*(b - a for a, b in zip(before, self._counts(model), strict=True)))
        with table.open(newline="") as file:
            return Run(output, list(_levels(output)), list(csv.DictReader(file)), moved)

    def _run(self, *flags: str) -> str:
        done = subprocess.run(
            [str(BINARY), "-i", "grpc", "-u", self._address, *flags],
            cwd=self._folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert 0 == done.returncode, done.stdout[:4000]
        return done.stdout

    def _counts(self, model: str) -> Counts:
        with triton.InferenceServerClient(self._address) as client:
            (stats,) = client.get_inference_statistics(model).model_stats
        inner = stats.inference_stats
        return Counts(
            inner.success.count,
            inner.fail.count,
            inner.queue.count,
            stats.inference_count,
            stats.execution_count,
        )


def _levels(output: str) -> Sequence[Level]:
    parts = HEADING.split(output)[1:]
    return [_level(float(n), text) for n, text in zip(parts[::2], parts[1::2], strict=True)]


def _level(limit: float, text: str) -> Level:
    def figure(words: str) -> int:
        found = re.search(rf"^ +{words}: (\d+)", text, re.MULTILINE)
        assert found is not None, f"no {words!r} in\n{text}"
        return int(found[1])

    times = SERVER_TIMES.search(text)
    assert times is not None, f"no times of the server in\n{text}"
    whole, *parts = map(int, times.groups())
    return Level(
        limit,
        figure("Request count"),
        figure("Avg latency"),
        figure("Inference count"),
        figure("Execution count"),
        figure("Successful request count"),
        whole,
        tuple(parts),
    )


@functools.cache
def _missing() -> str:
    """Return why the program does not run here; nothing when it does."""
    if not BINARY.exists():
        return "perf_analyzer is not installed: run `make compat`"
    try:
        done = subprocess.run(
            [str(BINARY), "--version"],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except OSError as error:  # made for another machine
        return f"perf_analyzer does not run here: {error}"
    return done.stderr.strip() if done.returncode == NOT_LINKED else ""


def _environment() -> dict[str, str]:
    folders = [str(path) for pattern in LIBRARIES for path in sorted(FOLDER.glob(pattern))]
    before = os.environ.get("LD_LIBRARY_PATH")
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, *([before] if before else [])])}
