"""Every port that speaks gRPC, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.telemetry.memory import Memory, own_bytes
from jitney.telemetry.pulse import BEAT
from jitney.telemetry.reading import Reading
from jitney.transport.arrivals import Arrivals
from jitney.transport.receiver import Receiver
from jitney.transport.server import HEALTH_CALLS, GrpcServer, channel_options, health_options
from jitney.transport.services import collect, health_handlers
from jitney.transport.socket_server import SocketServer
from jitney.transport.unread import UnreadReplies
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from jitney.audit import Audit
    from jitney.clock import Clock
    from jitney.config import Settings
    from jitney.telemetry.metrics import Metrics
    from jitney.transport.doors import Doors
    from jitney.transport.health import HealthReporter
    from jitney.transport.servicer import InferenceServicer
    from jitney.transport.status import Statuses
    from jitney.transport.tls import CertificateWatch

__all__ = ["Listeners", "exposed"]

LOAD: Final = f"/{pb.SERVICE}/RepositoryModelLoad"
LOAD_REQUEST: Final = 1 << 20
"""Bytes of a request to load a model that brings no files: room for a configuration."""


class Listeners:
    """The main port, that for health checks, and that of the operator, as far as there are any.

    ``open_health`` may come long before ``start``: whoever waits for the models to be loaded asks
    there. ``beat``, called at each beat of the pulse, and ``look``, called once a second, keep what
    callers cost within its limits.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        statuses: Statuses,
        audit: Audit,
        held: Callable[[], int],
    ) -> None:
        """Open nothing yet.

        :param held: bytes of the requests that were accepted and not yet answered.
        :raises ConfigError: when the files for TLS cannot be used.
        """
        limits = settings.limits
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._statuses = statuses
        self.unread = UnreadReplies(limits.max_unread_bytes)
        self.memory = Memory(
            lambda: held() + self.unread.nbytes, lambda: not held() and not self.unread.nbytes
        )
        self.arrivals = Arrivals(
            timeout=round(limits.receive_timeout_seconds / BEAT),
            free=max(1, limits.max_receiving_bytes // settings.max_message_bytes),
            most=limits.concurrent_calls // 2,
            fill=lambda: self.memory.excess() / limits.max_receiving_bytes,
            trim=self.memory.trim,
        )
        self.certificates: CertificateWatch | None = None
        if settings.server.tls:
            # Here, because it takes 60 ms and a library that nobody else needs.
            from jitney.transport.tls import CertificateWatch  # noqa: PLC0415

            self.certificates = CertificateWatch(settings.server, audit)
        self.failed = False
        """Whether a port stopped taking calls by itself."""
        self.on_failure: Callable[[], None] = lambda: None
        self._servers: list[GrpcServer] = []
        self.main: GrpcServer | None = None
        self.admin: GrpcServer | None = None
        self.health: GrpcServer | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Listeners {self._servers}, {self.arrivals}, {self.unread}>"

    @property
    def port(self) -> int:
        """The main port; 0 before it is bound."""
        return self.main.port if self.main is not None else 0

    # -- what is served where -------------------------------------------------------------------

    def offer(self, servicer: InferenceServicer, health: HealthReporter, doors: Doors) -> None:
        """Say what is to be served, before anything is opened."""
        server, limits = self._settings.server, self._settings.limits
        checked = doors.checked(collect(servicer, health, reflection=server.reflection))
        received = self._receiver(list(checked))
        options = channel_options(limits, self._settings.max_message_bytes)
        credentials = self.certificates.credentials() if self.certificates else None
        self.main = GrpcServer(
            doors.main([received]),
            f"{server.url_host}:{server.grpc_port}",
            options,
            flag="--grpc-port",
            max_calls=limits.concurrent_calls,
            credentials=credentials,
        )
        self._servers = [self.main]
        if server.admin_address:
            self.admin = self._admin(doors, received, options)
            self._servers.append(self.admin)
        if server.health_port >= 0:
            checks = doors.checked(health_handlers(health))
            self.health = GrpcServer(
                doors.health([self._receiver(list(checks))]),
                f"{server.url_host}:{server.health_port}",
                health_options(limits),
                flag="--health-port",
                max_calls=HEALTH_CALLS,
            )

    def _receiver(self, handlers: list[grpc.GenericRpcHandler]) -> Receiver:
        uploads = self._settings.repository.allow_model_uploads
        most = self._settings.max_message_bytes if uploads else LOAD_REQUEST
        return Receiver(handlers, self.arrivals, self._statuses, self._metrics, {LOAD: most})

    def _admin(
        self, doors: Doors, received: Receiver, options: list[tuple[str, int]]
    ) -> GrpcServer:
        server, most = self._settings.server, self._settings.limits.concurrent_calls
        handlers, flag = doors.admin([received]), "--admin-address"
        if server.admin_socket is not None:
            return SocketServer(handlers, server.admin_socket, options, flag=flag, max_calls=most)
        credentials = self.certificates.credentials() if self.certificates else None
        return GrpcServer(
            handlers,
            server.admin_address,
            options,
            flag=flag,
            max_calls=most,
            credentials=credentials,
        )

    # -- their life -----------------------------------------------------------------------------

    async def open_health(self) -> None:
        """Answer health checks, if they have a port of their own.

        :raises ConfigError: when that cannot be bound.
        """
        if self.health is not None:
            self.health.on_end = self._ended
            await self.health.start()

    async def start(self) -> None:
        """Serve everything else.

        :raises ConfigError: when an address cannot be bound.
        """
        for server in self._servers:
            server.on_end = self._ended
            await server.start()
        if self.certificates is not None:
            self.certificates.start(self._clock)
        self.memory.settle()

    def _ended(self) -> None:
        self.failed = True
        self.on_failure()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let running ones finish for ``grace`` seconds, then end them."""
        if self.certificates is not None:
            await self.certificates.stop()
        for server in self._servers:
            await server.stop(grace)
        # Last, so that whoever asks is told until the end why nothing is served.
        if self.health is not None:
            await self.health.stop(0)

    def beat(self) -> None:
        """Do what is due ten times a second."""
        self.unread.beat()
        self.arrivals.beat()

    def look(self) -> None:
        """Do what is due once a second."""
        self.memory.look()

    def readings(self) -> list[Reading]:
        """Return what the metrics page shows of them."""
        certificates = self.certificates.readings() if self.certificates is not None else ()
        return [*exposed(self.arrivals, self.unread, self.memory), *certificates]


def exposed(arrivals: Arrivals, unread: UnreadReplies, memory: Memory) -> list[Reading]:
    """Return the figures of what callers make the server hold."""
    return [
        Reading(
            "jitney_receiving_calls",
            "Calls that wait for a message of their caller.",
            (),
            lambda: [((), arrivals.statistics().waiting)],
        ),
        Reading(
            "jitney_evicted_calls",
            "Calls that were ended because their message did not arrive.",
            (),
            lambda: [((), arrivals.evicted)],
            counts=True,
        ),
        Reading(
            "jitney_unread_reply_bytes",
            "Bytes of replies that wait for their callers to read them.",
            (),
            lambda: [((), unread.nbytes)],
        ),
        Reading(
            "jitney_dropped_connections",
            "Connections that were dropped because nobody read the replies on them.",
            (),
            lambda: [((), unread.dropped)],
            counts=True,
        ),
        Reading(
            "jitney_server_private_bytes",
            "Resident memory of the server process that is its alone; slots are not in it.",
            (),
            lambda: [((), own_bytes())],
        ),
        Reading(
            "jitney_memory_trims",
            "How often freed memory was given back to the system.",
            (),
            lambda: [((), memory.trims)],
            counts=True,
        ),
    ]
