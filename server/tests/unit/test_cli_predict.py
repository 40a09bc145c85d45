"""``jitney predict``: its command line, and what it shows."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jitney.cli import main
from jitney.cli.predict_progress import ScoringBar
from jitney.scoring.scorer import Standing

if TYPE_CHECKING:
    from pathlib import Path


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        """Return True."""
        return True


class Seconds:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def shown(bar: ScoringBar, stream: Terminal, *standings: Standing, clock: Seconds) -> list[str]:
    """Return the lines that were shown, a second after each other."""
    for standing in standings:
        clock.now += 1.0
        bar.show(standing)
    bar.clear()
    return [line for line in stream.getvalue().split("\r\x1b[K") if line]


def test_the_bar_tells_what_remains() -> None:
    """Rows, their rate and the time left, by how much of the file was read."""
    stream, clock = Terminal(), Seconds()
    bar = ScoringBar(stream, clock)
    bar.begin(0.0)

    lines = shown(bar, stream, Standing(500, 0, 0, 0.25), Standing(1000, 0, 2, 0.5), clock=clock)

    assert [
        "[######..................]  25%  500 rows, 500/s, 3.0 s left",
        "[############............]  50%  1,000 rows, 500/s, 2.0 s left, 2 failed",
    ] == lines


def test_what_was_done_before_counts_for_the_bar_only() -> None:
    """A rate is that of this run, and so is the time that is left."""
    stream, clock = Terminal(), Seconds()
    bar = ScoringBar(stream, clock)
    bar.begin(0.5)

    (line,) = shown(bar, stream, Standing(100, 500, 0, 0.6), clock=clock)

    assert "[##############..........]  60%  600 rows, 100/s, 4.0 s left" == line


def test_the_bar_is_not_drawn_all_the_time() -> None:
    """Ten times a second at most, and never where nobody sees it."""
    stream, clock = Terminal(), Seconds()
    bar = ScoringBar(stream, clock)
    bar.begin(0.0)
    for _ in range(100):
        bar.show(Standing(1, 0, 0, 0.1))
        clock.now += 0.01
    assert 9 <= stream.getvalue().count("rows") <= 11

    quiet = io.StringIO()
    bar = ScoringBar(quiet, clock)
    bar.begin(0.0)
    bar.show(Standing(1, 0, 0, 0.1))
    bar.clear()
    assert "" == quiet.getvalue()


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of rows, in the working directory."""
    monkeypatch.chdir(tmp_path)
    np.savez("rows.npz", x=np.zeros((2, 2), np.float32))
    (tmp_path / "folder.csv").mkdir()
    return tmp_path / "rows.npz"


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rows.npz"], "the following arguments are required: -o/--out"),
        (["rows.npz", "-o", "out.xls"], "-o out.xls: expected a name that ends with"),
        (["rows.npz", "-o", "no/out.csv"], "-o no/out.csv: there is no folder no"),
        (["rows.npz", "-o", "rows.npz"], "it is there already; --overwrite replaces it"),
        (["none.csv", "-o", "out.csv"], "none.csv: there is no such file"),
        (["rows.npz", "-o", "o.csv", "--column", "x"], "--column 'x': expected INPUT=COLUMN"),
        (["rows.npz", "-o", "o.csv", "--column", "x="], "--column 'x=': expected INPUT=COLUMN"),
        (["rows.npz", "-o", "o.csv", "--column", "x=a", "--column", "x=b"], "each input once"),
        (["rows.npz", "-o", "o.csv", "--device", "cpu"], "--device is for --local"),
        (["rows.npz", "-o", "o.csv", "--cpu-threads", "1"], "--cpu-threads is for --local"),
        (["rows.npz", "-o", "o.csv", "--config", "jitney.toml"], "--config is for --local"),
        (["rows.npz", "-o", "folder.csv", "--overwrite"], "-o folder.csv: it is a folder"),
        (["rows.npz", "-o", "o.csv", "--rows", "0"], "--rows: expected a number >= 1"),
        (["rows.npz", "-o", "o.csv", "--local", "none"], "--local none: there is no such folder"),
    ],
)
def test_a_wrong_command_line_is_said(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, before anything is asked or written."""
    assert 2 == main(["predict", "m", *arguments])
    assert text in capsys.readouterr().err


def test_an_input_is_not_replaced_by_its_result(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even if it may be overwritten."""
    assert 2 == main(["predict", "m", "rows.npz", "-o", str(rows), "--overwrite"])
    assert "it is the input" in capsys.readouterr().err


@pytest.mark.usefixtures("rows")
def test_what_parquet_needs_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is scored, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    assert 2 == main(["predict", "m", "rows.npz", "-o", "out.parquet"])
    assert "pip install 'jitney[parquet]'" in capsys.readouterr().err
