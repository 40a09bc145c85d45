"""Decides about one call at a time: who makes it, and whether that one may."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final, Protocol

from jitney.access import INFER, current
from jitney.access.rules import RUN_MANY, RUN_ONE
from jitney.errors import AccessDenied, JitneyError, RateLimited, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jitney.access import Principal, Rule
    from jitney.access.authority import Authority
    from jitney.clock import Clock
    from jitney.transport.denials import Denials
    from jitney.transport.status import Context

    class CallContext(Context, Protocol):
        """What we use of a call's context to find out who makes it."""

        def auth_context(self) -> Mapping[str, list[bytes]]:
            """Return what the other end's certificate says; empty without one."""

    Metadata = Iterable[tuple[str, str | bytes]]

__all__ = ["Gate", "authorization_in", "names_in"]

KEY: Final = "authorization"
SAN: Final = "x509_subject_alternative_name"
COMMON_NAME: Final = "x509_common_name"
SHOWN: Final = 128
"""Characters of a name that a text repeats."""
NONE_GIVEN: Final = (
    "this server wants to know who calls: send the metadata 'authorization: Bearer TOKEN'"
)


class Gate:
    """Asks of every call who makes it, and holds it against the rule of its method.

    A role for no model at all is refused before anything of the request was read; what the request
    names is checked once that is known, and for each request of a stream anew: tokens expire.
    """

    def __init__(self, authority: Authority, denials: Denials, clock: Clock) -> None:
        self.authority = authority
        self.denials = denials
        self._clock = clock

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Gate of {self.authority}>"

    def identify(self, context: CallContext) -> Principal:
        """Return who makes a call: whose token it brought, or else whose certificate.

        :raises Unauthenticated: when the token is not good; a certificate does not make up for it.
        """
        authorization = authorization_in(context.invocation_metadata() or ())
        if authorization is not None:
            return self.authority.by_token(authorization)
        names = context.auth_context()
        return self.authority.by_certificate(names_in(names, SAN), names_in(names, COMMON_NAME))

    def enter(self, principal: Principal, rule: Rule, *, counts: bool = True) -> None:
        """Let a call of some method in.

        :param counts: whether it is a request by itself, for the principal's rate.
        :raises JitneyError: when it may not be made, whatever is in it.
        """
        if rule.roles.isdisjoint(principal.anywhere):
            raise _refusal(principal, "call this method", rule.roles)
        if counts:
            self._spend(principal)

    def check(self, principal: Principal, rule: Rule, model: str) -> None:
        """Let a request through that names a model, or none.

        :raises JitneyError: when the principal may not ask that of this model; whether there is
            such a model makes no difference.
        """
        if model:
            if not principal.may_any(rule.roles, model):
                raise _refusal(principal, f"do this with {_named(model)}", rule.roles)
        elif rule.whole and not principal.may_everywhere(rule.roles):
            raise _refusal(principal, "do this for all models", rule.roles)

    # -- requests that run models -----------------------------------------------------------------

    def check_run(self, model: str, context: Context) -> None:
        """Let a request to run a model through, of whoever makes the running call.

        :raises JitneyError: when it may not be run; it was taken note of.
        """
        principal = current()
        if not principal.may(INFER, model):
            error = _refusal(principal, f"run {_named(model)}", (INFER,))
            raise self.denials.note(RUN_ONE, error, principal.name, context.peer(), model)

    def checks_of_stream(self, context: Context) -> Callable[[str], None]:
        """Return what does so for each request of a stream that the running call has opened."""
        return functools.partial(self._check_one, current(), context.peer())

    def _check_one(self, principal: Principal, peer: str, model: str) -> None:
        try:
            self.authority.ensure_current(principal)
            self._spend(principal)
            if not principal.may(INFER, model):
                raise _refusal(principal, f"run {_named(model)}", (INFER,))
        except JitneyError as error:
            raise self.denials.note(RUN_MANY, error, principal.name, peer, model) from None

    def _spend(self, principal: Principal) -> None:
        if principal.bucket.rate == math.inf:
            return
        wait = principal.bucket.take(self._clock.now())
        if wait:
            rate = principal.bucket.rate
            msg = f"'{principal.name}' may make {rate:g} requests a second, and makes more"
            raise RateLimited(msg, retry_after=wait)


def authorization_in(metadata: Metadata) -> str | None:
    """Return the value of ``authorization``, None where there is none.

    :raises Unauthenticated: when there are two, or it is no text: of two, one may be a proxy's and
        the other the caller's own, and nothing tells which.
    """
    found: str | bytes | None = None
    for key, value in metadata:
        if key == KEY:
            if found is not None:
                msg = "authorization: came more than once"
                raise Unauthenticated(msg)
            found = value
    if isinstance(found, bytes):
        msg = "authorization: expected a text"
        raise Unauthenticated(msg)
    return found


def names_in(names: Mapping[str, Iterable[bytes]], key: str) -> list[str]:
    """Return the names of one kind in what gRPC tells of a connection's certificate."""
    return [name.decode("utf-8", "replace") for name in names.get(key, ())]


def _refusal(principal: Principal, what: str, roles: Iterable[str]) -> JitneyError:
    if principal.source == "anonymous":
        return Unauthenticated(NONE_GIVEN)
    wanted = " or ".join(sorted(roles))
    if not wanted:
        return AccessDenied("there is no such method, or no rule for it")
    return AccessDenied(f"'{principal.name}' may not {what}: it takes the role {wanted}")


def _named(model: str) -> str:
    return f"the model {model[:SHOWN]!r}"
