"""Spans of calls: what the event loop notes of those that are traced, and nothing more.

What makes OpenTelemetry's spans of it and sends them is in ``span_maker`` and ``span_export``, on a
thread of its own. Nothing here needs the library.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from jitney.clock import wall_seconds
from jitney.telemetry.trace_context import TRACE_ID, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jitney.clock import Clock
    from jitney.errors import JitneyError
    from jitney.execution.executor import Completion
    from jitney.scheduling.batch import Batch
    from jitney.telemetry.trace_context import Parent
    from jitney.types import ModelRef, Request

    Metadata = Iterable[tuple[str, str | bytes]]

__all__ = ["BatchTrace", "CallTrace", "Spans", "StreamTrace"]

MAX_OPEN_BATCHES: Final = 1024
"""Batches whose end is awaited. One is lost without an end when its worker is and all that it held
runs again elsewhere."""


class BatchTrace:
    """A batch that has traced requests in it; times are monotonic seconds.

    ``calls`` are the traces and the spans of these. ``started`` and ``stages`` are the worker's
    stamps; ``ended`` is 0 while it runs, and ``reason`` the error's where it failed.
    """

    __slots__ = (
        *("calls", "device", "ended", "entries", "epoch", "formed", "limit", "model", "planned"),
        *("reason", "rows", "span_id", "stages", "started", "trace_id", "why"),
    )

    def __init__(self, batch: Batch, calls: list[CallTrace]) -> None:
        self.trace_id = random.getrandbits(128)
        self.span_id = random.getrandbits(64)
        self.calls = [(call.trace_id, call.span_id) for call in calls]
        self.epoch = calls[0].epoch
        self.model = batch.key.model
        self.device = batch.device
        self.rows = batch.rows
        self.limit = batch.key.max_rows
        self.entries = len(batch.entries)
        self.why = batch.reason.value
        self.planned = batch.planned
        self.formed = batch.formed_at
        self.started = 0.0
        self.stages = (0.0, 0.0, 0.0)
        self.ended = 0.0
        self.reason = ""


class CallTrace:
    """A call that is traced, or one request of a stream; times are monotonic seconds.

    ``epoch`` is what has to be added for seconds since the epoch: noted once, so that a clock that
    is set meanwhile leaves durations as they are. ``accepted`` is 0 for what was refused before.
    ``batches`` are those that it was in, each with its rows there: several where it was cut into
    parts, or where a batch failed.
    """

    __slots__ = (
        *("accepted", "batches", "began", "code", "ended", "epoch", "id", "method", "model"),
        *("parent", "reason", "request", "span_id", "spans", "tenant", "trace_id", "wanted"),
    )

    def __init__(self, spans: Spans, parent: Parent | None, method: str, now: float) -> None:
        self.spans = spans
        self.parent = parent
        self.trace_id = parent.trace_id if parent else random.getrandbits(128)
        self.span_id = random.getrandbits(64)
        self.method = method
        self.began = now
        self.epoch = wall_seconds() - now
        self.accepted = 0.0
        self.ended = 0.0
        self.request: Request | None = None
        self.batches: list[tuple[BatchTrace, int]] = []
        self.code = ""
        self.reason = ""
        self.id = ""
        self.tenant = ""
        self.wanted = ""
        self.model: ModelRef | None = None

    def accept(self, request: Request) -> None:
        """Note that the call was understood: from now on its request may be in batches."""
        self.spans.accept(self, request)

    def end(self, code: str, reason: str = "") -> None:
        """End the span of the call.

        :param code: the name of the status.
        :param reason: of the error, if it is one of ours.
        """
        self.spans.end(self, code, reason)


class StreamTrace:
    """The spans of a stream's requests, below the caller's of the stream.

    A stream may last for days, so it has none itself.
    """

    def __init__(self, spans: Spans, parent: Parent | None, method: str) -> None:
        self._spans = spans
        self._parent = parent
        self._method = method

    def begin(self, request: Request) -> None:
        """Begin the span of a request, unless it is not traced."""
        trace = self._spans.child(self._parent, self._method)
        if trace is not None:
            trace.accept(request)

    def end(self, request: Request, code: str, reason: str = "") -> None:
        """End it, if there is one; as ``CallTrace.end``."""
        trace = self._spans.open.get(request)
        if trace is not None:
            trace.end(code, reason)


class Spans:
    """Notes what happens to the calls that are traced, and passes on what has ended.

    A call is traced if its ``traceparent`` says so; without one, or where callers are not followed,
    in a share of the cases. Of the others, nothing is noted.

    Of a call that is traced there is a span of the call, one of its wait, and one for each batch
    that it was in. A batch has a span, and a trace, of its own, with links to its calls, as each of
    their spans has one to it. Batches without traced calls have none.

    Cost on the event loop, measured on a slow, busy core: 0.2 us for a call without a traceparent
    that is not traced, 1.2 us for one with; 7 us for one that is, and 11 us for a batch of 8 with
    one in it. Beside that, gRPC makes a call's metadata for who asks.
    """

    def __init__(
        self,
        clock: Clock,
        ratio: float,
        sink: Callable[[CallTrace | BatchTrace], None],
        *,
        follow_callers: bool = True,
    ) -> None:
        """Trace nothing yet.

        :param ratio: the share of calls that are traced where no caller says.
        :param sink: takes what has ended; must not block.
        """
        self._clock = clock
        self._ratio = ratio
        self._sink = sink
        self._follows = follow_callers
        self._random = random.Random()  # noqa: S311  # no secret
        self.open: dict[Request, CallTrace] = {}
        """The traced requests that have not ended."""
        self._running: dict[Batch, BatchTrace] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Spans {self._ratio:g} {len(self.open)} requests, {len(self._running)} batches>"

    # -- calls ----------------------------------------------------------------------------------

    def begin(self, metadata: Metadata, method: str) -> CallTrace | None:
        """Begin the span of a call, unless it is not traced."""
        trace = self.child(parent_of(metadata), method)
        if trace is not None:
            TRACE_ID.set(f"{trace.trace_id:032x}")  # each call is a task, with a context of its own
        return trace

    def of_stream(self, metadata: Metadata, method: str) -> StreamTrace:
        """Return what makes a span of each request of a stream."""
        return StreamTrace(self, parent_of(metadata), method)

    def child(self, parent: Parent | None, method: str) -> CallTrace | None:
        """Begin a span below a caller's, unless it is not traced."""
        if parent is not None and self._follows:
            if not parent.sampled:
                return None
        elif self._random.random() >= self._ratio:
            return None
        return CallTrace(self, parent, method, self._clock.now())

    def accept(self, trace: CallTrace, request: Request) -> None:
        """Note what ``CallTrace.accept`` is told."""
        trace.accepted = self._clock.now()
        trace.request = request
        self.open[request] = trace

    def end(self, trace: CallTrace, code: str, reason: str = "") -> None:
        """Note what ``CallTrace.end`` is told, and pass the call on."""
        trace.ended = self._clock.now()
        trace.code, trace.reason = code, reason
        request = trace.request
        if request is not None:
            # Not the request itself: it has tensors, and may wait long to be sent.
            self.open.pop(request, None)
            trace.id, trace.tenant, trace.request = request.id, request.tenant, None
            trace.model, trace.wanted = request.model, request.header.model_name
        # A batch tells its end after its callers were woken.
        self._clock.call_soon(lambda: self._sink(trace))

    # -- batches --------------------------------------------------------------------------------

    def batch_started(self, batch: Batch) -> None:
        """Note that a batch leaves, if a traced request is in it."""
        if not self.open:
            return
        rows: dict[CallTrace, int] = {}
        for entry in batch.entries:
            request = entry.request
            trace = self.open.get(getattr(request, "origin", request))
            if trace is not None:
                rows[trace] = rows.get(trace, 0) + entry.rows
        if not rows:
            return
        noted = BatchTrace(batch, list(rows))
        for trace, count in rows.items():
            trace.batches.append((noted, count))
        if len(self._running) >= MAX_OPEN_BATCHES:
            self._running.pop(next(iter(self._running)))
        self._running[batch] = noted

    def batch_done(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch ended well."""
        noted = self._running.pop(batch, None)
        if noted is not None:
            noted.started, noted.stages = completion.started, completion.stages
            noted.ended = completion.copied_out
            self._sink(noted)

    def batch_failed(self, batch: Batch, error: JitneyError) -> None:
        """Note that a batch failed."""
        noted = self._running.pop(batch, None)
        if noted is not None:
            noted.ended, noted.reason = self._clock.now(), error.reason
            self._sink(noted)
