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
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.stage import Stage

__all__ = ["RECORD_TIMEOUT", "profile", "profile_load", "sampler"]

TOP: Final = 25
TOP_PLACES: Final = 10
SAMPLES_PER_SECOND: Final = 500
RECORD_TIMEOUT: Final = 120.0
WAITING: Final = ("epoll_pwait", "epoll_wait")
"""Innermost functions of a loop that waits; py-spy cannot tell it from one that works."""
LEAST_MICROSECONDS: Final = 0.5
"""Per request; threads below it are left out."""


def profile(stage: Stage, kind: str, *, native: bool) -> str:
    """Load the server as ``transport`` does; return a table of its threads and its functions.

    CPU time is measured in a round of its own, because sampling slows the server down. Samples are
    shares of elapsed time: a thread that lost its core inside a system call is seen in it, so on
    busy cores trust the split between user and system time above the shares of system calls.
    Without ``native``, what C code does and waits for is in its Python caller.
    """
    server = stage.server(models.build_identities(stage.folder / "repository"))
    workload = stage.write(models.identity(suite.MANY.concurrency, suite.ELEMENTS))
    callers = stage.callers(kind)
    shape = suite.MANY._asdict()

    def load(seconds: float) -> int:
        return callers.run(server, server.address, workload, seconds=seconds, **shape).requests

    seconds = stage.effort.rounds * stage.effort.seconds / 2
    load(1.0)
    output = stage.folder / "profile"
    requests, lines = profile_load(server.pid, load, seconds, output, native=native)
    rate = requests / seconds
    head = f"{requests} requests, {rate:,.0f} requests/s, {suite.KINDS[kind]}, 64 concurrent"
    return "\n".join([head, "", *lines])


def profile_load(
    server: int, load: Callable[[float], int], seconds: float, output: Path, *, native: bool
) -> tuple[int, list[str]]:
    """Load a server twice, the second time sampled; return the requests of the first, and tables.

    :param server: the process's id.
    :param load: calls the server for so many seconds and returns how often.
    :param output: the file that samples are written to.
    """
    before = thread_usage(server)
    requests = load(seconds)
    after = thread_usage(server)
    process = sampler(server, output, seconds, *(["--native"] if native else []))
    load(seconds)
    _, errors = process.communicate(timeout=RECORD_TIMEOUT)
    if process.returncode:
        msg = f"py-spy failed: {errors.strip()}"
        raise BenchmarkError(msg)
    threads = _threads(server, before, after, requests)
    functions = _self_times(output.read_text(), server)
    return requests, [*map(str, threads), "", *_ranking(functions)]


class _Line:
    """The CPU time of one thread per request."""

    def __init__(self, usage: ThreadUsage, user: float, system: float, main_thread: str) -> None:
        self.usage = usage
        self.main_thread = main_thread
        self.user = user
        self.system = system

    @property
    def microseconds(self) -> float:
        return self.user + self.system

    def __str__(self) -> str:
        u = self.usage
        what = self.main_thread if u.process == u.thread else u.name
        return (
            f"{self.microseconds:8.1f} µs/request  (user {self.user:6.1f}, system "
            f"{self.system:6.1f})  process {u.process} thread {u.thread} {what}"
        )


def _threads(
    server: int, before: Sequence[ThreadUsage], after: Sequence[ThreadUsage], requests: int
) -> list[_Line]:
    known = {usage.thread: usage for usage in before}
    lines = []
    for usage in after:
        start = known.get(usage.thread, usage._replace(user=0.0, system=0.0))
        user = 1e6 * (usage.user - start.user) / requests
        system = 1e6 * (usage.system - start.system) / requests
        if user + system >= LEAST_MICROSECONDS:
            name = "the event loop" if usage.process == server else "a worker's main thread"
            lines.append(_Line(usage, user, system, name))
    return sorted(lines, key=lambda line: -line.microseconds)


def sampler(
    pid: int, output: Path, seconds: float, *flags: str, kind: str = "raw"
) -> subprocess.Popen[str]:
    """Start py-spy on a process; it ends by itself about a second before ``seconds`` are over.

    :param kind: a format of py-spy: raw (a stack and a count per line) or flamegraph.
    :raises BenchmarkError: when it is not installed.
    """
    tool = Path(sys.executable).parent / "py-spy"
    if not tool.exists():
        msg = "py-spy is missing: pip install py-spy"
        raise BenchmarkError(msg)
    command = [str(tool), "record", "--pid", str(pid), "--output", str(output), "--format", kind]
    command += ["--duration", str(max(1, round(seconds - 1))), "--threads", "--function"]
    command += ["--rate", str(SAMPLES_PER_SECOND), *flags]
    return subprocess.Popen(  # our own words
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


def _ranking(functions: Mapping[str, int]) -> list[str]:
    working = {name: count for name, count in functions.items() if not name.startswith(WAITING)}
    total = sum(working.values()) or 1
    waited = sum(functions.values()) - sum(working.values())
    lines = [f"self time of the event loop's thread, {total} samples, {waited} more waited:", ""]
    ranked = sorted(working.items(), key=lambda item: -item[1])
    # gRPC's own functions have no names in its wheels and would be lost in small pieces.
    places: collections.Counter[str] = collections.Counter()
    for name, count in ranked:
        places[_place_of(name)] += count
    lines += [f"{count / total:7.1%}  {name}" for name, count in places.most_common(TOP_PLACES)]
    lines.append("")
    return lines + [f"{count / total:7.1%}  {name}" for name, count in ranked[:TOP]]


def _place_of(function: str) -> str:
    """Return the library or the package of a function, told from the file in parentheses."""
    file = function.rpartition("(")[2].rstrip(")").partition(":")[0]
    if ".so" in file:
        return file.rpartition("/")[2]
    package, _, rest = file.partition("/")
    return f"{package} (Python)" if rest else function
