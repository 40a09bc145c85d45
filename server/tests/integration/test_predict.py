"""``jitney predict``: files through a server, and through workers of the command's own."""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from live_server import launch, wait_until

from jitney.scoring.journal import MAGIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_server import LiveServer

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PACE = re.compile(r"\([^()]* rows/s\)")
MANY = 12_000
"""Rows that take seconds, one at a time."""
DEADLY = 2e6
"""What the models ``poison`` and ``crash`` do not survive, each in its way."""
COMMITTED = 4096
"""Bytes of a journal that has results in it."""


def predict(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, and check how that was."""
    program = "import sys; from jitney.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert code == done.returncode, done.stderr
    return done


def write_rows(path: Path, rows: list[list[Any]]) -> Path:
    """Write a table with the columns x_0 to x_3."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x_0", "x_1", "x_2", "x_3"])
        writer.writerows(rows)
    return path


def numbers(count: int) -> list[list[Any]]:
    """Return rows that are told apart by their first element."""
    return [[float(i), 0.5, -1.0, 2.0] for i in range(count)]


def results(path: Path) -> list[list[str]]:
    """Return the rows of a table, without the first."""
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_a_table_is_scored_by_a_server(server: LiveServer, tmp_path: Path) -> None:
    """Bad rows of every kind are told and left empty, all others have their results, in order."""
    rows = numbers(200)
    rows[7][2] = "many"
    rows[42][1] = DEADLY
    rows[99] = [1.0, 2.0]
    table = write_rows(tmp_path / "in.csv", rows)

    address = f"--address={server.address}"
    done = predict("poison", table, "-o", tmp_path / "out.csv", address, code=3)

    found = results(tmp_path / "out.csv")
    assert 200 == len(found)
    assert {7, 42, 99} == {row for row, cells in enumerate(found) if cells[-1]}
    for row, cells in enumerate(found):
        expected = [str(x + 1) for x in rows[row]] if not cells[-1] else [""] * 4
        assert expected == cells[:-1]
    lines = (tmp_path / "out.csv.errors.jsonl").read_text().splitlines()
    errors = {line["row"]: line["error"] for line in map(json.loads, lines)}
    assert "x_2: 'many' is no FP32" == errors[7]
    assert "poisoned" in errors[42]
    assert "2 cells, the first line has 4" == errors[99]
    assert "200 rows" in done.stdout
    assert "3 failed" in done.stdout
    assert {"in.csv", "out.csv", "out.csv.errors.jsonl"} == {p.name for p in tmp_path.iterdir()}


def test_one_bad_row_can_be_the_end(server: LiveServer, tmp_path: Path) -> None:
    """The result is not written, and the row is named."""
    rows = numbers(20)
    rows[11][0] = DEADLY
    table, out = write_rows(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    flags = (f"--address={server.address}", "--on-error=stop")

    done = predict("poison", table, "-o", out, *flags, code=1)

    assert "row 11: " in done.stderr
    assert not out.exists()


def test_arrays_and_texts_are_scored(server: LiveServer, tmp_path: Path) -> None:
    """Files of NumPy's in and out, numbers and texts alike."""
    x = np.arange(300, dtype=np.float32).reshape(100, 3)
    np.savez_compressed(tmp_path / "x.npz", x=x, id=np.arange(100))
    np.savez(tmp_path / "t.npz", words=np.array([f"w{i}" for i in range(50)]))
    address = f"--address={server.address}"

    predict("same_fp32", tmp_path / "x.npz", "-o", tmp_path / "y.npz", "--keep", "id", address)
    predict("same_bytes", tmp_path / "t.npz", "-o", tmp_path / "u.npz", address)

    with np.load(tmp_path / "y.npz") as found:
        assert (x == found["y"]).all()
        assert (np.arange(100) == found["id"]).all()
        assert not found["error"].any()
    with np.load(tmp_path / "u.npz") as found:
        assert [f"w{i}" for i in range(50)] == found[found.files[0]].ravel().tolist()


def test_tables_with_types_are_scored(server: LiveServer, tmp_path: Path) -> None:
    """Lists in a column go in, and come out as lists; what is kept has its type."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = [[float(i)] * (1 + i % 3) for i in range(90)]
    lists[5] = None  # type: ignore[call-overload]  # a hole
    table = pa.table({"features": lists, "id": pa.array(range(90), pa.int16())})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=40)

    flags = ("--column", "x=features", "--keep", "id", f"--address={server.address}")
    predict("same_fp32", tmp_path / "in.parquet", "-o", tmp_path / "out.parquet", *flags, code=3)

    found = pq.read_table(tmp_path / "out.parquet")
    assert lists == found["y"].to_pylist()
    assert ["int16", "list<element: float>", "string"] == [str(f.type) for f in found.schema]
    assert "features: it is empty" == found["error"][5].as_py()


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_a_run_that_was_ended_goes_on(
    server: LiveServer, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    """Killed or interrupted half-way: nothing is lost, twice, or half written."""
    rows = numbers(MANY)
    rows[10][0] = "bad"
    table, out = write_rows(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    part = tmp_path / "out.csv.part"
    command = ("same_fp32", str(table), "-o", str(out), f"--address={server.address}")
    with launch("predict", *command, "--rows=1", "--concurrency=1") as process:
        wait_until(
            lambda: part.exists() and part.stat().st_size > COMMITTED, "results are on the disk"
        )
        process.send_signal(stop)
        _, said = process.communicate(timeout=30)
    assert code == process.returncode
    assert not out.exists()
    assert part.read_bytes().startswith(MAGIC)
    if stop is signal.SIGINT:
        assert "rows are done and kept; the same command goes on from there" in said

    done = predict(*command, code=3)

    assert "going on after " in done.stderr
    assert " of them earlier" in done.stdout
    expected = [[json.dumps([float(c) for c in row]), ""] for row in rows if row[0] != "bad"]
    found = results(out)
    assert ["", "x_0: 'bad' is no FP32"] == found.pop(10)
    assert expected == found
    assert {"in.csv", "out.csv", "out.csv.errors.jsonl"} == {p.name for p in tmp_path.iterdir()}


def test_another_input_does_not_go_on(server: LiveServer, tmp_path: Path) -> None:
    """What was scored belongs to the file as it was; --restart begins anew."""
    rows = numbers(20)
    rows[13][0] = DEADLY
    table, out = write_rows(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    command = ("poison", table, "-o", out, f"--address={server.address}", "--rows=2")
    predict(*command, "--on-error=stop", code=1)
    write_rows(table, numbers(21))

    done = predict(*command, code=2)
    assert "is of another run (another input file); --restart throws it away" in done.stderr

    predict(*command, "--restart")
    assert 21 == len(results(out))
    assert "it is there already; --overwrite replaces it" in predict(*command, code=2).stderr


def test_an_input_that_changes_meanwhile_is_noticed(server: LiveServer, tmp_path: Path) -> None:
    """Rows of two files are no result; the same command does not go on with them either."""
    table, out = write_rows(tmp_path / "in.csv", numbers(MANY)), tmp_path / "out.csv"
    part = tmp_path / "out.csv.part"
    command = ("same_fp32", str(table), "-o", str(out), f"--address={server.address}")
    with launch("predict", *command, "--rows=1", "--concurrency=1") as process:
        wait_until(
            lambda: part.exists() and part.stat().st_size > COMMITTED, "results are on the disk"
        )
        write_rows(table, numbers(MANY - 1))
        _, said = process.communicate(timeout=60)

    assert 2 == process.returncode
    assert "in.csv: changed while it was read" in said
    assert not out.exists()
    assert "another input file" in predict(*command, code=2).stderr


@pytest.mark.slow
def test_a_row_that_kills_the_worker_is_one_bad_row(
    start: Callable[..., LiveServer], few: Path, tmp_path: Path
) -> None:
    """The server replaces its worker, and every other row is scored."""
    live = start(few)
    rows = numbers(60)
    rows[31][3] = DEADLY
    table = write_rows(tmp_path / "in.csv", rows)

    flags = (f"--address={live.address}", "--rows=4")
    predict("crash", table, "-o", tmp_path / "out.csv", *flags, code=3)

    found = results(tmp_path / "out.csv")
    assert [31] == [row for row, cells in enumerate(found) if cells[-1]]
    assert [str(row[0] + 1) for row in rows[:31]] == [cells[0] for cells in found[:31]]


@pytest.mark.slow
def test_no_server_is_needed(repository: Path, tmp_path: Path) -> None:
    """With --local the model runs in workers of the command, which opens no network socket."""
    table, out = write_rows(tmp_path / "in.csv", numbers(MANY)), tmp_path / "out.csv"
    part = tmp_path / "out.csv.part"
    flags = (f"--local={repository}", "--device=cpu", "--rows=1", "--concurrency=1")
    with launch("predict", "poison", str(table), "-o", str(out), *flags) as process:
        wait_until(
            lambda: part.exists() and part.stat().st_size > COMMITTED,
            "results are on the disk",
            60.0,
        )
        one = psutil.Process(process.pid)
        workers = one.children(recursive=True)
        sockets = [s for p in (one, *workers) for s in p.net_connections("inet")]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert [] == sockets
    assert workers
    wait_until(lambda: not any(map(_is_alive, workers)), "the workers are gone")

    done = predict("poison", table, "-o", out, f"--local={repository / 'poison'}", "--device=cpu")

    assert "of them earlier" in done.stdout
    assert [str(i + 1.0) for i in range(MANY)] == [cells[0] for cells in results(out)]


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_what_cannot_begin_is_said(server: LiveServer, tmp_path: Path) -> None:
    """One line each, which names the flag or what there is."""
    table = write_rows(tmp_path / "in.csv", numbers(3))
    out = ("-o", tmp_path / "out.csv")
    address = f"--address={server.address}"

    def said(code: int, *arguments: object) -> str:
        return predict(*arguments, code=code).stderr.splitlines()[-1]

    assert "'nobody' is not found" in said(1, "nobody", table, *out, address)
    assert "no server answers at 127.0.0.1:1" in said(1, "m", table, *out, "--address=127.0.0.1:1")
    assert "--device is for --local" in said(2, "m", table, *out, "--device=cpu")
    assert "there is no such file" in said(2, "m", tmp_path / "x.csv", *out)
    assert "no column for the input a" in said(2, "joined", table, *out, address)
    local = ("--local", tmp_path / "nowhere")
    assert "there is no such folder or file" in said(2, "m", table, *out, *local)
    assert "no version found" in said(1, tmp_path.name, table, *out, "--local", tmp_path)
    assert not list(tmp_path.glob("out*"))


def test_the_page_about_it_is_right(
    start: Callable[..., LiveServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program and the commands of docs/predicting.md run, and print what it says."""
    samples = tmp_path / "models"
    build = [sys.executable, ROOT / "models" / "build.py", "simple", f"--repository={samples}"]
    subprocess.run(build, check=True, capture_output=True)
    address = start(samples).address
    page = (ROOT / "docs" / "predicting.md").read_text(encoding="utf-8")
    blocks = [(kind, text) for kind, text in BLOCK.findall(page)]
    assert ["python", "sh", "text", "sh"] == [kind for kind, _ in blocks]
    (_, program), (_, served), (_, printed), (_, local) = blocks
    monkeypatch.chdir(tmp_path)

    subprocess.run([sys.executable, "-c", program], check=True)
    done = predict(*shlex.split(served)[2:], "--address", address, code=3)
    predict(*shlex.split(local.replace("models/repository", str(samples)))[2:], code=3)

    assert PACE.sub("()", printed) == PACE.sub("()", done.stderr + done.stdout)
    assert [f"row-7,{json.dumps([8] * 16)[1:-1].replace(' ', '')},"] == [
        line for line in (tmp_path / "sums.csv").read_text().splitlines() if "row-7," in line
    ]
    (line,) = (tmp_path / "local.csv.errors.jsonl").read_text().splitlines()
    assert f"```json\n{line}\n```" in page
