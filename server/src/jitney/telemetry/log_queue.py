"""The log's way out: a queue with an end, and a thread that may wait where nobody else can."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Final

from jitney.telemetry.log_lines import KEPT
from jitney.telemetry.log_rates import SiteRates
from jitney.telemetry.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["LogQueue"]

MAX_WAITING: Final = 4 << 20
"""Bytes that wait to be written."""
TELL_EVERY: Final = 1.0
"""Seconds between two looks at what was left out, while something was."""
PATIENCE: Final = 2.0
"""Seconds that the end of the process waits for whoever reads the log."""


class LogQueue(logging.Handler):
    """Makes lines where a record is made, and writes them on a thread of its own.

    - Whoever logs never waits for whoever reads: past ``max_waiting`` bytes, lines are lost.
    - Of one line of the program (a logger and a line number) at most ``rate`` records a second are
      written, whatever their level: a bug in a hot path must not become a second fault. Only
      ``extra={"kept": True}`` is exempt.
    - What was lost or left out is counted, and said in the log as soon as it can be.
    - ``flush`` and ``close`` write what waits, and give up after some seconds.

    Lines are made by the caller, some 15 us for one without a traceback: a record that waits would
    keep the frames of its exception alive, and with them whole tensors; and its arguments might
    change until it is read. ``logging.handlers.QueueHandler`` leaves neither the limit in bytes
    nor the counts.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        rate: int = 0,
        facts: Callable[[], Mapping[str, object]] | None = None,
        max_waiting: int = MAX_WAITING,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        :param write: takes whole lines, may block, and raises OSError for what is lost.
        :param rate: 0 for no limit.
        :param facts: fields of whatever is being done, for each record that does not have them.
        """
        super().__init__()
        self._write = write
        self._facts = facts
        self._max_waiting = max_waiting
        self._now = now
        self._rates = SiteRates(rate)
        self._queue: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        # Each is written by one thread: put under the handler's lock, written by ours.
        self._put = 0
        self._written = 0
        self._lost = 0
        self._unfit = 0
        self._failed = 0
        self._told = 0
        self._works = True
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<LogQueue {self._put - self._written} bytes wait, {dict(self.dropped())}>"

    def reading(self) -> Reading:
        """Return the counts as a metric."""
        return Reading(
            "jitney_log_records_dropped",
            "Records of the log that were not written, by why.",
            ("reason",),
            lambda: self.dropped(),  # noqa: PLW0108  # the docs' test has no queue
            counts=True,
        )

    def dropped(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """Return how many records were not written, by why, as a ``metrics.Reading``."""
        return [
            (("rate",), self._rates.left_out),
            (("full",), self._lost),
            (("failed",), self._failed + self._unfit),
        ]

    def emit(self, record: logging.LogRecord) -> None:
        """Make the line of a record; logging holds the handler's lock."""
        try:
            self._emit(record)
        except Exception:  # noqa: BLE001  # of what is logged; a log must not fail its caller
            self._unfit += 1

    def _emit(self, record: logging.LogRecord) -> None:
        fields = record.__dict__
        if KEPT not in fields:
            pending = self._rates.pending
            if not self._rates.take((record.name, record.lineno), record.levelno, self._now()):
                if not pending:
                    self._queue.put(None)  # so that somebody will tell
                return
        if self._facts is not None:
            for name, value in self._facts().items():
                if value:
                    fields.setdefault(name, value)
        self._line(self.format(record))

    def _line(self, text: str) -> None:
        line = (text + "\n").encode("utf-8", "backslashreplace")
        if self._closed:
            self._give(line)
        elif self._put - self._written + len(line) > self._max_waiting:
            self._lost += 1
        else:
            self._put += len(line)
            self._queue.put(line)

    def flush(self) -> None:
        """Wait until what was logged so far is written, or for some seconds."""
        if not self._closed:
            reached = threading.Event()
            self._queue.put(reached)
            reached.wait(PATIENCE)

    def close(self) -> None:
        """Write what waits, and whatever is logged from now on at once."""
        if not self._closed:
            self.acquire()
            try:
                self._tell(final=True)
            finally:
                self.release()
            self.flush()
            self._closed = True
            self._queue.put(None)
            self._thread.join(0.1)  # it has nothing to do any more, or hangs
        super().close()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        # What was put while the queue was being closed is written too.
        while not (self._closed and self._queue.empty()):
            try:
                item = self._queue.get(timeout=TELL_EVERY if self._rates.pending else None)
            except queue.Empty:
                item = None
            if isinstance(item, threading.Event):
                item.set()
            elif item is not None:
                self._works = self._give(item)
                self._written += len(item)
            # Whoever holds the lock may be waiting for this thread: there is another time.
            lock = self.lock
            if lock is not None and lock.acquire(blocking=False):
                try:
                    self._tell()
                finally:
                    lock.release()

    def _give(self, line: bytes) -> bool:
        try:
            self._write(line)
        except (OSError, ValueError):  # a full disk, a pipe without a reader, a closed file
            self._failed += 1
            return False
        return True

    def _tell(self, *, final: bool = False) -> None:
        over = self._rates.summaries(self._now(), final=final) if self._rates.pending else ()
        for (name, line), level, count in over:
            text = "%d more records of this line were left out (telemetry.log_rate)"
            self._say(name, level, line, text, count)
        # Not before lines arrive again: what says that others are lost shall not be lost.
        gone = self._lost + self._failed - self._told
        if gone and self._works and self._put == self._written:
            self._told += gone
            text = "%d records were lost: whoever reads the log is too slow, or gone"
            self._say(__name__, logging.WARNING, 0, text, gone)

    def _say(self, name: str, level: int, line: int | str, text: str, count: int) -> None:
        record = logging.LogRecord(name, level, __file__, 0, text, (count,), None)
        record.__dict__["left_out"] = count
        if line:
            record.__dict__["line"] = line
        self._line(self.format(record))
