"""How ``python -m benchmarks stages`` divides a request's CPU time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.stages import STAGES, Breakdown, Share, stage_of, stages_by_thread

MAIN = "main (jitney/cli/__init__.py:32)"
INFER = "InferenceRpcs.infer (jitney/transport/inference.py:70)"


@pytest.mark.parametrize(
    ("stage", "frames"),
    [
        ("HTTP/2 and grpcio", ["0x7f (grpc/_cython/cygrpc.so)"]),
        ("HTTP/2 and grpcio", [INFER]),
        ("event loop", ["run_forever (loop.c:33192)", "uv_run (core.c:480)"]),
        ("protobuf and checks", [INFER, "Codec.decode (jitney/transport/codec.py:90)"]),
        ("admission", [INFER, "Engine.submit (jitney/engine.py:70)"]),
        ("scheduling", ["Scheduler._turn (jitney/scheduling/scheduler.py:99)"]),
        ("collating", ["gather (jitney/scheduling/placement.py:25)", "memcpy (libc.so.6)"]),
        ("collating", ["gather (jitney/execution/exchange.py:36)"]),
        ("hand-over", ["WorkerLink.send (jitney/execution/link.py:169)", "send (libc.so.6)"]),
        ("compute", ["Worker.run (jitney/execution/worker_loop.py:67)", "run (torch/jit.py:3)"]),
        (
            "reply",
            [
                "Scheduler._answer (jitney/scheduling/scheduler.py:2)",
                "Replies.encode (jitney/transport/replies.py:9)",
            ],
        ),
        ("metrics", ["Metrics.batch_done (jitney/telemetry/metrics.py:9)"]),
        ("other", ["something (elsewhere.c:1)"]),
    ],
)
def test_the_innermost_frame_that_has_a_stage_decides(stage: str, frames: list[str]) -> None:
    """A stack belongs to the stage of its innermost frame that has one."""
    assert stage == stage_of([MAIN, *frames])


def test_samples_are_counted_by_thread_and_waiting_is_not() -> None:
    """Samples are counted by thread, and a loop in epoll counts for nothing."""
    server = 'process 1:"python -c from jitney.cli import main; raise x serve"'
    worker = 'process 9:"python -m jitney.execution.worker"'
    lines = [
        f"{server};thread (1): MainThread;{MAIN};{INFER} 3",
        f"{server};thread (1): MainThread;uv_run (core.c:480) 2",
        f"{server};thread (1): MainThread;uv_run (core.c:480);epoll_pwait (libc.so.6) 50",
        f"{server};{worker};thread (9): MainThread;execute (jitney/runtime/instance.py:45) 7",
        f"{server};thread (4): poller;poll (x.c:1);epoll_wait (libc.so.6) 8",
        "no thread in it 1",
    ]
    expected = {1: {"HTTP/2 and grpcio": 3, "event loop": 2}, 9: {"compute": 7}}
    assert expected == stages_by_thread(lines)


def test_the_table_has_every_stage_and_the_sum() -> None:
    """The table shows each stage's time and share, and the sum of all."""
    names = list(STAGES)
    shares = [Share(name, 0.0) for name in names[2:]]
    found = Breakdown([Share(names[0], 30.0), Share(names[1], 10.0), *shares], 5000.0, 100)
    lines = found.to_text().splitlines()
    assert len(names) + 1 == len(lines)
    assert "    30.0 µs  75.0%  HTTP/2 and grpcio" == lines[0][:41].rstrip()
    assert "    40.0 µs         all, at 5,000/s" == lines[-1]
    assert {"total_microseconds": 40.0, "requests_per_second": 5000.0, "samples": 100} == {
        key: value for key, value in found.to_json().items() if key != "microseconds"
    }
