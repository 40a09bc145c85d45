"""Where a request's CPU time goes, by stage: what a faster path has to remove.

Every sampled stack is given to the stage of its innermost frame that belongs to one, and the
thread's CPU time, measured in a round without the sampler, is divided by these shares.
"""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks import models, suite
from benchmarks.comparison import Shape
from benchmarks.process import BenchmarkError
from benchmarks.profiling import RECORD_TIMEOUT, sampler
from benchmarks.usage import thread_usage

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.stage import Stage
    from benchmarks.usage import ThreadUsage

__all__ = [
    "STAGES",
    "Breakdown",
    "break_down",
    "flame_graph",
    "measure",
    "stage_of",
    "stages_by_thread",
]

SHAPES: Final = (Shape(1, 1), Shape(16, 4), Shape(64, 4))
"""How many requests are in flight, and on how many connections."""
LEAST_SECONDS: Final = 3.0
"""Of a round: fewer samples say little of stages that take a few microseconds."""

TRANSPORT: Final = "HTTP/2 and grpcio"
LOOP: Final = "event loop"
PROTOBUF: Final = "protobuf and checks"
ADMISSION: Final = "admission"
SCHEDULING: Final = "scheduling"
COLLATING: Final = "collating"
HAND_OVER: Final = "hand-over"
COMPUTE: Final = "compute"
REPLY: Final = "reply"
METRICS: Final = "metrics"
OTHER: Final = "other"

STAGES: Final[Mapping[str, str]] = {
    TRANSPORT: "sockets, HTTP/2, gRPC's objects of a call, and its own threads",
    LOOP: "uvloop and asyncio: wake-ups, tasks, futures",
    PROTOBUF: "reading the request, comparing it with the model's contract",
    ADMISSION: "budgets, finding the version, the entry in the queue",
    SCHEDULING: "which batch leaves when, where to, what waits",
    COLLATING: "copying rows into the slot of a batch",
    HAND_OVER: "control messages between server and worker, both ends",
    COMPUTE: "the model, and tensors made from the slot and written back (the worker)",
    REPLY: "reading the outputs, writing the answer, ending the call",
    METRICS: "counters and histograms",
    OTHER: "what belongs to none of these",
}
"""Every stage, in the order in which a request meets them, and what it means."""

# The first that matches a frame decides; paths are as the sampler writes them.
_RULES: Final = tuple(
    (re.compile(pattern), stage)
    for pattern, stage in (
        (r"Codec\.reply|jitney/transport/(replies|classification)\.py", REPLY),
        (r"jitney/transport/(codec|framing|contents|heads|parameters)\.py", PROTOBUF),
        (r"jitney/transport/", TRANSPORT),
        (r"jitney/telemetry/", METRICS),
        (r"jitney/repository/check\.py", PROTOBUF),
        (r"jitney/(scheduling/placement|execution/(exchange|slots))\.py", COLLATING),
        (r"jitney/(scheduling/|splitting)", SCHEDULING),
        (r"jitney/(admission|engine|repository/|sequencing/)", ADMISSION),
        (r"jitney/runtime/|torch/", COMPUTE),
        (r"jitney/execution/", HAND_OVER),
        (r"google/(protobuf|_upb)", PROTOBUF),
        (r"grpc/", TRANSPORT),
        (r"asyncio|uvloop|loop\.c|/unix/|core\.c|timer\.c", LOOP),
    )
)

_COMMAND: Final = re.compile(r"[^<>]*py-spy record [^<>]*")


class Share(NamedTuple):
    """The part of one stage: microseconds of CPU time per request, of the whole server."""

    stage: str
    microseconds: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """CPU time per request by stage, in microseconds, and how it was found.

    ``requests_per_second`` is of the round without the sampler; ``samples`` are those of the round
    with it.
    """

    shares: Sequence[Share]
    requests_per_second: float
    samples: int

    @property
    def total(self) -> float:
        """Microseconds of CPU time per request of the server and its workers."""
        return sum(share.microseconds for share in self.shares)

    def to_json(self) -> dict[str, Any]:
        """Return it for the file of results."""
        return {
            "microseconds": {stage: round(us, 2) for stage, us in self.shares},
            "total_microseconds": round(self.total, 1),
            "requests_per_second": round(self.requests_per_second, 1),
            "samples": self.samples,
        }

    def to_text(self) -> str:
        """Return the table that a person reads."""
        lines = [
            f"{share.microseconds:8.1f} µs {share.microseconds / self.total:6.1%}  "
            f"{share.stage:20} {STAGES[share.stage]}"
            for share in self.shares
        ]
        lines.append(f"{self.total:8.1f} µs         all, at {self.requests_per_second:,.0f}/s")
        return "\n".join(lines) + "\n"


def measure(stage: Stage, kind: str, graph: Path) -> tuple[str, dict[str, Any]]:
    """Break a small model's requests down at every shape; return a table and a document.

    :param kind: of the callers, as in ``suite.KINDS``.
    :param graph: where the flame graph is written, of the largest shape.
    """
    server = stage.server(models.copy_samples(stage.folder / "repository", ["digits"]))
    workload = stage.write(models.digits(SHAPES[-1].concurrency))
    callers = stage.callers(kind)
    seconds = max(LEAST_SECONDS, stage.effort.rounds * stage.effort.seconds / 2)
    lines = [f"## stages: CPU time per request by stage, digits, {suite.KINDS[kind]}", ""]
    found: dict[str, Any] = {}
    for shape in SHAPES:

        def load(duration: float, shape: Shape = shape) -> int:
            run = callers.run(server, server.address, workload, seconds=duration, **shape._asdict())
            return run.requests

        load(1.0)
        result = break_down(server.pid, load, seconds, stage.folder / "samples")
        lines += [f"{shape.concurrency} in flight:", "", result.to_text()]
        found[str(shape.concurrency)] = result.to_json()
    flame_graph(server.pid, load, seconds, graph)
    lines.append(f"flame graph of {SHAPES[-1].concurrency} in flight: {graph.name}")
    facts = {"model": "digits", "callers": suite.KINDS[kind], "arrivals": suite.CLOSED}
    return "\n".join(lines), {"benchmark": "stages", **facts, "in_flight": found}


def stage_of(frames: Sequence[str]) -> str:
    """Return the stage of a stack, outermost frame first."""
    for frame in reversed(frames):
        for pattern, stage in _RULES:
            if pattern.search(frame):
                return stage
    return OTHER


def break_down(
    server: int, load: Callable[[float], int], seconds: float, output: Path
) -> Breakdown:
    """Load a server twice, the second time sampled.

    Threads that have no Python (gRPC's own) are not sampled: all their time is the transport's.

    :param server: the process's id; its workers are measured with it.
    :param load: calls the server for so many seconds and returns how often.
    :param output: the file that samples are written to.
    """
    before = thread_usage(server)
    requests = load(seconds)
    after = thread_usage(server)
    process = sampler(server, output, seconds, "--native", "--subprocesses")
    load(seconds)
    _finish(process)
    seen = stages_by_thread(output.read_text().splitlines())
    totals: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    for thread, used in _used(before, after).items():
        counts = seen.get(thread)
        microseconds = 1e6 * used / requests
        if counts is None:
            totals[TRANSPORT] += microseconds
            continue
        whole = counts.total()
        for stage, count in counts.items():
            totals[stage] += microseconds * count / whole
    shares = [Share(stage, value) for stage, value in totals.items()]
    samples = sum(counts.total() for counts in seen.values())
    return Breakdown(shares, requests / seconds, samples)


def flame_graph(server: int, load: Callable[[float], int], seconds: float, output: Path) -> None:
    """Write a flame graph of the server process as SVG, which browsers let one search and zoom.

    Without native frames: gRPC's own have no names in its wheels. What C code does is part of the
    Python function that called it.
    """
    process = sampler(server, output, seconds, kind="flamegraph")
    load(seconds)
    _finish(process)
    # Its heading is the sampler's command line, whose paths say nothing to a reader.
    text = _COMMAND.sub("CPU time of the server process", output.read_text())
    output.write_text(text)


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=RECORD_TIMEOUT)
    if process.returncode:
        msg = f"py-spy failed: {errors.strip()}"
        raise BenchmarkError(msg)


def _used(before: Iterable[ThreadUsage], after: Iterable[ThreadUsage]) -> dict[int, float]:
    start = {usage.thread: usage.user + usage.system for usage in before}
    return {u.thread: u.user + u.system - start.get(u.thread, 0.0) for u in after}


def stages_by_thread(lines: Iterable[str]) -> dict[int, collections.Counter[str]]:
    """Count the samples of every thread by stage.

    A line is ``process 1:"…";process 2:"…";thread (2): Main;frame;frame 17``; the last number is
    how often that stack was seen, and outer processes are named where the thread is a child's.
    """
    seen: dict[int, collections.Counter[str]] = {}
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        at = next((i for i, f in enumerate(frames) if f.startswith("thread (")), None)
        if at is None:
            continue
        thread = int(frames[at].removeprefix("thread (").partition(")")[0])
        counts = seen.setdefault(thread, collections.Counter())
        if not _waits(frames[-1]):
            counts[stage_of(frames[at + 1 :])] += int(count)
    return {thread: counts for thread, counts in seen.items() if counts}


def _waits(frame: str) -> bool:
    """Tell a loop that waits, which the sampler cannot tell from one that works."""
    return frame.startswith(("epoll_pwait", "epoll_wait"))
