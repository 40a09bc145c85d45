"""Notes of traced calls and batches as OpenTelemetry's spans. Needs the extra ``otel``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from jitney.telemetry.spans import BatchTrace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.telemetry.spans import CallTrace

__all__ = ["SpanMaker", "resource"]

SERVICE: Final = "inference.GRPCInferenceService"
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes that are errors of the server's side; the others are its callers' doing, and unset."""
STAGES: Final = ("input", "infer", "output")
MAX_TEXT: Final = 256


def resource(version: str) -> Resource:
    """Return what the spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first."""
    found = Resource({SERVICE_VERSION: version}).merge(Resource.create())
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: "jitney"}))
    return found


class SpanMaker:
    """Makes spans of notes. Names of attributes are those of the semantic conventions for RPC."""

    def __init__(self, about: Resource) -> None:
        """:param about: the server, in every span."""
        self._resource = about
        version = about.attributes.get(SERVICE_VERSION)
        self._scope = InstrumentationScope("jitney", str(version) if version else None)

    def spans(self, note: CallTrace | BatchTrace) -> list[ReadableSpan]:
        """Return the spans of a call or of a batch, the outermost first."""
        return [self._batch(note)] if isinstance(note, BatchTrace) else self._call(note)

    def _call(self, note: CallTrace) -> list[ReadableSpan]:
        attributes: dict[str, Any] = {
            "rpc.system.name": "grpc",
            "rpc.method": f"{SERVICE}/{note.method}",
            "rpc.response.status_code": note.code,
        }
        if note.model is not None:
            attributes |= {
                "jitney.model.name": note.model.name,
                "jitney.model.version": note.model.version,
            }
        elif note.wanted:
            attributes["jitney.model.name"] = note.wanted[:MAX_TEXT]
        for name, value in (("id", note.id), ("tenant", note.tenant)):
            if value:
                attributes[f"jitney.request.{name}"] = value[:MAX_TEXT]
        status = Status(StatusCode.UNSET)
        if note.code != "OK":
            attributes["error.type"] = note.reason or note.code
            if note.code in FAULTS:
                status = Status(StatusCode.ERROR, note.reason or None)
        parent = state = None
        if note.parent is not None:
            state = TraceState.from_header([note.parent.state]) if note.parent.state else None
            parent = SpanContext(
                note.parent.trace_id,
                note.parent.span_id,
                is_remote=True,
                trace_flags=SAMPLED if note.parent.sampled else TraceFlags(0),
                trace_state=state,
            )
        context = _context(note.trace_id, note.span_id, state)
        times = (note.epoch, note.began, note.ended)
        name = f"{SERVICE}/{note.method}"
        made = [
            self._span(name, context, parent, attributes, *times, SpanKind.SERVER, status=status)
        ]
        if note.accepted:
            made += self._stages(note, context, state)
        return made

    def _stages(
        self, note: CallTrace, context: SpanContext, state: TraceState | None
    ) -> Iterable[ReadableSpan]:
        """Yield the wait of a call, and its part of each batch that it was in."""
        batches = note.batches
        begun = [_begin_of(batch) for batch, _ in batches]
        attributes: dict[str, Any] = {}
        queued = (note.epoch, note.accepted, min([note.ended, *begun]))
        own = _context(note.trace_id, random.getrandbits(64), state)
        yield self._span("queue", own, context, attributes, *queued)
        for i, (batch, rows) in enumerate(batches):
            # A batch whose worker was lost has no end of its own: it was begun again as another.
            after = begun[i + 1] if i + 1 < len(begun) else note.ended
            attributes = {"jitney.device": batch.device, "jitney.rows": rows}
            attributes["jitney.batch.rows"] = batch.rows
            status = Status(StatusCode.UNSET)
            if batch.reason:
                attributes["error.type"] = batch.reason
                status = Status(StatusCode.ERROR, batch.reason)
            if batch.started:
                attributes |= _stage_seconds(batch)
            yield self._span(
                "compute",
                _context(note.trace_id, random.getrandbits(64), state),
                context,
                attributes,
                *(note.epoch, begun[i], batch.ended or max(begun[i], after)),
                links=[Link(_context(batch.trace_id, batch.span_id))],
                status=status,
            )

    def _batch(self, note: BatchTrace) -> ReadableSpan:
        attributes: dict[str, Any] = {
            "jitney.model.name": note.model.name,
            "jitney.model.version": note.model.version,
            "jitney.device": note.device,
            "jitney.batch.rows": note.rows,
            "jitney.batch.limit": note.limit,
            "jitney.batch.requests": note.entries,
            "jitney.batch.reason": note.why,
        }
        if note.planned:
            attributes["jitney.batch.planned_seconds"] = note.planned
        status = Status(StatusCode.UNSET)
        if note.reason:
            attributes["error.type"] = note.reason
            status = Status(StatusCode.ERROR, note.reason)
        if note.started:
            attributes |= _stage_seconds(note)
        return self._span(
            "batch",
            _context(note.trace_id, note.span_id),
            None,
            attributes,
            *(note.epoch, note.formed, note.ended),
            links=[Link(_context(trace_id, span_id)) for trace_id, span_id in note.calls],
            status=status,
        )

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
        epoch: float,
        began: float,
        ended: float,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        *,
        status: Status | None = None,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            links=links,
            kind=kind,
            status=status or Status(StatusCode.UNSET),
            start_time=int((epoch + began) * 1e9),
            end_time=int((epoch + ended) * 1e9),
            instrumentation_scope=self._scope,
        )


def _context(trace_id: int, span_id: int, state: TraceState | None = None) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=SAMPLED, trace_state=state)


def _begin_of(batch: BatchTrace) -> float:
    """Return when a worker took a batch up, or when it was formed if nobody knows that."""
    return batch.started or batch.formed


def _stage_seconds(batch: BatchTrace) -> dict[str, float]:
    return {
        f"jitney.compute.{stage}_seconds": round(seconds, 9)
        for stage, seconds in zip(STAGES, batch.stages, strict=True)
    }
