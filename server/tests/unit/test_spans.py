"""What is noted of traced calls and batches, and the spans that are made of it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from jitney.config import TelemetrySettings
from jitney.errors import InferenceFailed, Overloaded
from jitney.execution.executor import Completion
from jitney.scheduling.batch import Batch
from jitney.scheduling.policy import Policy
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.open_spans import open_spans
from jitney.telemetry.span_export import SpanSender
from jitney.telemetry.span_maker import SpanMaker
from jitney.telemetry.spans import BatchTrace, CallTrace, Spans
from jitney.telemetry.trace_context import TRACE_ID
from jitney.testing import FakeClock, PuppetExecutor, make_entry, make_key
from jitney.testing.puppet import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Entry

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
YES = [("traceparent", f"00-{TRACE:032x}-{SPAN:016x}-01"), ("tracestate", "vendor=1")]
NO = [("traceparent", f"00-{TRACE:032x}-{SPAN:016x}-00")]
LIMIT = 20.0


class Bench:
    """A scheduler on one device whose batches are traced; calls that ended are ended there too."""

    def __init__(self, ratio: float = 0.0, *, follow_callers: bool = True) -> None:
        self.clock = FakeClock()
        self.notes: list[CallTrace | BatchTrace] = []
        self.spans = Spans(self.clock, ratio, self.notes.append, follow_callers=follow_callers)
        metrics = Metrics()
        metrics.watcher = self.spans
        self.device = PuppetExecutor(self.clock)
        self.scheduler = Scheduler(Policy(), self.device, self.clock, metrics)
        self.device.listener = self.scheduler
        self.key = make_key("m")
        self.scheduler.device_up("cpu")
        self.scheduler.model_ready("cpu", self.key.model)

    def call(self, id_: str, rows: int = 1, metadata: Any = YES) -> CallTrace | None:
        """Make a call, as the transport does."""
        entry = make_entry(self.key, rows=rows, id=id_, arrived=self.clock.now(), done=self._ended)
        trace = self.spans.begin(metadata, "ModelInfer")
        if trace is not None:
            trace.accept(entry.request)
        self.scheduler.submit(entry)
        return trace

    def _ended(self, entry: Entry, _: object, error: JitneyError | None) -> None:
        trace = self.spans.open.get(entry.request)
        entry.request.model = entry.key.model
        if trace is not None:
            trace.end("INTERNAL" if error else "OK", error.reason if error else "")

    def made(self) -> dict[str, list[ReadableSpan]]:
        """Return the spans of everything that ended, by name."""
        self.clock.run_soon()
        maker = SpanMaker(Resource({"service.name": "test"}))
        found: dict[str, list[ReadableSpan]] = {}
        for note in self.notes:
            for span in maker.spans(note):
                found.setdefault(span.name.rpartition("/")[2], []).append(span)
        return found


def seconds(span: ReadableSpan) -> float:
    """Return how long a span took."""
    assert span.start_time is not None
    assert span.end_time is not None
    return round((span.end_time - span.start_time) / 1e9, 4)


def fact(span: ReadableSpan, name: str) -> Any:
    """Return an attribute."""
    return (span.attributes or {})[name]


def test_a_call_has_a_span_below_its_callers_with_its_stages_below() -> None:
    """Queue and compute are as long as they took; the stages of the worker are attributes."""
    bench = Bench()
    bench.call("a")
    bench.clock.advance(0.25)
    bench.device.complete_next(stages=Stages(0.01, 0.1, 0.02))
    made = bench.made()
    (call,), (queue,), (compute,) = made["ModelInfer"], made["queue"], made["compute"]

    assert (TRACE, SPAN) == (call.context.trace_id, call.parent and call.parent.span_id)
    assert {(TRACE, call.context.span_id)} == {
        (span.context.trace_id, span.parent and span.parent.span_id) for span in (queue, compute)
    }
    assert "vendor=1" == call.context.trace_state.to_header()
    assert (SpanKind.SERVER, StatusCode.UNSET) == (call.kind, call.status.status_code)
    assert [0.25, 0.12, 0.13] == [seconds(span) for span in (call, queue, compute)]
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
        "jitney.model.name": "m",
        "jitney.model.version": 1,
        "jitney.request.id": "a",
    } == call.attributes
    assert {
        "jitney.device": "cpu",
        "jitney.rows": 1,
        "jitney.batch.rows": 1,
        "jitney.compute.input_seconds": 0.01,
        "jitney.compute.infer_seconds": 0.1,
        "jitney.compute.output_seconds": 0.02,
    } == compute.attributes


def test_a_batch_has_a_span_of_its_own_with_links_to_its_calls_and_back() -> None:
    """Also to those of other traces; calls that are not traced are in its numbers only."""
    bench = Bench()
    bench.call("first")
    bench.clock.run_soon()  # it runs alone, so that the others wait for each other
    bench.call("a", rows=2)
    bench.call("b")
    bench.call("c", metadata=NO)
    bench.device.complete_next()
    bench.clock.run_soon()
    bench.device.complete_next()
    made = bench.made()
    batch = made["batch"][1]
    calls = {fact(span, "jitney.request.id"): span for span in made["ModelInfer"]}

    assert [calls["a"].context.span_id, calls["b"].context.span_id] == [
        link.context.span_id for link in batch.links
    ]
    assert (4, 3, None) == (
        fact(batch, "jitney.batch.rows"),
        fact(batch, "jitney.batch.requests"),
        batch.parent,
    )
    assert {batch.context.span_id} == {
        link.context.span_id for span in made["compute"][1:] for link in span.links
    }
    assert [2, 1] == [fact(span, "jitney.rows") for span in made["compute"][1:]]


def test_a_batch_without_traced_calls_has_no_span() -> None:
    """Most have none."""
    bench = Bench()
    bench.call("a", metadata=NO)
    bench.clock.run_soon()
    bench.device.complete_next()

    assert ({}, 0) == (bench.made(), len(bench.spans.open))


def test_a_call_that_was_in_several_batches_shows_each() -> None:
    """A batch that failed and was run again in parts: what failed has the error."""
    bench = Bench()
    bench.call("first")
    bench.clock.run_soon()
    bench.call("a")
    bench.call("b")
    bench.device.complete_next()
    bench.clock.run_soon()
    bench.device.fail_next(InferenceFailed("no"))
    bench.clock.run_soon()
    bench.device.fail_next(InferenceFailed("no"))
    bench.clock.run_soon()
    bench.device.complete_next()
    made = bench.made()
    calls = {fact(span, "jitney.request.id"): span for span in made["ModelInfer"]}
    of = {
        name: [
            span.status.status_code
            for span in made["compute"]
            if span.parent and span.parent.span_id == call.context.span_id
        ]
        for name, call in calls.items()
    }

    assert [StatusCode.ERROR, StatusCode.ERROR] == of["a"]
    assert [StatusCode.ERROR, StatusCode.UNSET] == of["b"]
    assert StatusCode.ERROR == calls["a"].status.status_code
    assert "MODEL_ERROR" == fact(calls["a"], "error.type")
    assert 4 == len(made["batch"])


def test_a_batch_whose_worker_was_lost_ends_where_it_was_begun_again() -> None:
    """Nobody tells its end."""
    bench = Bench()
    trace = bench.call("a")
    bench.clock.advance(2.0)
    (lost,) = bench.device.pending
    again = Batch(lost.key, lost.entries, 1, lost.reason, "cuda:1", bench.clock.now())
    bench.spans.batch_started(again)
    bench.clock.advance(0.5)
    now = bench.clock.now()
    bench.spans.batch_done(again, Completion(None, None, now - 0.5, now, now, now))
    assert trace is not None
    trace.end("OK")
    made = bench.made()

    assert [2.0, 0.5] == [seconds(span) for span in made["compute"]]
    assert ["cpu", "cuda:1"] == [fact(span, "jitney.device") for span in made["compute"]]
    assert [2.5] == [seconds(span) for span in made["ModelInfer"]]


def test_a_call_that_was_refused_has_only_a_span_of_its_own() -> None:
    """With its code and its reason; that a caller's request was wrong is no error of the server."""
    bench = Bench()
    first = bench.spans.begin(YES, "ModelInfer")
    second = bench.spans.begin(YES, "ModelInfer")
    assert first is not None
    assert second is not None
    first.end("RESOURCE_EXHAUSTED", Overloaded("no", reason="QUEUE_FULL").reason)
    second.end("UNAVAILABLE", "DRAINING")
    made = bench.made()

    assert ["ModelInfer"] == list(made)
    assert [
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", StatusCode.UNSET),
        ("UNAVAILABLE", "DRAINING", StatusCode.ERROR),
    ] == [
        (
            fact(span, "rpc.response.status_code"),
            fact(span, "error.type"),
            span.status.status_code,
        )
        for span in made["ModelInfer"]
    ]


def test_a_part_of_a_request_is_a_part_of_its_call() -> None:
    """What was cut, or given other data, counts for the request that came."""
    bench = Bench()
    trace = bench.spans.begin(YES, "ModelInfer")
    assert trace is not None
    whole = make_entry(bench.key, rows=2, id="a")
    trace.accept(whole.request)
    for part in (1, 2):
        entry = make_entry(bench.key, id=f"part {part}")
        entry.request = whole.request.with_data(entry.request.data)
        bench.scheduler.submit(entry)
    bench.clock.run_soon()
    bench.device.complete_next()
    bench.device.complete_next() if bench.device.pending else None
    trace.end("OK")

    assert 2 == sum(fact(span, "jitney.rows") for span in bench.made()["compute"])


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (1.0, 100)])
def test_without_a_traceparent_a_share_of_the_calls_is_traced(ratio: float, expected: int) -> None:
    """They are the roots of their traces."""
    bench = Bench(ratio)
    traces = [bench.spans.begin([("user-agent", "x")], "ModelInfer") for _ in range(100)]

    assert expected == sum(trace is not None for trace in traces)
    assert {None} >= {trace.parent for trace in traces if trace}


def test_a_share_is_about_what_was_asked_for() -> None:
    """Drawn anew for each call."""
    bench = Bench(0.25)

    assert 800 < sum(bench.spans.begin([], "x") is not None for _ in range(4000)) < 1200


def test_callers_that_are_not_followed_decide_nothing() -> None:
    """Whoever may call could otherwise make a server trace everything. Their span stays above."""
    never = Bench(0.0, follow_callers=False)
    always = Bench(1.0, follow_callers=False)
    trace = always.spans.begin(NO, "x")

    assert (None, TRACE) == (never.spans.begin(YES, "x"), trace and trace.trace_id)


def test_each_request_of_a_stream_has_a_span_below_the_callers() -> None:
    """The stream itself, which may last for days, has none."""
    bench = Bench()
    stream = bench.spans.of_stream(YES, "ModelStreamInfer")
    requests = [make_entry(bench.key, id=id_).request for id_ in "ab"]
    for request in requests:
        stream.begin(request)
    stream.end(requests[1], "OK")
    stream.end(requests[0], "CANCELLED")
    stream.end(requests[0], "CANCELLED")
    spans = bench.made()["ModelStreamInfer"]

    assert [("b", TRACE), ("a", TRACE)] == [
        (fact(span, "jitney.request.id"), span.context.trace_id) for span in spans
    ]


def test_the_trace_of_a_call_is_known_to_whoever_logs_in_it() -> None:
    """Each call is a task: others see nothing of it."""
    bench = Bench()

    async def call(metadata: Any) -> str:
        bench.spans.begin(metadata, "x")
        await asyncio.sleep(0)
        return TRACE_ID.get()

    async def both() -> list[str]:
        TRACE_ID.set("")  # other tests begin spans in no task
        return list(await asyncio.gather(call(YES), call(NO)))

    assert [f"{TRACE:032x}", ""] == asyncio.run(both())


def test_a_request_is_let_go_of_when_its_call_ends() -> None:
    """What waits to be sent holds none of its tensors."""
    bench = Bench()
    bench.call("a")
    bench.clock.run_soon()
    bench.device.complete_next()
    bench.made()

    assert (0, [None]) == (
        len(bench.spans.open),
        [note.request for note in bench.notes if isinstance(note, CallTrace)],
    )


def test_batches_whose_end_nobody_tells_do_not_pile_up() -> None:
    """Of a worker that is lost again and again."""
    bench = Bench()
    trace = bench.spans.begin(YES, "x")
    assert trace is not None
    entry = make_entry(bench.key, id="a")
    trace.accept(entry.request)
    bench.scheduler.submit(entry)
    bench.clock.run_soon()
    (batch,) = bench.device.pending
    for _ in range(3000):
        bench.spans.batch_started(Batch(batch.key, batch.entries, 1, batch.reason, "cpu", 0.0))

    assert 1024 == len(bench.spans._running)


# -- sending --------------------------------------------------------------------------------------


class Collector(InMemorySpanExporter):
    """Keeps what it is sent, waits while its gate is shut, fails if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.result: Any = SpanExportResult.SUCCESS

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        """Take spans."""
        self.busy.set()
        assert self.gate.wait(LIMIT)
        if isinstance(self.result, Exception):
            raise self.result
        super().export(spans)
        return self.result


def ended(count: int) -> Iterator[CallTrace]:
    """Yield notes of calls that ended."""
    bench = Bench()
    for _ in range(count):
        trace = bench.spans.begin(YES, "ModelInfer")
        assert trace is not None
        trace.end("OK")
        yield trace


def counts(sender: SpanSender) -> dict[str, float]:
    """Return the counts that are not 0."""
    return {outcome: count for (outcome,), count in sender.counts() if count}


def test_what_waits_is_sent_at_the_end() -> None:
    """In as many goes as it takes."""
    collector = Collector()
    sender = SpanSender(collector, SpanMaker(Resource({})), every=0.0)
    for note in ended(300):
        sender.put(note)
    sender.close(LIMIT)

    assert (300, {"sent": 300}) == (len(collector.get_finished_spans()), counts(sender))


def test_a_collector_that_hangs_costs_spans_and_no_time() -> None:
    """What there is no room for is dropped and counted; the end gives up on it."""
    collector = Collector()
    collector.gate.clear()
    sender = SpanSender(collector, SpanMaker(Resource({})), every=0.0, max_waiting=10)
    first, *others = ended(31)
    sender.put(first)
    assert collector.busy.wait(LIMIT)
    for note in others:
        sender.put(note)
    sender.close(0.01)

    assert {"dropped": 20} == counts(sender)
    collector.gate.set()


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, RuntimeError("broken")], ids=str)
def test_a_collector_that_fails_is_counted(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And the next spans are sent all the same."""
    collector = Collector()
    collector.result = result
    sender = SpanSender(collector, SpanMaker(Resource({})), every=0.0)
    for note in ended(2):
        sender.put(note)
    sender.close(LIMIT)

    assert {"failed": 2} == counts(sender)
    assert isinstance(result, Exception) == ("spans could not be sent" in caplog.text)


def test_without_a_collector_nothing_is_noted() -> None:
    """The transport and the metrics have nobody to tell."""
    metrics = Metrics()

    assert open_spans(TelemetrySettings(), FakeClock(), metrics, "1") is None
    assert metrics.watcher is None


def test_with_a_collector_batches_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the service is the operator's, where the environment has one."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    metrics = Metrics()
    settings = TelemetrySettings(otlp_endpoint="http://127.0.0.1:1")
    tracing = open_spans(settings, FakeClock(), metrics, "1.2")
    assert tracing is not None
    tracing.sender.close(LIMIT)

    assert metrics.watcher is tracing.spans
    attributes = tracing.sender._maker._resource.attributes
    assert ("mine", "1.2") == (attributes["service.name"], attributes["service.version"])
