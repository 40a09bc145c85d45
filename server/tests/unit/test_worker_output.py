"""What workers print, as records of the log."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
from typing import TYPE_CHECKING

import pytest

from jitney.telemetry.worker_output import WorkerOutput

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 20.0


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@pytest.fixture
def records() -> Iterator[Records]:
    """Return what is logged about workers."""
    logger, handler = logging.getLogger("jitney.telemetry.worker_output"), Records()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def printed(*texts: bytes, errors: bytes = b"", per_second: int = 100) -> None:
    """Be a worker that prints texts, and ends."""
    output = WorkerOutput(per_second)
    out, err = output.open("cpu")
    for text in texts:
        os.write(out, text)
    os.write(err, errors)
    os.close(out)
    os.close(err)
    output.close(LIMIT)


def test_each_line_is_a_record_with_the_device(records: Records) -> None:
    """However the bytes came; the last line needs no end."""
    printed(b"one\ntw", b"o\n\nthree")

    assert [("one", "cpu"), ("two", "cpu"), ("three", "cpu")] == [
        (record.getMessage(), record.__dict__["device"]) for record in records.records
    ]


def test_errors_are_warnings_and_the_rest_is_news(records: Records) -> None:
    """A quiet log still has what a worker says before it dies."""
    printed(b"hello\n", errors=b"Traceback\n")

    assert {("hello", "INFO"), ("Traceback", "WARNING")} == {
        (record.getMessage(), record.levelname) for record in records.records
    }


def test_what_is_no_text_is_logged_all_the_same(records: Records) -> None:
    """Bytes that are not UTF-8 are replaced, and long lines cut."""
    printed(b"\xff\xfe ok\n" + b"x" * 50_000 + b"\n")
    first, *others = [record.getMessage() for record in records.records]

    assert "�� ok" == first
    assert {True} == {len(text) <= 4096 for text in others}


def test_a_worker_that_prints_without_end_is_read_and_left_out(records: Records) -> None:
    """It is not held up for ever, and the log is not filled; how much was left out is said."""
    line = b"again and again\n"
    printed(*[line * 500] * 20, per_second=10)
    said = [record.getMessage() for record in records.records]
    left_out = sum(record.__dict__.get("left_out", 0) for record in records.records)

    assert 500 * 20 == said.count("again and again") + left_out
    assert said[-1].endswith(" more lines of this worker were left out")


def test_workers_come_and_go(records: Records) -> None:
    """One that is replaced has an output of its own, while others go on."""
    output = WorkerOutput()
    first, other = output.open("cuda:0"), output.open("cuda:1")
    os.write(first[0], b"a\n")
    for fd in first:
        os.close(fd)
    again = output.open("cuda:0")
    os.write(again[0], b"b\n")
    os.write(other[0], b"c\n")
    for fd in (*other, *again):
        os.close(fd)
    output.close(LIMIT)

    assert {("a", "cuda:0"), ("b", "cuda:0"), ("c", "cuda:1")} == {
        (record.getMessage(), record.__dict__["device"]) for record in records.records
    }


def test_the_end_does_not_wait_for_a_worker_that_stays() -> None:
    """Somebody that it started may have its output still."""
    output = WorkerOutput()
    fds = output.open("cpu")
    output.close(0.01)

    assert [] == [fd for fd in fds if os.write(fd, b"x") != 1]
    for fd in fds:
        os.close(fd)


def take_descriptors() -> list[int]:
    """Return all that this process may still open."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    return taken


def test_a_worker_that_gets_no_descriptors_costs_none() -> None:
    """Where there are too few, the next try must not find fewer."""
    output = WorkerOutput()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Above what other tests of this process have left open, whatever its number.
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208  # names are wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest + 64, hard), hard))
    taken = take_descriptors()
    try:
        for _ in range(3):
            os.close(taken.pop())
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                output.open("cpu")
        again = take_descriptors()
        taken += again
        assert 3 == len(again)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
