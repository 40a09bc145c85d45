"""What an auditor finds in the files of an audit log, with and without an anchor."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from audit_files import PATIENCE, opened, write

from jitney.audit.verification import Anchor, verify
from jitney.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where an audit log may be."""
    return tmp_path / "audit.jsonl"


def test_the_anchor_is_logged_at_the_end(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It names the last record; kept elsewhere, it shows that the end was cut off."""
    with caplog.at_level("INFO"):
        write(path, "a", "b")
    head = verify([path]).head
    assert f"audit anchor: record 2 has the hash {head}" in caplog.messages
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert "" == verify([path]).broken
    assert (
        "record 2, which an anchor names, is not there" in verify([path], [Anchor(2, head)]).broken
    )


def test_the_anchor_is_logged_from_time_to_time(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After its interval, while there is something new."""
    seconds = itertools.count(0, 100)
    with caplog.at_level("INFO"):
        log = opened(path, anchor_seconds=150.0, now=lambda: float(next(seconds)))
        for event in "abc":
            log.record(event)
            assert log.flush(PATIENCE)
        log.close()
    assert len([text for text in caplog.messages if text.startswith("audit anchor")]) >= 2


def test_a_log_that_was_written_anew_is_not_the_anchored_one(path: Path) -> None:
    """Every chain holds in itself; only the anchor tells them apart."""
    write(path, "a", "b")
    assert "not the one that was anchored" in verify([path], [Anchor(1, "0" * 64)]).broken


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda lines: lines[:1] + lines[2:],
            "line 2: record 3 follows record 1: some are missing",
        ),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 2: record 3 follows record 1"),
        (lambda lines: [*lines[:2], lines[1], lines[2]], "line 3: record 2 follows record 2"),
        (lambda lines: [lines[0].replace(b"a", b"x"), *lines[1:]], "line 1: "),
        (lambda lines: [*lines[:1], b"{}\n", *lines[1:]], "line 2: no record"),
        (lambda lines: [*lines, b"garbage"], "line 4: no record"),
    ],
)
def test_what_was_changed_is_told_by_its_line(path: Path, change: Any, what: str) -> None:
    """Removed, moved, repeated, changed and added lines."""
    write(path, "a", "b", "c")
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    assert f"audit.jsonl, {what}" in verify([path]).broken


def test_lines_of_another_log_do_not_fit(path: Path, tmp_path: Path) -> None:
    """Numbers fit, hashes do not."""
    other = tmp_path / "other.jsonl"
    write(path, "a", "b")
    write(other, "x", "b")
    first, second = (
        path.read_bytes().splitlines(keepends=True)[0],
        other.read_bytes().splitlines()[1],
    )
    path.write_bytes(first + second + b"\n")
    assert "line 2: record 2 does not follow the record before it" in verify([path]).broken


def test_the_command_tells_an_auditor(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 and the anchor where it holds, 1 and the place where it does not, 2 without a file."""
    write(path, "a", "b")
    assert 0 == main(["verify-audit", str(path)])
    output = capsys.readouterr().out
    assert output.startswith("2 records, 1 to 2, hang together\nanchor 2:")
    anchor = output.split()[-1]
    assert 0 == main(["verify-audit", str(path), "--anchor", anchor, "--json"])
    assert (True, 2) == tuple(map(json.loads(capsys.readouterr().out).get, ("valid", "last")))
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    assert 1 == main(["verify-audit", str(path)])
    assert "broken: audit.jsonl, line 1: changed after it was written" in capsys.readouterr().out
    assert 2 == main(["verify-audit", str(path.with_name("none"))])
    assert 2 == main(["verify-audit", str(path), "--anchor", "last"])
