"""What becomes of calls that are not allowed: counted, noted for auditors, and slowed down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from jitney.access import RULES
from jitney.access.bucket import Offenders
from jitney.access.tokens import masked
from jitney.errors import RateLimited, Unauthenticated
from jitney.transport.services import our_methods

if TYPE_CHECKING:
    from jitney.audit import Audit
    from jitney.clock import Clock
    from jitney.errors import JitneyError
    from jitney.telemetry.metrics import Metrics
    from jitney.transport.status import Context, Statuses

__all__ = ["Denials", "address_of"]

BURST: Final = 5.0
"""Seconds' worth of refusals that an address may have at once."""
OTHER: Final = "other"
"""The label of methods that there are not: callers can make up any number of names."""
SHOWN: Final = 128
"""Characters of a name that is repeated."""


class Denials:
    """Ends calls that are not allowed, and takes note of that.

    An address with too many of them is told to wait, and no longer noted one by one. Guessing
    tokens is hopeless at any rate, so this locks nobody out: whoever has a good one is served, also
    beside somebody at the same address who has not. It keeps a client that repeats a call in a loop
    from filling the audit log, and tells it so in a status after which clients wait.
    """

    def __init__(
        self, statuses: Statuses, metrics: Metrics, audit: Audit, clock: Clock, rate: float
    ) -> None:
        """Note nothing yet.

        :param rate: refusals a second that one address is told the reason of.
        """
        self._statuses = statuses
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._offenders = Offenders(rate, max(1.0, rate * BURST))
        self._counted = our_methods()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Denials {self._offenders}>"

    async def refuse(
        self, path: str, error: JitneyError, name: str, context: Context, model: str = ""
    ) -> NoReturn:
        """End a call of a method, which its own handler never saw.

        :param name: of the principal, empty where nobody knows.
        :param model: that the call named.
        """
        error = self.note(path, error, name, context.peer(), model)
        method = self._counted.get(path)
        if method is not None:
            self._metrics.request_ended(None, method, self._statuses.code_of(error).name)
        await self._statuses.abort(context, error)

    def note(
        self, path: str, error: JitneyError, name: str, peer: str, model: str = ""
    ) -> JitneyError:
        """Take note of a refusal; return the error that the caller is told.

        :param peer: the other end, as gRPC writes it.
        """
        method = path.rpartition("/")[2] if path in RULES else OTHER
        if isinstance(error, RateLimited):
            self._metrics.access_denied.add((method, "rate_limited"))
            return error
        address = address_of(peer)
        wait = self._offenders.refused(address, self._clock.now())
        if wait:
            self._metrics.access_denied.add((method, "throttled"))
            msg = f"too many calls from this address are refused; why this one is: {error}"
            return RateLimited(msg, retry_after=wait)
        self._metrics.access_denied.add((method, error.reason.lower()))
        event = "unauthenticated" if isinstance(error, Unauthenticated) else "denied"
        self._audit.record(
            f"access.{event}",
            principal=name,
            method=masked(path[:SHOWN]),
            model=masked(model[:SHOWN]),
            address=address,
            reason=masked(str(error)),
        )
        return error


def address_of(peer: str) -> str:
    """Return a peer without its port, which is another one for every connection."""
    kind, _, rest = peer.partition(":")
    return f"{kind}:{rest.rpartition(':')[0]}" if kind in {"ipv4", "ipv6"} else kind
