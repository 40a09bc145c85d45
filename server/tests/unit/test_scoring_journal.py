"""What was scored survives the end of the program, whole or not at all."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jitney.errors import ConfigError
from jitney.scoring.journal import MAGIC, Journal
from jitney.scoring.scored import Scored

if TYPE_CHECKING:
    from pathlib import Path

JOB = {"model": "m", "input file": ["x.csv", 1, 2]}


def texts(*values: bytes) -> Any:
    """Return an array of texts."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


BLOCKS = [
    Scored(0, 2, {"y": np.array([[1.5], [2.5]], np.float32), "t": texts(b"a\0", b"")}, {1: "no"}),
    Scored(2, 2, {"y": [np.zeros((0, 3), np.int8), None], "t": texts(b"\xff", b"c")}, {1: "ä"}),
    Scored(4, 1, {"y": [None], "t": [None]}, {0: "all"}),
]  # fmt: skip


def plain(journal: Journal, *outputs: str) -> list[Any]:
    """Return everything in a journal as Python has it."""

    def rows(found: Any) -> Any:
        if isinstance(found, list):
            return [None if a is None else (a.dtype.kind, a.shape, a.tolist()) for a in found]
        return (found.dtype.kind, found.shape, found.tolist())

    return [
        (s.first, s.rows, {name: rows(s.outputs[name]) for name in s.outputs}, dict(s.errors))
        for s in journal.read(outputs)
    ]


def write(path: Path) -> list[Any]:
    """Write a journal; return what is in it."""
    with Journal(path, JOB) as journal:
        for block in BLOCKS:
            journal.append(block)
        return plain(journal, "y", "t")


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    """By the program that wrote it and by the next one, bit by bit."""
    before = write(tmp_path / "j")

    with Journal(tmp_path / "j", JOB) as journal:
        assert before == plain(journal, "y", "t")
        assert (5, 3) == (journal.rows, journal.failed)
        assert "<Journal j: 5 rows, 3 failed>" == repr(journal)
    assert ("f", (2, 1), [[1.5], [2.5]]) == before[0][2]["y"]
    assert ("O", (2,), [b"\xff", b"c"]) == before[1][2]["t"]
    assert [("i", (0, 3), []), None] == before[1][2]["y"]


def test_outputs_are_read_one_by_one(tmp_path: Path) -> None:
    """What is not asked for is not in memory."""
    whole = write(tmp_path / "j")
    with Journal(tmp_path / "j", JOB) as journal:
        assert [{"t": block[2]["t"]} for block in whole] == [b[2] for b in plain(journal, "t")]
        assert [{}, {}, {}] == [block[2] for block in plain(journal)]


def test_a_journal_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    """At whichever byte it ends: whole records stay, the rest is gone, and more can follow."""
    path = tmp_path / "j"
    whole = write(path)
    data = path.read_bytes()
    ends = set()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with Journal(path, JOB) as journal:
            kept = plain(journal, "y", "t")
            assert whole[: len(kept)] == kept
            for block in BLOCKS[len(kept) :]:
                journal.append(block)
            ends.add(len(kept))
        assert data == path.read_bytes()
    assert {0, 1, 2} == ends


@pytest.mark.parametrize("place", [-1, -40, 200])
def test_a_damaged_record_ends_it(tmp_path: Path, place: int) -> None:
    """A bit that fell over on the disk is no result, nor is what follows."""
    path = tmp_path / "j"
    write(path)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)

    with Journal(path, JOB) as journal:
        assert journal.rows < 5


@pytest.mark.parametrize("zeros", [1, 12, 13, 4096])
def test_zeros_at_its_end_are_no_record(tmp_path: Path, zeros: int) -> None:
    """A machine that lost its power may leave them; twelve are a head whose checksum is right."""
    path = tmp_path / "j"
    whole = write(path)
    data = path.read_bytes()
    path.write_bytes(data + bytes(zeros))

    with Journal(path, JOB) as journal:
        assert whole == plain(journal, "y", "t")
    assert data == path.read_bytes()


@pytest.mark.parametrize("place", [0, 3, 10, -2])
def test_a_damaged_line_about_the_job_is_said(tmp_path: Path, place: int) -> None:
    """Nobody knows what the results are of, so they are not used; --restart begins anew."""
    path = tmp_path / "j"
    write(path)
    data = bytearray(path.read_bytes())
    line = range(len(MAGIC), data.index(b"\n", len(MAGIC)))
    data[line[place]] ^= 0x80
    path.write_bytes(data)

    with pytest.raises(ConfigError, match="j: damaged; --restart throws it away"):
        Journal(path, JOB)
    with Journal(path, JOB, restart=True) as journal:
        assert 0 == journal.rows


def test_a_journal_without_results_is_nobodys(tmp_path: Path) -> None:
    """Whoever mends an input file after the first error need not say that he begins anew."""
    Journal(tmp_path / "j", JOB).close()

    with Journal(tmp_path / "j", {**JOB, "input file": ["x.csv", 5, 6]}) as journal:
        journal.append(BLOCKS[0])
    with pytest.raises(ConfigError, match="another run \\(another input file\\)"):
        Journal(tmp_path / "j", JOB)


def test_what_was_appended_outlives_the_process(tmp_path: Path) -> None:
    """It is with the system at once: who is killed loses nothing that was noted."""
    with Journal(tmp_path / "j", JOB) as journal:
        for block in BLOCKS:
            journal.append(block)
        (tmp_path / "copy").write_bytes((tmp_path / "j").read_bytes())

    with Journal(tmp_path / "copy", JOB) as journal:
        assert 5 == journal.rows


def test_a_journal_that_goes_away_meanwhile_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends between our opening and our lock would leave us a file without a name."""
    path = tmp_path / "j"
    write(path)
    ends = [path]
    own = fcntl.flock

    def flock(file: Any, how: int) -> None:
        while ends:
            ends.pop().unlink()
        own(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Journal(path, JOB) as journal:
        assert 0 == journal.rows
        journal.append(BLOCKS[0])
    with Journal(path, JOB) as journal:
        assert 2 == journal.rows


def test_what_is_no_file_is_in_the_way(tmp_path: Path) -> None:
    """A device would be read for ever."""
    (tmp_path / "j").symlink_to("/dev/full")

    with pytest.raises(ConfigError, match="is in the way, and no file"):
        Journal(tmp_path / "j", JOB)


def test_the_journal_of_another_job_is_refused(tmp_path: Path) -> None:
    """It is told what differs, and thrown away on request."""
    write(tmp_path / "j")
    other = {**JOB, "model": "n"}

    with pytest.raises(ConfigError, match="another run \\(another model\\); --restart"):
        Journal(tmp_path / "j", other)
    with Journal(tmp_path / "j", other, restart=True) as journal:
        assert 0 == journal.rows


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """Not even a restart touches it."""
    path = tmp_path / "j"
    path.write_text("my diary\n")

    with pytest.raises(ConfigError, match="not from jitney predict"):
        Journal(path, JOB, restart=True)
    assert "my diary\n" == path.read_text()


def test_one_program_at_a_time(tmp_path: Path) -> None:
    """Two would each write half of it."""
    with Journal(tmp_path / "j", JOB), pytest.raises(ConfigError, match="another jitney predict"):
        Journal(tmp_path / "j", JOB)
    with Journal(tmp_path / "j", JOB):
        pass


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Before anything is scored."""
    with pytest.raises(ConfigError, match="No such file or directory"):
        Journal(tmp_path / "no" / "j", JOB)


def test_it_is_gone_when_it_is_not_needed(tmp_path: Path) -> None:
    """Nothing stays beside the result."""
    with Journal(tmp_path / "j", JOB) as journal:
        assert (tmp_path / "j").read_bytes().startswith(MAGIC)
        journal.delete()
    assert [] == list(tmp_path.iterdir())
