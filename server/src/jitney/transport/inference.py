"""The RPCs that run models: ModelInfer and ModelStreamInfer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from jitney.errors import JitneyError
from jitney.transport.stream import METHOD as STREAM
from jitney.transport.stream import (
    REAL_STATUS,
    InferenceStream,
    StreamCall,
    StreamLimits,
    StreamTools,
)
from jitney.transport.tenant import nobody
from jitney.transport.unread import LARGE_REPLY, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jitney.clock import Clock
    from jitney.engine import Engine
    from jitney.telemetry.metrics import Metrics
    from jitney.telemetry.spans import CallTrace, Spans
    from jitney.transport.codec import Codec
    from jitney.transport.forwarding import MetadataForwarder
    from jitney.transport.gate import Gate
    from jitney.transport.status import Context, Statuses
    from jitney.transport.stream import Writing
    from jitney.transport.tenant import TenantReader
    from jitney.transport.unread import UnreadReplies
    from jitney.types import Request

    class StreamContext(Context, Writing, Protocol):
        """What we use of the context of a stream."""


__all__ = ["CallRules", "InferenceRpcs"]

UNARY: Final = "ModelInfer"
FOREVER: Final = 1e8
"""Seconds; gRPC shows a missing deadline as one in the far future."""


class CallRules(NamedTuple):
    """What the operator's settings say about calls.

    ``tenant_of`` tells on whose behalf a call is made, ``forwarder`` which of its metadata its
    requests get to see. ``gate`` asks whether whoever calls may run the model; None where nobody
    is asked. ``unread`` bounds replies that wait to be read; None where nothing does. ``spans``
    notes the calls that are traced; None where nobody collects spans.
    """

    statuses: Statuses
    stream_limits: StreamLimits
    tenant_of: TenantReader = nobody
    forwarder: MetadataForwarder | None = None
    gate: Gate | None = None
    unread: UnreadReplies | None = None
    spans: Spans | None = None


class InferenceRpcs:
    """Takes the bytes of requests from gRPC to the engine, and those of replies back.

    A ``JitneyError`` ends a call with its status; anything else is a bug: the caller gets INTERNAL
    and a number, and the log has the rest under that number.
    """

    def __init__(
        self, engine: Engine, codec: Codec, clock: Clock, metrics: Metrics, rules: CallRules
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._clock = clock
        self._metrics = metrics
        self._rules = rules
        # One question in the place of three, for all that most servers do not do.
        self._looks_at_calls = (rules.gate, rules.forwarder, rules.spans) != (None,) * 3
        self._tools = StreamTools(engine, codec, metrics, rules.statuses, rules.stream_limits)

    async def infer(self, message: bytes, context: Context) -> bytes:
        """ModelInfer, from bytes to bytes."""
        request: Request | None = None
        code, reason, rules = "OK", "", self._rules
        trace: CallTrace | None = None
        try:
            deadline, tenant = self._deadline(context), rules.tenant_of(context)
            request = self._codec.decode(message, deadline, tenant)
            if self._looks_at_calls:
                trace = self._trace(request, context)
                self._look_at_call(request, context)
            reply: bytes = await self._engine.infer(request)  # type: ignore[assignment]  # our codec's
            if len(reply) >= LARGE_REPLY and rules.unread is not None:
                self._hold(len(reply), request, context, rules.unread)
            return reply  # noqa: TRY300  # an else would put it out of sight
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001  # the RPC boundary: a bug ends one call
            code = rules.statuses.code_of(error).name
            if request is None and isinstance(error, JitneyError):
                # What came later was counted where it was refused.
                self._metrics.request_refused(None, error)
            if isinstance(error, JitneyError):
                reason = error.reason
                # gRPC keeps what aborts a call until the collector of cycles comes by, with all
                # frames that it passed: nobody's tensors shall wait in them for that.
                error.__traceback__, message = None, b""
                if request is not None:
                    request.release()
            await rules.statuses.abort(context, error, request)
        finally:
            self._metrics.request_ended(request.model if request else None, UNARY, code)
            if trace is not None:
                trace.end(code, reason)

    def _hold(self, nbytes: int, request: Request, context: Context, unread: UnreadReplies) -> None:
        """Count a reply until its caller has it; raises what the caller is told."""
        reader = Reader(unread, context.peer())
        try:
            reader.add(nbytes)
        except JitneyError as error:
            self._metrics.request_refused(request.model, error)
            raise
        context.add_done_callback(lambda _: reader.close())

    async def stream(self, messages: AsyncIterator[bytes], context: StreamContext) -> None:
        """ModelStreamInfer. Its requests are counted, each as a call; the stream itself is not."""
        rules = self._rules
        reader = None if rules.unread is None else Reader(rules.unread, context.peer())
        try:
            metadata = context.invocation_metadata() or ()
            call = StreamCall(
                self._deadline(context),
                rules.tenant_of(context),
                None if rules.forwarder is None else rules.forwarder.of_call(context),
                real_status=REAL_STATUS in map(tuple, metadata),
                reader=reader,
                check=None if rules.gate is None else rules.gate.checks_of_stream(context),
                trace=None if rules.spans is None else rules.spans.of_stream(metadata, STREAM),
            )
        except JitneyError as error:
            self._metrics.request_refused(None, error)
            self._metrics.request_ended(None, STREAM, rules.statuses.code_of(error).name)
            await rules.statuses.abort(context, error)
        try:
            await InferenceStream(self._tools, call).serve(messages, context)
        except Exception as error:  # noqa: BLE001  # the RPC boundary
            await rules.statuses.abort(context, error)

    def _trace(self, request: Request, context: Context) -> CallTrace | None:
        spans = self._rules.spans
        if spans is None:
            return None
        trace = spans.begin(context.invocation_metadata() or (), UNARY)
        if trace is not None:
            trace.accept(request)
        return trace

    def _look_at_call(self, request: Request, context: Context) -> None:
        """Do what the rules say before anything is queued; raises what the caller is told."""
        gate, forwarder = self._rules.gate, self._rules.forwarder
        if gate is not None:
            try:
                gate.check_run(request.header.model_name, context)
            except JitneyError as error:
                self._metrics.request_refused(None, error)
                raise
        if forwarder is not None and (forward := forwarder.of_call(context)):
            forward(request)

    def _deadline(self, context: Context) -> float:
        remaining = context.time_remaining()
        if remaining is None or remaining >= FOREVER:
            return math.inf
        return self._clock.now() + remaining
