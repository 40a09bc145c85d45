"""Stands before every method, unknown ones included, and before anything of a call was read."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc

from jitney.access import OPEN, RULES, Rule, become
from jitney.errors import AccessDenied, JitneyError
from jitney.transport.gate import authorization_in
from jitney.transport.services import behaviour_of, handler_of, rebuilt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from jitney.access import Principal
    from jitney.transport.denials import Denials
    from jitney.transport.gate import CallContext, Gate

    Handler = Any  # gRPC's have no types

__all__ = ["Guard"]

NOBODY: Final = Rule(frozenset())
"""The rule of methods that have none: nobody has one of no roles."""
ELSEWHERE: Final = (
    "this is served at the server's admin address only (its --admin-address), not here"
)


class _Served(NamedTuple):
    """A method behind the guard.

    ``handler`` serves whoever was let in. ``late`` serves who has shown no token, and may have a
    certificate: of that gRPC tells running handlers only. ``counts``: a call is a request.
    """

    rule: Rule
    handler: Handler
    is_admin: bool
    is_open: bool
    late: Handler = None
    counts: bool = False


class Guard(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Serves the methods of other handlers to those who may call them.

    - Nothing reaches a method that has no rule (``access.RULES``).
    - Who is refused is refused before their message was received: who may not call cannot make the
      server hold anything either. So the handlers have to be of the kind that reads by itself
      (``receiver``): others gRPC runs only once they have it.
    - Who calls is ``access.current()`` in everything that the call does.
    - It has to be the only handler of its server.

    :param gate: None where nobody is asked; then everybody is ``everybody``.
    :param admin: False to refuse what belongs to the admin address.
    """

    def __init__(
        self,
        handlers: Iterable[grpc.GenericRpcHandler],
        denials: Denials,
        gate: Gate | None,
        *,
        everybody: Principal = OPEN,
        admin: bool = True,
    ) -> None:
        self._denials = denials
        self._gate = gate
        self._everybody = everybody
        self._admin = admin
        self._served: dict[str, _Served] = {}
        handlers = list(handlers)
        for path, rule in RULES.items():
            handler = handler_of(handlers, path)
            if handler is not None:
                self._served[path] = self._behind(path, rule, handler)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Guard of {len(self._served)} methods, {self._gate or self._everybody}>"

    def service(self, details: grpc.HandlerCallDetails) -> Handler:
        """Return what handles a call; None for a method that there is not.

        gRPC asks for each call in the task that is the call's own.
        """
        path, gate = details.method, self._gate
        served = self._served.get(path)
        if served is not None and served.is_admin and not self._admin:
            return self._refusal(path, AccessDenied(ELSEWHERE), "")
        if gate is None:
            become(self._everybody)
            return None if served is None else served.handler
        if served is None:
            # Who calls is asked all the same, before they learn that there is nothing.
            served = self._behind(path, NOBODY, grpc.stream_stream_rpc_method_handler(_nothing))
        elif served.is_open:
            become(gate.authority.anonymous)
            return served.handler
        name = ""
        try:
            authorization = authorization_in(details.invocation_metadata)
            if authorization is not None:
                principal = gate.authority.by_token(authorization)
            elif gate.authority.has_certificates:
                return served.late
            else:
                principal = gate.authority.anonymous
            name = principal.name
            gate.enter(principal, served.rule, counts=served.counts)
        except JitneyError as error:
            return self._refusal(path, error, name)
        become(principal)
        return served.handler

    def _behind(self, path: str, rule: Rule, handler: Handler) -> _Served:
        # The stream of requests of a method with one reply is one request (``receiver``).
        counts = not handler.response_streaming
        served = _Served(rule, handler, rule.is_admin, rule.is_open)
        if self._gate is None:
            return served
        late = self._late(self._gate, path, rule, handler)
        return served._replace(late=late, counts=counts)

    def _late(self, gate: Gate, path: str, rule: Rule, handler: Handler) -> Handler:
        """Return a handler that is told by the connection who calls, and goes on if they may."""
        inner = behaviour_of(handler)

        async def enter(context: CallContext) -> None:
            name = ""
            try:
                principal = gate.identify(context)
                name = principal.name
                gate.enter(principal, rule, counts=not handler.response_streaming)
            except JitneyError as error:
                await self._denials.refuse(path, error, name, context)
            become(principal)

        async def call(messages: object, context: CallContext) -> object:
            await enter(context)
            return await inner(messages, context)

        async def generate(messages: object, context: CallContext) -> AsyncIterator[object]:
            await enter(context)
            async for reply in inner(messages, context):
                yield reply

        return rebuilt(handler, generate if inspect.isasyncgenfunction(inner) else call)

    def _refusal(self, path: str, error: JitneyError, name: str) -> Handler:
        """Return a handler that refuses a call without receiving its message."""

        async def refuse(_: object, context: CallContext) -> None:
            await self._denials.refuse(path, error, name, context)

        return grpc.stream_stream_rpc_method_handler(refuse)


async def _nothing(*_: object) -> None:
    """Serve nobody: nobody's roles satisfy the rule of what there is not."""
