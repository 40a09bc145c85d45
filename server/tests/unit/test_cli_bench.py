"""What ``jitney bench`` makes of its arguments, before it calls anybody."""

from __future__ import annotations

import argparse
import io
from typing import TYPE_CHECKING

import pytest

from jitney.cli import main
from jitney.cli.bench_progress import CLEAR, Progress
from jitney.cli.bench_setup import load_of
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

RATE = ["--rate", "10", "--slo-ms", "50"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "give one of --rate, --search, --concurrency; got none"),
        (["--search", "--rate", "1", "--slo-ms", "5"], "got --rate and --search"),
        (["--rate", "100"], "--rate needs --slo-ms"),
        (["--search"], "--search needs --slo-ms"),
        ([*RATE, "--overload"], "--overload needs --search"),
        ([*RATE, "--deadline-ms", "-1"], "--deadline-ms: expected milliseconds, got -1"),
        ([*RATE, "--processes", "9"], "give more --connections"),
        ([*RATE, "--report", "/nowhere/at/all.html"], "there is no such folder"),
        ([*RATE, "--tenants", "a"], "--tenants 'a': expected NAME=WEIGHT"),
        ([*RATE, "--arrivals", "weekly"], "--arrivals weekly: neither one of poisson, gamma"),
        (["--rate", "0"], "expected a number above 0, got '0'"),
        (["--concurrency", "1,x"], "expected a number >= 1, got 'x'"),
    ],
)
def test_contradictions_are_told_before_anything_is_sent(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2 and the text names the flag."""
    assert 2 == main(["bench", "m", "--address", "127.0.0.1:1", *flags])

    assert words in capsys.readouterr().err


def test_a_trace_that_is_none_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file's name and the line stand in the error."""
    file = tmp_path / "trace.csv"
    file.write_text("seconds\n2\n1\n")

    assert 2 == main(["bench", "m", *RATE, "--arrivals", str(file)])

    assert "--arrivals trace.csv, line 3" in capsys.readouterr().err


def test_nobody_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server the command fails and says where it looked."""
    assert 1 == main(["bench", "m", *RATE, "--address", "127.0.0.1:1"])

    assert "127.0.0.1:1" in capsys.readouterr().err


def arguments(**changed: object) -> argparse.Namespace:
    """Return flags as they are parsed."""
    given = {
        "slo_ms": 50.0,
        "deadline_ms": None,
        "duration": 3.0,
        "arrivals": "poisson",
        "cv": 4.0,
        "tolerance": 1e-3,
        "no_check": False,
    }
    return argparse.Namespace(**given | changed)


def test_the_deadline_is_the_slo_unless_said() -> None:
    """0 tells the server nothing, and without an SLO there is none."""
    assert (0.05, 0.05) == (load_of(arguments()).slo, load_of(arguments()).deadline)
    assert 0.0 == load_of(arguments(deadline_ms=0.0)).deadline
    assert 0.08 == load_of(arguments(deadline_ms=80.0)).deadline
    assert (0.0, 0.0) == (
        load_of(arguments(slo_ms=None)).slo,
        load_of(arguments(slo_ms=None)).deadline,
    )


def test_unknown_arrivals_are_refused() -> None:
    """What is neither a process nor a file is named."""
    with pytest.raises(ConfigError, match="neither one of poisson, gamma, mmpp"):
        load_of(arguments(arrivals="no such file"))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


COUNTS = {"sent": 1200, "ended": 1000, "ok": 990, "in_time": 985}


def test_progress_is_one_line_that_changes() -> None:
    """On a terminal the line is written over; what stays takes its place."""
    stream = Terminal()
    progress = Progress(stream)

    progress.begin("800/s")
    progress.counts(COUNTS)
    progress.say("done")

    parts = stream.getvalue().split(CLEAR)
    assert ["", "800/s: 0 s, sent 0, open 0"] == parts[:2]
    assert "800/s: 0 s, sent 1,200, open 200, in time 98.50%" == parts[2]
    assert "done\n" == parts[3]


def test_progress_is_silent_where_nobody_looks() -> None:
    """In a file there are only lines that stay."""
    stream = io.StringIO()
    progress = Progress(stream)

    progress.begin("800/s")
    progress.counts(COUNTS)
    progress.say("done")
    progress.clear()

    assert "done\n" == stream.getvalue()
