"""perf_analyzer, the public load generator, as one more kind of callers.

``make compat`` puts it and its libraries into a folder of their own.
"""

from __future__ import annotations

import csv
import os
import re
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.process import BenchmarkError, Round
from jitney_client import Client

if TYPE_CHECKING:
    from benchmarks.process import ServerProcess

__all__ = ["analyze"]

FOLDER: Final = Path(__file__).resolve().parents[2] / ".compat"
BINARY: Final = FOLDER / "tritonclient-2.41/bin/perf_analyzer"
LIBRARIES: Final = ("cudart/nvidia/cuda_runtime/lib", "libb64/usr/lib/*")
WINDOWS: Final = 3
"""It reports once this many windows are alike; with 999 % of tolerance, the first ones are."""
STRETCH: Final = 1.2
"""Its windows are this much longer than it is told to make them."""
GRACE: Final = 30.0
TAIL: Final = 2000


def analyze(
    server: ServerProcess, model: str, *flags: str, concurrency: int, seconds: float
) -> Round:
    """Load a model with a closed loop for a round; return what perf_analyzer saw.

    :param flags: of perf_analyzer, beside those that every round has.
    :raises BenchmarkError: when it is not there, or a request failed.
    """
    if not BINARY.exists():
        msg = "perf_analyzer is not installed: run `make compat`"
        raise BenchmarkError(msg)
    window = max(1, round(1000 * seconds / WINDOWS / STRETCH))
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(server.address, timeout=GRACE) as client,
    ):
        table = Path(folder) / "table.csv"
        command = [
            *(str(BINARY), "-i", "grpc", "-u", server.address, "-m", model, *flags),
            *("--concurrency-range", str(concurrency), "--async" if concurrency > 1 else "--sync"),
            *("-p", str(window), "-r", str(WINDOWS), "-s", "999"),
            *("-f", str(table), "--verbose-csv"),
        ]
        answered, failed = _counts(client, model)
        cpu, own = server.cpu_seconds(), _children_seconds()
        began = time.perf_counter()
        output = _run(command, seconds)
        took = time.perf_counter() - began
        spent, busy = server.cpu_seconds() - cpu, _children_seconds() - own
        answered_after, failed_after = _counts(client, model)
        if failed_after > failed or not table.exists():
            raise BenchmarkError(_why(output))
        with table.open(newline="") as file:
            (row,) = csv.DictReader(file)
    found = re.search(r"Request count: (\d+)", output)
    return Round(
        int(found[1]) if found else 0,
        float(row["Inferences/Second"]),
        float(row["p50 latency"]) / 1000,
        float(row["p99 latency"]) / 1000,
        # Of all requests, those outside its windows included: the CPU time is that of all, too.
        1000 * spent / (answered_after - answered),
        busy / took,
    )


def _run(command: list[str], seconds: float) -> str:
    folders = [str(path) for pattern in LIBRARIES for path in sorted(FOLDER.glob(pattern))]
    before = os.environ.get("LD_LIBRARY_PATH")
    path = ":".join([*folders, *([before] if before else [])])
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LD_LIBRARY_PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * seconds + GRACE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"perf_analyzer did not run: {error}"
        raise BenchmarkError(msg) from error
    if done.returncode:
        raise BenchmarkError(_why(done.stdout))
    return done.stdout


def _why(output: str) -> str:
    return f"perf_analyzer failed:\n{output[:TAIL]}"


def _counts(client: Client, model: str) -> tuple[int, int]:
    """Return how many requests for a model were answered, and how many failed."""
    (statistics,) = client.statistics(model)
    inner = statistics.inference_stats
    return inner.success.count, inner.fail.count


def _children_seconds() -> float:
    """Return the CPU seconds of children that have ended, which only perf_analyzer does here."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
