"""The audit log under everything that disks and crashes do to it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from audit_files import PATIENCE, events, opened, write

from jitney import access
from jitney.access import Principal
from jitney.audit import NO_AUDIT, AuditLog
from jitney.audit import log as audit_log
from jitney.audit.file import AuditFile
from jitney.audit.verification import verify
from jitney.audit.writer import AuditWriter, Happening
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where an audit log may be."""
    return tmp_path / "audit.jsonl"


class Disk:
    """A disk that can be full, and take a part of what is written before it says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: int | None = None
        self.cut_works = True
        self.synced = True
        self._write, self._cut, self._fsync = os.write, os.ftruncate, os.fsync
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "ftruncate", self.cut)
        monkeypatch.setattr(os, "fsync", self.sync)

    def write(self, fd: int, data: bytes) -> int:
        """Take what there is room for."""
        if self.free is None:
            return self._write(fd, data)
        if not self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self._write(fd, data[: self.free])
        self.free -= taken
        return taken

    def cut(self, fd: int, size: int) -> None:
        """Shorten a file."""
        if not self.cut_works:
            raise OSError(errno.EROFS, "Read-only file system")
        self._cut(fd, size)

    def sync(self, fd: int) -> None:
        """Promise that it is written."""
        if not self.synced:
            raise OSError(errno.EIO, "Input/output error")
        self._fsync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return a disk under the test's control."""
    monkeypatch.setattr(audit_log, "RETRY_SECONDS", 0.001)
    return Disk(monkeypatch)


# -- what is written ----------------------------------------------------------------------------


def test_what_is_recorded_is_in_the_file_in_order(path: Path) -> None:
    """With who did it: the one that is named, or else the one whose call is being handled."""
    log = opened(path, who=lambda: "caller")
    log.record("model.load", model="a", version=1)
    log.record("tokens.reloaded", principal="ops")
    assert log.flush(PATIENCE)
    first, second = (json.loads(line) for line in path.read_bytes().splitlines())
    assert ("caller", {"model": "a", "version": 1}) == (first["principal"], first["facts"])
    assert ("ops", 2, "1970-01-01T00:00:00.000Z") == (
        second["principal"], second["seq"], second["time"],
    )  # fmt: skip
    assert (2, 0, 0, False, 2) == log.statistics()[:-1]
    log.close()


def test_whose_call_is_handled_is_found_out_by_itself(path: Path) -> None:
    """Also in the tasks that the call starts: a load goes on when its caller went away."""

    async def scenario() -> None:
        log = opened(path, who=lambda: access.current().name)
        with access.acting_as(Principal("ops", "token", ())):
            task = asyncio.create_task(later(log))
        log.record("nobody")
        await task
        log.close()

    async def later(log: AuditLog) -> None:
        log.record("somebody")

    asyncio.run(scenario())
    who = [json.loads(line)["principal"] for line in path.read_bytes().splitlines()]
    assert ["", "ops"] == who


def test_the_file_is_its_owners_only(path: Path) -> None:
    """It holds names of people and models."""
    write(path, "a")
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_log_that_is_off_keeps_nothing() -> None:
    """``NO_AUDIT`` takes everything, so that nobody asks whether there is a log."""
    NO_AUDIT.record("model.load", principal="ops", model="a")


def test_recording_waits_for_no_disk(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk hangs, a record takes no longer than putting it into a queue."""
    stuck, reached = threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        reached.set()
        stuck.wait(PATIENCE)
        disk.sync(fd)

    monkeypatch.setattr(os, "fsync", hang)
    log = opened(path)
    log.record("first")
    assert reached.wait(PATIENCE)
    for _ in range(100):
        log.record("next")
    assert 101 == log.statistics().waiting
    stuck.set()
    log.close()
    assert 101 == verify([path]).records


# -- restarts -----------------------------------------------------------------------------------


def test_the_chain_goes_on_over_restarts(path: Path) -> None:
    """A second server begins where the first ended."""
    write(path, "a", "b")
    write(path, "c")
    verdict = verify([path])
    assert (3, 1, 3, "", ()) == (
        verdict.records, verdict.first, verdict.last, verdict.broken, verdict.notes,
    )  # fmt: skip


@pytest.mark.parametrize("left", [1, 8, 40, -1])
def test_a_torn_last_line_is_closed_and_said(path: Path, left: int) -> None:
    """A crash in the middle of a line: the next server ends it, says so, and the chain goes on.

    The last case is a line that lacks nothing but its end.
    """
    write(path, "a", "b")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:left])
    write(path, "c")
    verdict = verify([path])
    assert "" == verdict.broken
    (note,) = verdict.notes
    assert "the server ended while it wrote this line" in note
    data = path.read_bytes().splitlines()
    assert ["audit.torn", "c"] == [json.loads(line)["event"] for line in data[-2:]]


def test_a_changed_last_line_is_no_crash(path: Path) -> None:
    """What somebody changed while no server ran is found, although the log goes on."""
    write(path, "a", "b")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"event":"b"', b'"event":"x"'))
    write(path, "c")
    verdict = verify([path])
    assert (1, "audit.jsonl, line 2: changed after it was written") == (
        verdict.last, verdict.broken.partition(": its hash")[0],
    )  # fmt: skip
    assert ["x", "audit.damaged", "c"] == events(path)[1:]


def test_a_file_of_something_else_is_not_lost(path: Path) -> None:
    """What was in it stays; the log begins behind it, and an auditor is told."""
    path.write_text("not an audit log\n")
    write(path, "a")
    assert "not an audit log" == path.read_text().splitlines()[0]
    assert "audit.jsonl, line 1: no record" in verify([path]).broken


def test_one_process_at_a_time(path: Path) -> None:
    """Two servers would write two chains into each other."""
    log = opened(path)
    with pytest.raises(ConfigError, match="another process writes it"):
        opened(path)
    log.close()
    write(path, "a")


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    """Nobody leads the log into another file."""
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"telemetry\.audit_file: .* cannot be opened"):
        opened(path)


# -- rotation -----------------------------------------------------------------------------------


def test_the_chain_is_carried_over_to_the_next_file(path: Path) -> None:
    """A file that is full is put aside under its last number, and the next one follows it."""
    for event in "abc":
        write(path, event, max_bytes=100)
    files = sorted(path.parent.iterdir())
    assert ["audit.jsonl", "audit.jsonl.000000000001", "audit.jsonl.000000000003"] == [
        file.name for file in files
    ]
    verdict = verify([*files[1:], files[0]])
    assert (5, "") == (verdict.records, verdict.broken)
    assert ["audit.rotated", "c"] == events(path)
    assert (
        "audit.jsonl.000000000003" == json.loads(path.read_bytes().splitlines()[0])["facts"]["from"]
    )


def test_a_crash_between_two_files_loses_nothing(path: Path) -> None:
    """The new file was never made: the chain goes on from the one that was put aside."""
    write(path, "a", "b")
    path.rename(path.with_name("audit.jsonl.000000000002"))
    write(path, "c")
    assert (3, "") == verify([path.with_name("audit.jsonl.000000000002"), path])[::6]


def test_a_file_that_cannot_be_put_aside_is_used_on(path: Path, tmp_path: Path) -> None:
    """Nothing is written over; the records wait, and nothing of them is lost."""
    write(path, "a")
    (tmp_path / "audit.jsonl.000000000001").write_text("taken")
    file = AuditFile(path)
    writer = AuditWriter(file, 100)
    with pytest.raises(OSError, match="there is such a file already"):
        writer.write([Happening(0, "b", "", {})])
    (tmp_path / "audit.jsonl.000000000001").unlink()
    writer.write([Happening(0, "b", "", {})])
    writer.close()
    assert ["audit.rotated", "b"] == events(path)


# -- disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut_works", [True, False])
def test_a_full_disk_costs_no_record(path: Path, disk: Disk, *, cut_works: bool) -> None:
    """Half a line is taken back, at the latest when there is room again; then all is written."""
    log = opened(path)
    log.record("a")
    assert log.flush(PATIENCE)
    disk.free, disk.cut_works = 30, cut_works
    log.record("b")
    assert not log.flush(PATIENCE)
    assert log.statistics().failing
    log.record("c")
    disk.free, disk.cut_works = None, True
    log.close()
    assert (0, False, 3) == (
        log.statistics().lost, log.statistics().failing, log.statistics().written,
    )  # fmt: skip
    assert (3, "", ()) == (verify([path]).records, verify([path]).broken, verify([path]).notes)


def test_a_disk_that_does_not_keep_its_word_is_tried_again(path: Path, disk: Disk) -> None:
    """What could not be synced is written once more, and is in the file once."""
    log = opened(path)
    disk.synced = False
    log.record("a")
    assert not log.flush(PATIENCE)
    disk.synced = True
    log.close()
    assert ["a"] == events(path)


def test_what_could_not_wait_is_counted_where_it_is_missing(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of the gap stands where the lost ones would have stood."""
    monkeypatch.setattr(audit_log, "MOST_WAITING", 2)
    log = opened(path)
    disk.free = 0
    log.record("a")
    assert not log.flush(PATIENCE)
    for event in "bcd":
        log.record(event)
    assert 2 == log.statistics().lost
    disk.free = None
    while not log.flush(PATIENCE):
        pass
    log.record("e")
    log.close()
    assert ["a", "b", "audit.gap", "e"] == events(path)
    (note,) = verify([path]).notes
    assert "audit.jsonl, line 3: 2 records could not be written before this one" == note


def test_a_record_that_cannot_be_made_takes_no_other_along(path: Path, disk: Disk) -> None:
    """Such as one of a number that has no text; a gap is recorded in its place."""
    log = opened(path)
    disk.free = 0
    log.record("a")  # it waits, so that all of them are written at once
    assert not log.flush(PATIENCE)
    log.record("b", number=10**5000)
    log.record("c")
    disk.free = None
    while not log.flush(PATIENCE):
        pass
    log.close()
    assert ["a", "c", "audit.gap"] == events(path)
    assert 1 == log.statistics().lost


def test_the_end_does_not_wait_for_a_full_disk(path: Path, disk: Disk) -> None:
    """The server ends; what could not be written is counted."""
    log = opened(path)
    disk.free = 0
    log.record("a")
    log.close()
    assert (0, 1) == log.statistics()[:2]
