"""What programs reach that were written for Triton: its load generator, and its shared memory."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks import models
from benchmarks.comparison import Report, Shape, ratio_of, take_turns
from benchmarks.perf_analyzer import analyze
from benchmarks.suite import CLOSED
from benchmarks.workload import Workload
from jitney_client import Client
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.process import Round, ServerProcess
    from benchmarks.stage import Stage

    Play = Callable[[float], Round]

__all__ = ["public_client", "shared_memory"]

# perf_analyzer opens a connection for every six of its threads, of which it has sixteen at most.
SHAPES: Final = (Shape(1, 1), Shape(16, 3), Shape(64, 3))
THEIRS: Final = "perf_analyzer"
OURS: Final = {"aio": "our client", "h2": "prepared HTTP/2 callers"}
CLIENT_BAR: Final = 0.9

LARGE_ELEMENTS: Final = (8 << 20) // 4
LARGE_SHAPES: Final = (Shape(1, 1), Shape(4, 1))
IN_BAND: Final = "in the message"
SHARED: Final = "shared memory"
SHARED_BAR: Final = 3.0
BUILT_IN: Final = "built-in identity"
SCRIPTED: Final = "TorchScript identity"
IDENTITY: Final = """
backend: "identity"
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


def public_client(stage: Stage) -> Report:
    """Compare the rates that perf_analyzer and our own callers reach with the same models."""
    report = Report(
        "dropin",
        "requests/s of perf_analyzer over those of our own client, same server",
        {
            "model": "simple, INT32 [1, 16]; digits, FP32 [1, 1, 8, 8]",
            "arrivals": CLOSED,
            "concurrency": [shape.concurrency for shape in SHAPES],
            "connections": [shape.connections for shape in SHAPES],
        },
    )
    repository = models.copy_samples(stage.folder / "repository", ["simple", "digits"])
    server = stage.server(repository)
    workloads = {"simple": _simple(stage, server), "digits": models.digits(16)}
    files = {model: stage.write(workload) for model, workload in workloads.items()}
    callers = {kind: stage.callers(kind) for kind in OURS}
    for model, workload in files.items():
        for shape in SHAPES:

            def theirs(seconds: float, model: str = model, shape: Shape = shape) -> Round:
                return analyze(server, model, concurrency=shape.concurrency, seconds=seconds)

            sides: dict[str, Play] = {THEIRS: theirs}
            for kind, label in OURS.items():
                sides[label] = functools.partial(_ours, callers[kind].run, server, workload, shape)
            rounds = take_turns(sides, stage.effort)
            words = f"{model}, {shape.concurrency} concurrent"
            report.rounds |= {f"{label}, {words}": seen for label, seen in rounds.items()}
            for kind, label in OURS.items():
                # The bar is for what users have; prepared callers show what the server could do.
                bar = CLIENT_BAR if kind == "aio" else None
                name = f"requests/s of perf_analyzer over {label}, {words}"
                report.ratios.append(ratio_of(name, rounds, THEIRS, label, bar=bar))
            # Steadier than rates where generator and server share the cores.
            name = f"server CPU per request of perf_analyzer over {OURS['aio']}, {words}"
            report.ratios.append(ratio_of(name, rounds, THEIRS, OURS["aio"], figure="cpu_ms"))
    return report


def shared_memory(stage: Stage) -> Report:
    """Compare tensors of 8 MiB in registered shared memory with the same in messages."""
    report = Report(
        "client_shm",
        "8 MiB in and out through system shared memory over the same in messages, perf_analyzer",
        {
            "model": f"{BUILT_IN}; {SCRIPTED}; FP32 [1, {LARGE_ELEMENTS}]",
            "arrivals": CLOSED,
            "concurrency": [shape.concurrency for shape in LARGE_SHAPES],
        },
    )
    repository = models.build_identities(stage.folder / "repository")
    _write_builtin(repository / "builtin")
    server = stage.server(repository, "--allow-client-shm=true")
    size = str(LARGE_ELEMENTS * 4)
    flags = ("--shared-memory", "system", "--output-shared-memory-size", size)
    for model, words in (("builtin", BUILT_IN), ("identity", SCRIPTED)):
        _check_identity(server, model)
        for shape in LARGE_SHAPES:

            def play(seconds: float, *more: str, model: str = model, shape: Shape = shape) -> Round:
                given = ("--shape", f"x:{LARGE_ELEMENTS}", *more)
                return analyze(
                    server, model, *given, concurrency=shape.concurrency, seconds=seconds
                )

            def shared(seconds: float, play: Callable[..., Round] = play) -> Round:
                return play(seconds, *flags)

            rounds = take_turns({SHARED: shared, IN_BAND: play}, stage.effort)
            where = f"{words}, {shape.concurrency} concurrent"
            report.rounds |= {f"{label}, {where}": seen for label, seen in rounds.items()}
            name = f"requests/s through shared memory over messages, {where}"
            report.ratios.append(ratio_of(name, rounds, SHARED, IN_BAND, bar=SHARED_BAR))
    return report


def _ours(
    run: Callable[..., Round], server: ServerProcess, workload: Path, shape: Shape, seconds: float
) -> Round:
    return run(server, server.address, workload, **shape._asdict(), seconds=seconds)


def _simple(stage: Stage, server: ServerProcess) -> Workload:
    """Return a request for ``simple`` whose every reply has to be the first one, which is right."""
    request = pb.ModelInferRequest(model_name="simple")
    values = np.arange(16, dtype="<i4")
    for name, array in (("INPUT0", values), ("INPUT1", np.ones_like(values))):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(array.tobytes())
    workload = Workload([request.SerializeToString()], [b""])
    reply = stage.answer(server, workload)
    found = list(pb.ModelInferResponse.FromString(reply).raw_output_contents)
    assert [(values + 1).tobytes(), (values - 1).tobytes()] == found
    return workload.echoed(reply)


def _write_builtin(folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(f"max_batch_size: 1\n{IDENTITY}")


def _check_identity(server: ServerProcess, model: str) -> None:
    """Check once that a model gives back what it gets; perf_analyzer does not look."""
    values: np.ndarray[Any, Any] = np.random.default_rng(7).standard_normal(
        (1, LARGE_ELEMENTS), np.float32
    )
    with Client(server.address, timeout=30.0) as client:
        np.testing.assert_array_equal(values, client.infer(model, {"x": values})["y"])
