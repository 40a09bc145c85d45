"""Where the server's time goes while ``transport`` runs: functions and threads."""

from __future__ import annotations

import collections
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import models, suite
from benchmarks.process import BenchmarkError
from benchmarks.usage import ThreadUsage, thread_usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.stage import Stage

__all__ = ["profile"]

TOP: Final = 25
SAMPLES_PER_SECOND: Final = 500
RECORD_TIMEOUT: Final = 120.0
LEAST_MICROSECONDS: Final = 0.5
"""Per request; threads below it are left out."""


def profile(stage: Stage, *, native: bool, kind: str) -> str:
    """Load the server as ``transport`` does; return a table of its threads and its functions.

    CPU time is measured in rounds of its own, because sampling slows the server down.
    """
    server = stage.server(models.build_identities(stage.folder / "repository"))
    workload = stage.write(models.identity(suite.MANY.concurrency, suite.ELEMENTS))
    callers = stage.callers(kind)
    shape = suite.MANY._asdict()

    def load(seconds: float) -> int:
        return callers.run(server, server.address, workload, seconds=seconds, **shape).requests

    seconds = stage.effort.rounds * stage.effort.seconds / 2
    load(1.0)
    before = thread_usage(server.pid)
    requests = load(seconds)
    after = thread_usage(server.pid)
    output = stage.folder / "profile"
    sampler = _sampler(server.pid, output, seconds, native=native)
    load(seconds)
    _, errors = sampler.communicate(timeout=RECORD_TIMEOUT)
    if sampler.returncode:
        msg = f"py-spy failed: {errors.strip()}"
        raise BenchmarkError(msg)
    threads = _threads(before, after, requests)
    rate = requests / seconds
    head = f"{requests} requests, {rate:,.0f} requests/s, {suite.KINDS[kind]}, 64 concurrent"
    loop = sum(line.microseconds for line in threads if line.usage.thread == server.pid)
    functions = _self_times(output.read_text(), server.pid)
    return "\n".join([head, "", *map(str, threads), "", *_ranking(functions, loop)])


class _Line:
    """The CPU time of one thread per request."""

    def __init__(self, usage: ThreadUsage, user: float, system: float) -> None:
        self.usage = usage
        self.user = user
        self.system = system

    @property
    def microseconds(self) -> float:
        return self.user + self.system

    def __str__(self) -> str:
        u = self.usage
        what = "event loop or main thread" if u.process == u.thread else u.name
        return (
            f"{self.microseconds:8.1f} µs/request  (user {self.user:6.1f}, system "
            f"{self.system:6.1f})  process {u.process} thread {u.thread} {what}"
        )


def _threads(
    before: Sequence[ThreadUsage], after: Sequence[ThreadUsage], requests: int
) -> list[_Line]:
    known = {usage.thread: usage for usage in before}
    lines = []
    for usage in after:
        start = known.get(usage.thread, usage._replace(user=0.0, system=0.0))
        user = 1e6 * (usage.user - start.user) / requests
        system = 1e6 * (usage.system - start.system) / requests
        if user + system >= LEAST_MICROSECONDS:
            lines.append(_Line(usage, user, system))
    return sorted(lines, key=lambda line: -line.microseconds)


def _sampler(pid: int, output: Path, seconds: float, *, native: bool) -> subprocess.Popen[str]:
    tool = Path(sys.executable).parent / "py-spy"
    if not tool.exists():
        msg = "py-spy is missing: pip install py-spy"
        raise BenchmarkError(msg)
    command = [str(tool), "record", "--pid", str(pid), "--output", str(output), "--format", "raw"]
    command += ["--duration", str(max(1, round(seconds - 1))), "--threads", "--function"]
    command += ["--rate", str(SAMPLES_PER_SECOND), *(["--native"] if native else [])]
    return subprocess.Popen(  # noqa: S603  # our own words
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _self_times(stacks: str, thread: int) -> Mapping[str, int]:
    """Count the samples of one thread by its innermost function; a stack per line, then a count."""
    counts: collections.Counter[str] = collections.Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any(f"({thread}" in frame or "MainThread" in frame for frame in frames[:2]):
            counts[frames[-1]] += int(count)
    return counts


def _ranking(functions: Mapping[str, int], microseconds: float) -> list[str]:
    total = sum(functions.values()) or 1
    lines = [f"self time of the event loop's thread, {total} samples:"]
    ranked = sorted(functions.items(), key=lambda item: -item[1])
    for name, count in ranked[:TOP]:
        share = count / total
        lines.append(f"{share:7.1%}  {share * microseconds:7.1f} µs/request  {name}")
    return lines
