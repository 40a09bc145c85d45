"""The RPCs that run models: ModelInfer and ModelStreamInfer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import grpc

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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jitney.clock import Clock
    from jitney.engine import Engine
    from jitney.telemetry.metrics import Metrics
    from jitney.transport.codec import Codec
    from jitney.transport.forwarding import MetadataForwarder
    from jitney.transport.status import Context, Statuses
    from jitney.transport.stream import Writing
    from jitney.transport.tenant import TenantReader
    from jitney.types import Request

    class StreamContext(Context, Writing, Protocol):
        """What we use of the context of a stream."""

        async def read(self) -> bytes:
            """Return the next message, or ``grpc.aio.EOF``."""


__all__ = ["CallRules", "InferenceRpcs"]

UNARY: Final = "ModelInfer"
FOREVER: Final = 1e8
"""Seconds; gRPC shows a missing deadline as one in the far future."""


class CallRules(NamedTuple):
    """What the operator's settings say about calls.

    ``tenant_of`` tells on whose behalf a call is made, ``forwarder`` which of its metadata its
    requests get to see.
    """

    statuses: Statuses
    stream_limits: StreamLimits
    tenant_of: TenantReader = nobody
    forwarder: MetadataForwarder | None = None


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
        self._tools = StreamTools(engine, codec, metrics, rules.statuses, rules.stream_limits)

    async def infer(self, message: bytes, context: Context) -> bytes:
        """ModelInfer, from bytes to bytes."""
        request: Request | None = None
        code, rules = "OK", self._rules
        try:
            deadline, tenant = self._deadline(context), rules.tenant_of(context)
            request = self._codec.decode(message, deadline, tenant)
            if rules.forwarder is not None and (forward := rules.forwarder.of_call(context)):
                forward(request)
            return await self._engine.infer(request)  # type: ignore[return-value]  # our codec's reply
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001  # the RPC boundary: a bug ends one call
            code = rules.statuses.code_of(error).name
            if request is None and isinstance(error, JitneyError):
                # What came later was counted where it was refused.
                self._metrics.request_refused(None, error)
            if isinstance(error, JitneyError):
                # gRPC keeps what aborts a call until the collector of cycles comes by, with all
                # frames that it passed: nobody's tensors shall wait in them for that.
                error.__traceback__, message = None, b""
                if request is not None:
                    request.release()
            await rules.statuses.abort(context, error)
        finally:
            self._metrics.request_ended(request.model if request else None, UNARY, code)

    async def stream(self, _: object, context: StreamContext) -> None:
        """ModelStreamInfer. Its requests are counted, each as a call; the stream itself is not."""
        rules = self._rules
        try:
            metadata = context.invocation_metadata() or ()
            call = StreamCall(
                self._deadline(context),
                rules.tenant_of(context),
                None if rules.forwarder is None else rules.forwarder.of_call(context),
                real_status=REAL_STATUS in map(tuple, metadata),
            )
        except JitneyError as error:
            self._metrics.request_refused(None, error)
            self._metrics.request_ended(None, STREAM, rules.statuses.code_of(error).name)
            await rules.statuses.abort(context, error)
        try:
            await InferenceStream(self._tools, call).serve(_messages(context), context)
        except Exception as error:  # noqa: BLE001  # the RPC boundary
            await rules.statuses.abort(context, error)

    def _deadline(self, context: Context) -> float:
        remaining = context.time_remaining()
        if remaining is None or remaining >= FOREVER:
            return math.inf
        return self._clock.now() + remaining


async def _messages(context: StreamContext) -> AsyncIterator[bytes]:
    """Yield what a caller sends.

    gRPC's own iterator keeps the last message until the next one comes, which may be never: that
    of an idle stream could be tens of megabytes.
    """
    while (message := await context.read()) is not grpc.aio.EOF:
        yield message
        del message
