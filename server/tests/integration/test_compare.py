"""``python -m benchmarks.compare`` and what it starts."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.compare.__main__ import main
from benchmarks.compare.entrants import ServerEntrant
from benchmarks.peers import environment
from benchmarks.peers.echo import PythonEcho
from benchmarks.peers.exhibits import EXHIBITS, install
from benchmarks.peers.loop import LoopProcess
from benchmarks.peers.peer import RunningPeer
from benchmarks.process import BenchmarkError
from benchmarks.usage import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peers.exhibits import Show

ECHO = "bare grpc.aio echo"


@pytest.fixture
def sigterm() -> Iterator[None]:
    """Give back how SIGTERM is handled, which the command changes."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Return the small model, with its inputs and answers."""
    return install(EXHIBITS["mlp"], tmp_path / "model")


@pytest.mark.usefixtures("sigterm")
def test_our_server_is_compared_with_an_echo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One short round measures both, checks answers, prints a table and writes the results.

    A peer that is not installed is named, with the command that would install it.
    """
    monkeypatch.setattr(environment, "COMPAT", tmp_path / ".compat")
    code = main(
        [
            *("--peers", "echo", "mosec", "--models", "mlp", "--concurrency", "4"),
            *("--rounds", "1", "--seconds", "0.2", "--results", str(tmp_path)),
        ]
    )
    assert code in {0, 1}  # a bar may be missed in so short a time; a figure may not be void
    document: dict[str, Any] = json.loads((tmp_path / "compare.json").read_text())
    result = document["models"]["mlp"]
    assert {"Mosec (HTTP)": "mosec is not installed (make .compat/venv-mosec/.done)"} == result[
        "absent"
    ]
    (point,) = result["points"]
    assert ["jitney", ECHO] == list(point["places"])
    for place in point["places"].values():
        (visit,) = place["rounds"]
        assert visit["requests"] > 0
        assert visit["cpu_us"] > 0
    assert {f"{name} over {ECHO}" for name in ("rate", "p50_ms", "p99_ms", "cpu_us")} == {
        one["name"] for one in point["ratios"]
    }
    assert all(one["peak_rss"] > one["pss"] > 0 for one in result["memory_mib"].values())
    printed = capsys.readouterr().out
    assert "## mlp, 4 in flight over 4 connections (prepared HTTP/2 callers)" in printed
    assert "Mosec (HTTP) took no part: mosec is not installed" in printed


def test_wrong_answers_void_a_visit(show: Show, tmp_path: Path) -> None:
    """An echo answers every input as the first one, which the callers notice."""
    echo = PythonEcho()
    with RunningPeer(echo, echo.launch(show, tmp_path), tmp_path / "log") as running:
        workload = show.workload(echo.dialect)
        running.wait_until_ready(workload.requests[0])
        entrant = ServerEntrant(running, workload, tmp_path)
        try:
            visit, reason = entrant.visit(4, 0.2, lambda: 0.0)
        finally:
            entrant.close()
    assert visit is None
    assert "answers were wrong: request" in reason


def test_a_peer_that_ended_voids_its_visits(show: Show, tmp_path: Path) -> None:
    """Callers that find nobody say that the server ended, and how."""
    echo = PythonEcho()
    with RunningPeer(echo, echo.launch(show, tmp_path), tmp_path / "log") as running:
        workload = show.workload(echo.dialect)
        running.wait_until_ready(workload.requests[0])
    entrant = ServerEntrant(running, workload, tmp_path)
    visit, reason = entrant.visit(4, 0.2, lambda: 0.0)
    entrant.close()
    assert visit is None
    assert "it ended (" in reason
    assert descendants(running.pid) == []


def test_a_peer_that_cannot_start_says_why(show: Show, tmp_path: Path) -> None:
    """Where a server ends instead of answering, its last words are the reason."""
    echo = PythonEcho()
    launch = echo.launch(show, tmp_path)
    (tmp_path / "reply").unlink()
    with (
        RunningPeer(echo, launch, tmp_path / "log") as running,
        pytest.raises(BenchmarkError, match=r"it ended \(1\)(.|\n)*FileNotFoundError"),
    ):
        running.wait_until_ready(b"")


def test_the_loop_runs_batches_and_checks_them(show: Show, tmp_path: Path) -> None:
    """Both forms of the program run in batches; a wrong answer in one is an error."""
    with LoopProcess(show, tmp_path) as loop:
        seen = {form: loop.run(form, 8, 0.05) for form in ("frozen", "optimised")}
    assert all(one["requests"] % 8 == 0 and one["requests"] for one in seen.values())
    show.answers[3][0][0, 0] += 1
    with (
        LoopProcess(show, tmp_path) as loop,
        pytest.raises(BenchmarkError, match="batches of 4 had wrong answers"),
    ):
        loop.run("frozen", 4, 0.05)
