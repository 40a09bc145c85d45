"""Methods as gRPC is given them: each reads its messages itself, through ``Arrivals``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import grpc

from jitney.errors import InvalidRequest, JitneyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from jitney.telemetry.metrics import Metrics
    from jitney.transport.arrivals import Arrivals, ReceivingContext
    from jitney.transport.status import Context, Statuses

    class CallContext(Context, ReceivingContext, Protocol):
        """What of a call's context is needed here."""


__all__ = ["SMALL_REQUEST", "Receiver"]

SMALL_REQUEST: Final = 1 << 16
"""Bytes that a request may have which runs no model. Parsing small parts takes forty times their
size (measured), and none of these requests needs to be large; those that may be say so."""
UNCOUNTED: Final = "/grpc."
"""Of health and reflection the metrics say nothing: probes would drown the rest."""


class Receiver(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Stands before handlers, and offers their methods as methods with a stream of requests.

    On the wire nothing differs. What differs is that gRPC calls them before it has received
    anything, so that whoever comes before this one can refuse a call for nothing, and that
    ``Arrivals`` bounds what the receiving may take. Requests that are no messages of their method
    end with INVALID_ARGUMENT; gRPC's own code would have made a bug of them.

    A method that takes one request sees it as before; a second one is not read.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        arrivals: Arrivals,
        statuses: Statuses,
        metrics: Metrics,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Serve what ``handlers`` do.

        :param sizes: bytes that the requests of a method may have, by its path, where these are
            more than ``SMALL_REQUEST``. Methods that take plain bytes have the server's limit only.
        """
        self._handlers = handlers
        self._arrivals = arrivals
        self._statuses = statuses
        self._metrics = metrics
        self._sizes = sizes or {}
        self._served: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call's method, None where there is none."""
        path = details.method
        found = self._served.get(path)
        if found is not None:
            return found
        for handlers in self._handlers:
            handler = handlers.service(details)
            if handler is not None:
                # Only methods that exist are remembered, so callers cannot fill the dictionary.
                served = self._served[path] = self._receiving(path, handler)
                return served
        return None

    def _receiving(self, path: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        parse = _parser(handler.request_deserializer, self._sizes.get(path, SMALL_REQUEST))
        behaviour, serializer = _behaviour(handler), handler.response_serializer
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        if handler.request_streaming:
            return make(self._streamed(path, behaviour, parse), None, serializer)
        return make(self._single(path, behaviour, parse), None, serializer)

    def _single(self, path: str, behaviour: Any, parse: Any) -> Any:  # noqa: ANN401  # gRPC's
        request = self._arrivals.request

        async def parsed(context: CallContext) -> Any:  # noqa: ANN401  # of any method
            return parse(await request(context))

        # Methods that take bytes are the hot path: one coroutine less.
        request_of = request if parse is None else parsed

        # No variable for the message: what ends a call keeps the frames that it passed.
        async def coroutine(_: object, context: CallContext) -> object:
            try:
                return await behaviour(await request_of(context), context)
            except JitneyError as error:
                await self._refuse(path, context, error)

        async def generator(_: object, context: CallContext) -> AsyncIterator[object]:
            try:
                async for reply in behaviour(await request_of(context), context):
                    yield reply
            except JitneyError as error:
                await self._refuse(path, context, error)

        return generator if inspect.isasyncgenfunction(behaviour) else coroutine

    def _streamed(self, path: str, behaviour: Any, parse: Any) -> Any:  # noqa: ANN401  # gRPC's
        async def messages(context: CallContext) -> AsyncIterator[object]:
            async for message in self._arrivals.messages(context):
                yield parse(message)

        read = self._arrivals.messages if parse is None else messages

        async def coroutine(_: object, context: CallContext) -> object:
            return await behaviour(read(context), context)

        async def generator(_: object, context: CallContext) -> AsyncIterator[object]:
            try:
                async for reply in behaviour(read(context), context):
                    yield reply
            except JitneyError as error:
                await self._refuse(path, context, error)

        return generator if inspect.isasyncgenfunction(behaviour) else coroutine

    async def _refuse(self, path: str, context: Context, error: JitneyError) -> NoReturn:
        if not path.startswith(UNCOUNTED):
            self._metrics.request_refused(None, error)
            name = path.rpartition("/")[2]
            self._metrics.request_ended(None, name, self._statuses.code_of(error).name)
        error.__traceback__ = None
        await self._statuses.abort(context, error)


def _behaviour(handler: grpc.RpcMethodHandler) -> Any:  # noqa: ANN401  # gRPC has no types
    requests = "stream" if handler.request_streaming else "unary"
    replies = "stream" if handler.response_streaming else "unary"
    return getattr(handler, f"{requests}_{replies}")


def _parser(parse: Callable[[bytes], object] | None, most: int) -> Callable[[bytes], object] | None:
    if parse is None:
        return None

    def checked(message: bytes) -> object:
        if len(message) > most:
            msg = f"the request has {len(message)} bytes, of this method at most {most} are taken"
            raise InvalidRequest(msg)
        try:
            return parse(message)
        except Exception:  # noqa: BLE001  # whatever the generated code makes of it
            msg = "the request is no message of this method"
            raise InvalidRequest(msg) from None

    return checked
