"""Methods whose requests name a model, which has to be one that the caller's role is for."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

import grpc

from jitney.access import RULES, become, current
from jitney.errors import JitneyError
from jitney.transport.services import behaviour_of, handler_of, method_paths, rebuilt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from jitney.access import Rule
    from jitney.transport.gate import CallContext, Gate

    Handler = Any  # gRPC's have no types

__all__ = ["NamedModels"]


class NamedModels(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Stands before handlers of single requests, and looks at what each of these names.

    Whoever calls was let in already, as they may do it with some model at least. Everybody was,
    where a rule has names that anybody may ask for; who they are, they are asked here if they name
    another one.

    Where there are several replies, whoever asked is held against the file of tokens before each.
    """

    def __init__(self, handlers: Iterable[grpc.GenericRpcHandler], gate: Gate) -> None:
        self._gate = gate
        self._handlers = list(handlers)
        self._checked: dict[str, Handler] = {}
        for path in method_paths():
            rule, handler = RULES.get(path), handler_of(self._handlers, path)
            if rule is None or handler is None or rule.inside:
                continue
            if rule.field or rule.whole or handler.response_streaming:
                self._checked[path] = rebuilt(handler, self._checking(path, rule, handler))

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<NamedModels in {len(self._checked)} methods>"

    def service(self, details: grpc.HandlerCallDetails) -> Handler:
        """Return what handles a call; None for a method that there is not."""
        return self._checked.get(details.method) or handler_of(self._handlers, details.method)

    def _checking(self, path: str, rule: Rule, handler: Handler) -> object:
        inner = behaviour_of(handler)

        async def call(request: object, context: CallContext) -> object:
            await self._check(path, rule, request, context)
            return await inner(request, context)

        async def generate(request: object, context: CallContext) -> AsyncIterator[object]:
            model = await self._check(path, rule, request, context)
            async with contextlib.aclosing(inner(request, context)) as replies:
                async for reply in replies:
                    if model is not None:  # what let them in may have ended since
                        await self._check_again(path, model, context)
                    yield reply

        return generate if inspect.isasyncgenfunction(inner) else call

    async def _check(
        self, path: str, rule: Rule, request: object, context: CallContext
    ) -> str | None:
        """Return what a request names; None where nobody needs a role to name that."""
        gate, principal = self._gate, current()
        model = str(getattr(request, rule.field)) if rule.field else ""
        if model in rule.open_names:
            return None
        try:
            if rule.is_open and principal.source == "anonymous":
                principal = gate.identify(context)
                gate.enter(principal, rule)
                become(principal)
            gate.check(principal, rule, model)
        except JitneyError as error:
            await gate.denials.refuse(path, error, principal.name, context, model)
        return model

    async def _check_again(self, path: str, model: str, context: CallContext) -> None:
        principal = current()
        try:
            self._gate.authority.ensure_current(principal)
        except JitneyError as error:
            await self._gate.denials.refuse(path, error, principal.name, context, model)
