"""Spans of traced calls and batches to a collector, on a thread of its own.

Needs the extra ``otel``; it is imported where there is an endpoint.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from jitney.telemetry.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from jitney.telemetry.span_maker import SpanMaker
    from jitney.telemetry.spans import BatchTrace, CallTrace

__all__ = ["SpanSender", "open_exporter"]

log = logging.getLogger(__name__)

MAX_WAITING: Final = 8192
MOST_AT_ONCE: Final = 128
"""Calls and batches that are made into spans without a pause: a few milliseconds of a thread, in
which the event loop has to ask for the interpreter."""
EVERY: Final = 1.0
"""Seconds from the first note until it is sent, so that others may go with it."""


def open_exporter(endpoint: str) -> OTLPSpanExporter:
    """Return what sends spans by OTLP over gRPC; it knows OTEL_EXPORTER_OTLP_* variables too.

    :param endpoint: ``http://host:port``, or ``https://`` for TLS.
    """
    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))


class SpanSender:
    """Takes notes from the event loop, and sends spans of them on a thread of its own.

    ``put`` never waits: past ``max_waiting`` notes, further ones are dropped. What was dropped, and
    what could not be sent, is counted. ``close`` sends what waits, once, and gives up after some
    seconds.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        maker: SpanMaker,
        *,
        every: float = EVERY,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Start the thread."""
        self._exporter = exporter
        self._maker = maker
        self._every = every
        self._max_waiting = max_waiting
        self._queue: queue.SimpleQueue[CallTrace | BatchTrace | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._sent = 0
        self._failed = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<SpanSender {self._queue.qsize()} wait, {dict(self.counts())}>"

    def reading(self) -> Reading:
        """Return the counts as a metric."""
        return Reading(
            "jitney_spans",
            "Spans that were sent to the collector or could not be, and notes that were dropped.",
            ("outcome",),
            lambda: self.counts(),  # noqa: PLW0108  # the docs' test has no sender
            counts=True,
        )

    def counts(self) -> list[tuple[tuple[str, ...], float]]:
        """Return how many spans were sent and could not be, and how many notes were dropped."""
        return [(("sent",), self._sent), (("failed",), self._failed), (("dropped",), self._dropped)]

    def put(self, note: CallTrace | BatchTrace) -> None:
        """Take a note of something that has ended."""
        if self._queue.qsize() >= self._max_waiting:
            self._dropped += 1
        else:
            self._queue.put(note)

    def close(self, patience: float = 3.0) -> None:
        """Send what waits, for so many seconds at most."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(patience)

    def _run(self) -> None:
        while not self._closing.is_set():
            first = self._queue.get()
            self._closing.wait(self._every)
            notes = [] if first is None else [first]
            while notes or not self._queue.empty():
                while len(notes) < MOST_AT_ONCE and not self._queue.empty():
                    note = self._queue.get()
                    if note is not None:
                        notes.append(note)
                self._send(notes)
                notes = []
        self._exporter.shutdown()

    def _send(self, notes: Sequence[CallTrace | BatchTrace]) -> None:
        spans: list[ReadableSpan] = []
        try:
            for note in notes:
                spans += self._maker.spans(note)
            if self._exporter.export(spans) is SpanExportResult.SUCCESS:
                self._sent += len(spans)
                return
        except Exception:  # the exporter is somebody else's code, and this thread has to go on
            log.exception("spans could not be sent")
        self._failed += len(spans)
