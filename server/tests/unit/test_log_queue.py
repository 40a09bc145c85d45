"""The log's queue: nobody who logs waits, and what is lost is counted."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import pytest

from jitney.telemetry.log_lines import TextLines
from jitney.telemetry.log_queue import LogQueue
from jitney.telemetry.logs import is_json, open_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LIMIT = 20.0


class Reader:
    """Whoever reads the log: takes lines, waits while its gate is shut, or is gone."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reading = threading.Event()
        self.gone = False

    def write(self, line: bytes) -> None:
        """Take a line."""
        self.reading.set()
        assert self.gate.wait(LIMIT)
        if self.gone:
            raise BrokenPipeError
        self.lines.append(line.decode().rstrip("\n"))


class Bench:
    """A logger of its own over a queue."""

    def __init__(self, rate: int = 0, max_waiting: int = 1 << 20) -> None:
        self.now = 0.0
        self.facts: Mapping[str, object] = {}
        self.reader = Reader()
        self.queue = LogQueue(
            self.reader.write,
            rate=rate,
            facts=lambda: self.facts,
            max_waiting=max_waiting,
            now=lambda: self.now,
        )
        self.queue.setFormatter(TextLines())
        self.log = logging.Logger("test", logging.INFO)  # noqa: LOG001  # below no root
        self.log.addHandler(self.queue)

    def said(self) -> list[str]:
        """Return what was written by now, without times and levels."""
        self.queue.flush()
        return [line.partition(": ")[2] for line in self.reader.lines]

    def dropped(self) -> dict[str, float]:
        """Return how many were lost, by why, without noughts."""
        return {why: count for (why,), count in self.queue.dropped() if count}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a bench."""
    made = Bench()
    yield made
    made.queue.close()


class Textless:
    """What cannot be written: whatever is logged may be somebody else's."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


def test_what_cannot_be_written_is_no_fault_of_its_caller(bench: Bench) -> None:
    """A log must not fail whoever logs; such a record is written as far as it goes, or counted."""
    bench.log.info(Textless())
    bench.log.info("x", extra={"n": 10**5000, "o": Textless()})
    bench.facts = None  # type: ignore[assignment]  # whoever knows the facts fails
    bench.log.info("lost")

    first, second = bench.said()
    assert "<Textless> (with arguments that do not fit)" == first
    assert second.endswith("o=<Textless>")
    assert {"failed": 1} == bench.dropped()


def test_what_waits_while_the_log_is_closed_is_written_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its reader comes back at all."""
    monkeypatch.setattr("jitney.telemetry.log_queue.PATIENCE", 0.0)
    bench.reader.gate.clear()
    for number in range(3):
        bench.log.info("%d", number)
    bench.queue.close()
    bench.reader.gate.set()

    thread = bench.queue._thread  # nothing else tells that it is through
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert ["0", "1", "2"] == [line.partition(": ")[2] for line in bench.reader.lines]


def test_lines_come_in_order(bench: Bench) -> None:
    """And all of them are written by the end of a flush."""
    for number in range(100):
        bench.log.info("%d", number)

    assert [str(number) for number in range(100)] == bench.said()


def test_whoever_logs_does_not_wait_for_who_reads() -> None:
    """What there is no room for is lost, counted, and said when there is room again."""
    bench = Bench(max_waiting=1000)
    bench.reader.gate.clear()
    for _ in range(100):
        bench.log.info("x" * 100)
    lost = bench.dropped()["full"]
    bench.reader.gate.set()
    bench.said()
    bench.log.info("again")
    said = bench.said()
    bench.queue.close()

    assert 90 < lost < 100
    assert f"{lost:.0f} records were lost: whoever reads the log is too slow, or gone" in " ".join(
        bench.reader.lines
    )
    assert "again" in said


def test_the_end_waits_for_a_reader_that_hangs_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server stops although nobody reads what it says."""
    monkeypatch.setattr("jitney.telemetry.log_queue.PATIENCE", 0.01)
    bench = Bench()
    bench.reader.gate.clear()
    bench.log.info("nobody reads this")
    bench.queue.close()

    assert [] == bench.reader.lines
    bench.reader.gate.set()


def test_a_reader_that_is_gone_costs_nothing_but_lines(bench: Bench) -> None:
    """They are counted, and the loss is said when there is somebody again."""
    bench.reader.gone = True
    for _ in range(3):
        bench.log.info("x")
    assert ([], {"failed": 3}) == (bench.said(), bench.dropped())
    bench.reader.gone = False
    bench.log.info("back")
    bench.said()

    assert ["back", "3 records were lost: whoever reads the log is too slow, or gone"] == [
        re.sub(r" left_out=\d+$", "", line) for line in bench.said()
    ]


def test_one_line_of_the_program_is_limited_and_the_rest_is_told() -> None:
    """At the latest with the end of the log; errors are no exception."""
    bench = Bench(rate=2)
    for _ in range(10):
        bench.log.error("again and again")
    bench.log.error("something else")
    said = bench.said()
    bench.queue.close()

    assert ["again and again", "again and again", "something else"] == said
    last = bench.reader.lines[-1]
    assert re.search(
        r" ERROR test: 8 more records of this line were left out .* left_out=8 line=\d+$", last
    )
    assert {"rate": 8} == bench.dropped()


def test_what_was_left_out_is_told_after_a_second_without_another_record() -> None:
    """Nobody has to log for it."""
    bench = Bench(rate=1)
    told = threading.Event()
    write = bench.reader.write

    def watched(line: bytes) -> None:
        write(line)
        if b"more records" in line:
            told.set()

    bench.queue._write = watched
    for _ in range(3):
        bench.log.info("x")
    bench.now = 1.5

    assert told.wait(LIMIT)
    bench.queue.close()


def test_records_that_somebody_counted_already_are_not_limited() -> None:
    """Such as traces, whose number an operator chose."""
    bench = Bench(rate=1)
    for _ in range(5):
        bench.log.info("x", extra={"kept": True})

    assert ["x"] * 5 == bench.said()
    bench.queue.close()


def test_facts_of_what_is_being_done_are_in_every_record(bench: Bench) -> None:
    """A record's own fields come first; what is empty is left out."""
    bench.facts = {"principal": "somebody", "trace_id": ""}
    bench.log.info("a")
    bench.log.info("b", extra={"principal": "else"})

    assert ["a principal=somebody", "b principal=else"] == bench.said()


def test_what_is_logged_after_the_end_is_written_at_once(bench: Bench) -> None:
    """The interpreter's last words are not lost."""
    bench.queue.close()
    bench.log.info("late")

    assert ["late"] == [line.partition(": ")[2] for line in bench.reader.lines]


def test_a_queue_tells_what_it_holds(bench: Bench) -> None:
    """For whoever debugs it."""
    bench.said()

    assert "<LogQueue 0 bytes wait, {('rate',): 0, ('full',): 0, ('failed',): 0}>" == repr(
        bench.queue
    )


@pytest.mark.parametrize(
    ("form", "expected"), [("auto", True), ("json", True), ("text", False)], ids=str
)
def test_without_a_terminal_the_log_is_json(form: str, *, expected: bool, tmp_path: Path) -> None:
    """Unless the operator says otherwise."""
    with (tmp_path / "log").open("w") as stream:
        assert expected == is_json(form, stream)


class Process:
    """The state of the process that an open log changes, put back at the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", list(root.handlers))
        monkeypatch.setattr(root, "level", root.level)
        monkeypatch.setattr(threading, "excepthook", threading.excepthook)
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
        self.path = path

    def lines(self, act: object) -> str:
        """Open the log, do something, close it; return what was written."""
        with self.path.open("w") as stream:
            handler = open_log("info", "json", 20, stream)
            try:
                act()  # type: ignore[operator]  # each test's own
            finally:
                handler.close()
                logging.captureWarnings(capture=False)
        return self.path.read_text()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Process:
    """Return what can open the log of this process."""
    return Process(monkeypatch, tmp_path / "log")


def test_warnings_are_logged(process: Process) -> None:
    """By themselves they are written between the lines of the log."""

    def act() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=False)
            logging.captureWarnings(capture=True)
            warnings.warn("careful", stacklevel=1)

    assert "UserWarning: careful" in process.lines(act)


def test_a_thread_that_ends_with_an_exception_is_logged(process: Process) -> None:
    """With its name and the traceback."""

    def act() -> None:
        thread = threading.Thread(target=lambda: dict[str, int]()["x"], name="mine")
        thread.start()
        thread.join()

    said = process.lines(act)
    assert '"message":"the thread mine ended with an exception"' in said
    assert '"type":"KeyError"' in said


class Fragile:
    """An object whose finaliser fails."""

    def __del__(self) -> None:
        """Fail."""
        msg = "broken"
        raise ValueError(msg)


def test_an_exception_in_a_finaliser_is_logged(process: Process) -> None:
    """Python alone would write it to the standard error."""

    def act() -> None:
        Fragile()

    assert '"type":"ValueError"' in process.lines(act)
