"""The benchmarks of speed, each a function from a stage to a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks import models
from benchmarks.comparison import Report, Shape, Side, alternate, ratio_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.process import Round, ServerProcess
    from benchmarks.stage import Stage
    from benchmarks.workload import Workload

__all__ = ["CLOSED", "MANY", "batching", "large", "latency", "transport"]

CLOSED: Final = "closed loop: every caller sends its next request when the last was answered"
MANY: Final = Shape(concurrency=64, connections=4)
FEW: Final = Shape(concurrency=4, connections=4)
ONE: Final = Shape(concurrency=1, connections=1)
AIO: Final = "aio"
HTTP2: Final = "h2"
KINDS: Final = {AIO: "grpc.aio callers", HTTP2: "prepared HTTP/2 callers"}
LOOPS: Final = ("uvloop", "asyncio")
JITNEY: Final = "jitney"
POLLING: Final = "jitney, polling"
POLL_MICROSECONDS: Final = 2000
ELEMENTS: Final = 16
LARGE_ELEMENTS: Final = (8 << 20) // 4
MINILM_LENGTHS: Final = {"16 tokens": (16, 16), "8 to 32 tokens": (8, 32)}

TRANSPORT_BAR: Final = 0.7
LATENCY_BAR: Final = 1.5
LARGE_BAR: Final = 0.5
DIGITS_BAR: Final = 3.0
MINILM_BAR: Final = 1.5


def transport(stage: Stage) -> Report:
    """Compare the whole server with a model that does nothing, and a bare echo of its messages."""
    title = "requests/s of the whole server over a bare grpc.aio echo of the same messages"
    report = _report("transport", title, MANY, f"identity, FP32 [1, {ELEMENTS}]")
    workload = models.identity(MANY.concurrency, ELEMENTS)
    server = stage.server(models.build_identities(stage.folder / "repository"))
    sides = _with_echoes(stage, server, workload, LOOPS)
    for kind, words in KINDS.items():
        rounds = alternate(stage.callers(kind), sides, MANY, stage.effort)
        _note(report, rounds, words)
        for loop in LOOPS:
            # The bar is for what users have; prepared callers show the servers alone.
            bar = TRANSPORT_BAR if (kind, loop) == (AIO, "uvloop") else None
            name = f"requests/s over echo on {loop}, {words}"
            report.ratios.append(ratio_of(name, rounds, JITNEY, _echo(loop), bar=bar))
        name = f"server CPU per request over echo on uvloop, {words}"
        report.ratios.append(ratio_of(name, rounds, JITNEY, _echo("uvloop"), figure="cpu_ms"))
    return report


def latency(stage: Stage) -> Report:
    """Compare one caller of a small model and of a bare echo of the same messages."""
    title = "p50 of one caller over a bare grpc.aio echo of the same messages"
    report = _report("latency", title, ONE, f"digits; identity, FP32 [1, {ELEMENTS}]")
    repository = models.copy_samples(stage.folder / "repository", ["digits"])
    server = stage.server(models.build_identities(repository))
    # What is left when a worker never sleeps: the price of two wake-ups.
    polling = stage.server(repository, f"--poll-microseconds={POLL_MICROSECONDS}")

    def compare(words: str, workload: Workload, kind: str, bar: float | None) -> None:
        sides = _with_echoes(stage, server, workload, LOOPS)
        sides.append(Side(POLLING, polling, stage.write(workload)))
        rounds = alternate(stage.callers(kind), sides, ONE, stage.effort)
        _note(report, rounds, words)
        for side, loop in ((JITNEY, "uvloop"), (JITNEY, "asyncio"), (POLLING, "uvloop")):
            name = f"p50 of {side} over echo on {loop}, {words}"
            counts = bar if (side, loop) == (JITNEY, "uvloop") else None
            report.ratios.append(
                ratio_of(name, rounds, side, _echo(loop), figure="p50_ms", bar=counts, at_most=True)
            )

    compare(f"digits, {KINDS[AIO]}", models.digits(16), AIO, LATENCY_BAR)
    compare(f"identity, {KINDS[AIO]}", models.identity(16, ELEMENTS), AIO, None)
    compare(f"digits, {KINDS[HTTP2]}", models.digits(16), HTTP2, None)
    return report


def batching(stage: Stage) -> Report:
    """Compare real models and copies on the same server whose batches have one row."""
    title = "requests/s over the same model on the same server with max_batch_size = 1"
    report = _report("batching", title, MANY, "digits; minilm")
    repository = models.copy_samples(stage.folder / "repository", ["digits", "minilm"])
    server = stage.server(repository)
    callers = stage.callers(AIO)

    def compare(label: str, loads: Sequence[Workload], bar: float | None) -> None:
        labels = ("batched", "one by one")
        sides = [
            Side(words, server, stage.write(load))
            for words, load in zip(labels, loads, strict=True)
        ]
        rounds = alternate(callers, sides, MANY, stage.effort)
        _note(report, rounds, label)
        report.ratios.append(
            ratio_of(f"requests/s, {label}", rounds, "batched", "one by one", bar=bar)
        )

    count = MANY.concurrency
    compare("digits", [models.digits(count, name) for name in _copies("digits")], DIGITS_BAR)
    for words, (shortest, longest) in MINILM_LENGTHS.items():
        loads = [models.minilm(count, shortest, longest, name) for name in _copies("minilm")]
        compare(f"minilm, {words}", loads, MINILM_BAR if shortest == longest else None)
    return report


def large(stage: Stage) -> Report:
    """Compare 8 MiB in and out of the server and of a bare echo of the same messages."""
    title = "bytes/s of 8 MiB in and out over a bare grpc.aio echo of the same messages"
    report = _report("large", title, FEW, f"identity, FP32 [1, {LARGE_ELEMENTS}]")
    report.facts |= {"concurrency": [1, 4], "connections": [1, 4]}
    workload = models.identity(1, LARGE_ELEMENTS)
    server = stage.server(models.build_identities(stage.folder / "repository"))
    sides = _with_echoes(stage, server, workload, ["uvloop"])
    callers = stage.callers(AIO)
    for shape in (ONE, FEW):
        words = f"{shape.concurrency} concurrent"
        rounds = alternate(callers, sides, shape, stage.effort)
        _note(report, rounds, words)
        name = f"bytes/s over echo on uvloop, {words}"
        report.ratios.append(ratio_of(name, rounds, JITNEY, _echo("uvloop"), bar=LARGE_BAR))
    return report


def _report(name: str, title: str, shape: Shape, model: str) -> Report:
    facts: dict[str, Any] = {"model": model, "arrivals": CLOSED, **shape._asdict()}
    return Report(name, title, facts)


def _with_echoes(
    stage: Stage, server: ServerProcess, workload: Workload, loops: Sequence[str]
) -> list[Side]:
    sides = [Side(JITNEY, server, stage.write(workload))]
    answers = stage.write(workload.echoed(stage.answer(server, workload)))
    echoes = ((loop, stage.echo(server, workload, loop)) for loop in loops)
    return sides + [Side(_echo(loop), echo, answers) for loop, echo in echoes]


def _echo(loop: str) -> str:
    return f"echo on {loop}"


def _copies(name: str) -> tuple[str, str]:
    return name, name + models.UNBATCHED


def _note(report: Report, rounds: Mapping[str, list[Round]], words: str) -> None:
    report.rounds |= {f"{label}, {words}": seen for label, seen in rounds.items()}
