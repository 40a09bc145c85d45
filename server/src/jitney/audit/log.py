"""The audit log as the server holds it: told in passing, written on a thread of its own."""

from __future__ import annotations

import collections
import logging
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from jitney.audit.file import AuditFile
from jitney.audit.writer import GAP, AuditWriter, Happening
from jitney.clock import wall_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jitney.audit.record import Fact

__all__ = ["NO_AUDIT", "Audit", "AuditLog", "AuditStatistics"]

log = logging.getLogger(__name__)

MOST_WAITING: Final = 10_000
"""Records that wait for the disk, a few MB; what comes then is counted and lost."""
RETRY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0
"""How long the end of the server waits for a disk that does not answer."""


class Audit(Protocol):
    """Whoever is told what an auditor wants to know."""

    def record(self, event: str, *, principal: str = "", **facts: Fact) -> None:
        """Note what happened; returns at once, and never raises.

        :param event: dotted, what it was about first: ``model.load``.
        :param principal: who caused it; empty for whoever makes the call that is being served.
        """


class AuditStatistics(NamedTuple):
    """``written`` and ``lost`` count records; ``failing`` tells that nothing can be written now."""

    written: int
    lost: int
    waiting: int
    failing: bool
    seq: int
    head: str


class _NoAudit:
    """Keeps nothing."""

    def record(self, event: str, *, principal: str = "", **facts: Fact) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


NO_AUDIT: Final[Audit] = _NoAudit()


class AuditLog:
    """An append-only file whose records hang together (``record.Chain``).

    - ``record`` takes microseconds: the file is written on a thread of its own. A disk that is
      full, slow or gone keeps nobody from being served.
    - Records are written in the order in which they came. While they cannot be written they wait,
      ``MOST_WAITING`` of them; what comes then is lost, and how much, and where, is itself a record
      as soon as that can be written.
    - After a crash, what was recorded in the last moments may be missing: a record is on the disk
      some milliseconds after ``record`` returned, and not before. Waiting for it would let a slow
      disk stop the event loop.
    - The number and the hash of the last record, the *anchor*, go to the server's ordinary log:
      when it ends, and from time to time. Kept elsewhere, they show that the end was cut off.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        sync: bool = True,
        anchor_seconds: float = 0.0,
        who: Callable[[], str] = str,
        now: Callable[[], float] = wall_seconds,
    ) -> None:
        """Open the file, and begin to wait for what is to be recorded.

        :param anchor_seconds: how often the anchor is logged while there is something new; 0 only
            at the end.
        :param who: returns who makes the call that is being handled, empty for nobody.
        :param now: seconds since the epoch.
        :raises ConfigError: when the file cannot be opened, or another process has it.
        """
        self._writer = AuditWriter(AuditFile(path, sync=sync), max_bytes)
        self._anchor_seconds = anchor_seconds
        self._who = who
        self._now = now
        self._changed = threading.Condition()
        self._waiting: collections.deque[Happening] = collections.deque()
        self._lost_here = 0
        self._lost = 0
        self._written = 0
        self._busy = False
        self._failing = False
        self._closing = False
        self._anchored = self._writer.chain.seq
        self._anchored_at = now()
        self._thread = threading.Thread(target=self._run, name="jitney-audit", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = "failing" if self._failing else "writing"
        return f"<AuditLog {state}, {len(self._waiting)} waiting, {self._writer.chain!r}>"

    def record(self, event: str, *, principal: str = "", **facts: Fact) -> None:
        """Note what happened; see ``Audit``."""
        happening = Happening(self._now(), event, principal or self._who(), facts)
        with self._changed:
            if self._closing or len(self._waiting) >= MOST_WAITING:
                self._lost += 1
                self._lost_here += 1
                return
            self._note_gap(happening.seconds)
            self._waiting.append(happening)
            self._changed.notify_all()

    def statistics(self) -> AuditStatistics:
        """Return the current figures."""
        chain = self._writer.chain
        waiting = len(self._waiting)
        return AuditStatistics(
            self._written, self._lost, waiting, self._failing, chain.seq, chain.head
        )

    def flush(self, timeout: float) -> bool:
        """Wait until everything so far is written; return whether it is.

        It returns at once when it cannot be written now. For tests, and the end.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._failing or not (self._waiting or self._busy), timeout
            )
            return not (self._failing or self._waiting or self._busy)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, log the anchor, and end; gives up after ``timeout`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.error("the audit log cannot be written: %d records are lost", len(self._waiting))

    # -- on the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, self._anchor_seconds or None)
                batch = self._take()
                is_over = self._closing and not batch
            if batch:
                self._write_all(batch)
            if is_over or self._is_anchor_due():
                self._anchor()
            if is_over:
                self._writer.close()
                return

    def _has_work(self) -> bool:
        return bool(self._waiting or self._lost_here or self._closing)

    def _take(self) -> list[Happening]:
        if not self._waiting:
            self._note_gap(self._now())
        batch = list(self._waiting)
        self._busy = bool(batch)
        return batch

    def _note_gap(self, seconds: float) -> None:
        """Let the number of lost records stand where they would have stood; called locked."""
        if self._lost_here:
            self._waiting.append(Happening(seconds, GAP, "", {"lost": self._lost_here}))
            self._lost_here = 0

    def _is_anchor_due(self) -> bool:
        # By the wall's clock: one that jumps makes an anchor early or late, and nothing worse.
        return 0 < self._anchor_seconds <= abs(self._now() - self._anchored_at)

    def _write_all(self, batch: list[Happening]) -> None:
        try:
            self._write(batch)
        except Exception:  # noqa: BLE001  # which of them cannot be made, one by one tells
            for happening in batch:
                try:
                    is_written = self._write([happening])
                except Exception:  # the thread's outermost boundary: the log would just end
                    log.exception("a record of %r cannot be made", happening.event)
                    self._done([happening], 0)
                else:
                    if not is_written:  # what is left goes on waiting, and keeps its order
                        return

    def _write(self, batch: list[Happening]) -> bool:
        """Write records; return whether they are written, and not waiting."""
        try:
            self._writer.write(batch)
        except OSError as error:
            self._failed(error)
            return False
        self._done(batch, len(batch))
        return True

    def _done(self, batch: list[Happening], written: int) -> None:
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
            self._written += written
            self._lost += len(batch) - written
            self._lost_here += len(batch) - written
            was_failing, self._failing, self._busy = self._failing, False, False
            self._changed.notify_all()
        if was_failing:
            log.warning("the audit log can be written again")

    def _failed(self, error: OSError) -> None:
        """Say so once, and wait before the next attempt; at the end there is none."""
        if not self._failing:
            log.error("the audit log cannot be written (%s): trying again", error.strerror)
        with self._changed:
            self._failing, self._busy = True, False
            self._changed.notify_all()
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
                return
            self._lost += len(self._waiting)
            self._waiting.clear()
        log.error("the audit log ends without its last records")

    def _anchor(self) -> None:
        chain = self._writer.chain
        self._anchored_at = self._now()
        if chain.seq > self._anchored:
            self._anchored = chain.seq
            kept = {"kept": True}  # whatever the log's rate limit says
            log.info("audit anchor: record %d has the hash %s", chain.seq, chain.head, extra=kept)
