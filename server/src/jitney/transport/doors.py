"""The ways into a server: who is let in where."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jitney.access import UNIX
from jitney.access.authority import Authority
from jitney.access.entries import Rate
from jitney.repository.polling import Poller
from jitney.telemetry.reading import Reading
from jitney.transport.denials import Denials
from jitney.transport.gate import Gate
from jitney.transport.guard import Guard
from jitney.transport.named import NamedModels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from jitney.audit import Audit
    from jitney.clock import Clock
    from jitney.config import Settings
    from jitney.telemetry.metrics import Metrics
    from jitney.transport.status import Statuses

    Handlers = Sequence[grpc.GenericRpcHandler]

__all__ = ["Doors"]

log = logging.getLogger(__name__)


class Doors:
    """What stands before the services, at the main address and at that of the operator.

    Where callers are not asked who they are and there is no other address, nothing does, and no
    call costs more.

    :raises ConfigError: when the file of tokens cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        statuses: Statuses,
        metrics: Metrics,
        audit: Audit,
        clock: Clock,
    ) -> None:
        access = settings.access
        self._server = settings.server
        self._metrics = metrics
        self._audit = audit
        self._denials = Denials(statuses, metrics, audit, clock, access.refusal_rate)
        self.authority: Authority | None = None
        self._poller: Poller | None = None
        self.gate: Gate | None = None
        """What asks about each request to run a model; None where nobody is asked."""
        if access.on:
            rate = Rate(access.rate, access.burst)
            self.authority = Authority(Path(access.tokens_file), rate, self._read_again)
            self.gate = Gate(self.authority, self._denials, clock)
            self._poller = Poller(clock, self.authority.poll, access.tokens_poll_seconds)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Doors {self.gate or 'open'}>"

    def start(self) -> None:
        """Begin to look for changes of the file of tokens; say what is not as it should be."""
        if self._server.insecure:
            log.warning(
                "--insecure: whoever reaches %s may %s",
                self._server.host,
                "read what others send, and use the tokens in it"
                if self.gate is not None
                else "read what others send, and call everything that is served",
                extra={"kept": True},
            )
        if self._poller is not None:
            self._poller.start()

    async def stop(self) -> None:
        """Look no longer."""
        if self._poller is not None:
            await self._poller.stop()

    def checked(self, handlers: Handlers) -> Handlers:
        """Return handlers that look at which model a request names, where anybody is asked."""
        return handlers if self.gate is None else [NamedModels(handlers, self.gate)]

    def main(self, handlers: Handlers) -> Handlers:
        """Return what is served at the main address.

        :param handlers: that read their messages by themselves.
        """
        elsewhere = bool(self._server.admin_address)
        if self.gate is None and not elsewhere:
            return handlers
        return [Guard(handlers, self._denials, self.gate, admin=not elsewhere)]

    def admin(self, handlers: Handlers) -> Handlers:
        """Return what is served at the admin address: everything.

        Who can open a socket is who the operator lets; at a port, callers are asked as elsewhere.
        """
        if self._server.admin_socket is not None:
            return [Guard(handlers, self._denials, None, everybody=UNIX)]
        return [Guard(handlers, self._denials, self.gate)]

    def health(self, handlers: Handlers) -> Handlers:
        """Return what is served to health checks: what a model's name is asked about has a rule."""
        return handlers if self.gate is None else [Guard(handlers, self._denials, self.gate)]

    def _read_again(self, outcome: str, text: str) -> None:
        self._metrics.access_reloads.add((outcome,))
        event = "tokens.reloaded" if outcome == "loaded" else "tokens.broken"
        self._audit.record(event, what=text)

    def readings(self) -> list[Reading]:
        """Return the figures of how protected the server is."""
        return [
            Reading(
                "jitney_insecure",
                "1 where the operator said --insecure.",
                (),
                lambda: [((), int(self._server.insecure))],
            ),
            Reading(
                "jitney_access_file_broken",
                "1 while the file of tokens cannot be used as it is now.",
                (),
                lambda: [((), int(bool(self.authority and self.authority.broken)))],
            ),
        ]
