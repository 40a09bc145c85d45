"""A gRPC server: its options, its address, its start and its stop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import grpc

from jitney.errors import ConfigError
from jitney.transport.undecodable import tolerate_undecodable_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.config import LimitSettings

    Options = list[tuple[str, int]]

__all__ = ["GrpcServer", "channel_options", "health_options"]

log = logging.getLogger(__name__)

IDENTITY_ONLY, ALL_ALGORITHMS = 1, 7
"""Bit sets of compression algorithms: none, or deflate and gzip as well."""

BOUNDED_INFLATION: Final = (1, 85)
"""The release of grpcio with which it was measured that inflating ends at the limit of a message: a
message of 1 GiB of zeros in 1 MiB costs no memory and is refused. Releases before some 1.8x inflate
all of it first, so they are not given the chance."""
FOREVER: Final = (1 << 31) - 1
"""Milliseconds that gRPC takes for no limit."""
HEALTH_REQUEST, HEALTH_CALLS = 4096, 256
"""Bytes of a health check, and how many may be open on the listener that is for them alone."""


def channel_options(limits: LimitSettings, max_message_bytes: int) -> Options:
    """Return the options of the gRPC library; docs/operations.md says why each has its value."""
    release = tuple(map(int, grpc.__version__.split(".")[:2]))
    inflates = limits.compression and release >= BOUNDED_INFLATION
    grace = limits.max_connection_age_grace_seconds
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        # Calls that a client made and gave up at once count until Python has let go of them, too.
        # Without this, 15,000 of them a second fill the queue that gRPC has for all connections,
        # and calls of others end CANCELLED (measured: 15 % of them). With it, clients that want
        # more than the limit at once are refused some of it, instead of waiting for their turn; so
        # the limit is one that few want.
        ("grpc.http.overload_protection", 1),
        # That queue. Beyond 1,000 gRPC draws lots whose calls to cancel, a burst of honest ones
        # among them. What may be open may also wait.
        ("grpc.server.max_pending_requests", limits.concurrent_calls),
        ("grpc.server.max_pending_requests_hard_limit", limits.concurrent_calls),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        # A fixed window. The default follows the bandwidth, up to 16 MiB and more for each call
        # before anybody reads it, and large messages took twice as long (both measured).
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", limits.stream_window_bytes),
        # Between these two, headers would be refused by chance.
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
        # Without it a second server on the same port starts silently and takes half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", _ms(limits.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _ms(limits.keepalive_timeout_seconds)),
        # The ping timeout, not the keepalive timeout, finds a frozen client.
        ("grpc.http2.ping_timeout_ms", _ms(limits.keepalive_timeout_seconds)),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", _ms(limits.max_connection_idle_seconds)),
        ("grpc.max_connection_age_ms", _ms(limits.max_connection_age_seconds)),
        ("grpc.max_connection_age_grace_ms", FOREVER if grace is None else _ms(grace)),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # Has sent wrong bytes (CVE-2024-11407); off by default, and to stay so.
        ("grpc.experimental.tcp_tx_zerocopy_enabled", 0),
        (
            "grpc.compression_enabled_algorithms_bitset",
            ALL_ALGORITHMS if inflates else IDENTITY_ONLY,
        ),
    ]


def health_options(limits: LimitSettings) -> Options:
    """Return the options of the listener for health checks: the same, with less of everything."""
    options = dict(channel_options(limits, HEALTH_REQUEST))
    options |= {
        "grpc.max_concurrent_streams": 16,
        "grpc.max_allowed_incoming_connections": 64,
        "grpc.compression_enabled_algorithms_bitset": IDENTITY_ONLY,
    }
    return list(options.items())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class GrpcServer:
    """Binds, serves and stops.

    ``stop`` closes the listener at once, so say NOT_SERVING and wait before it.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        address: str,
        options: Options,
        *,
        flag: str,
        max_calls: int | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Bind nothing yet.

        :param address: host and port, an IPv6 host in brackets; or ``unix:`` and a path.
        :param flag: the setting that has the address, for texts.
        :param max_calls: calls that may be open at once; gRPC refuses others with
            RESOURCE_EXHAUSTED.
        :param credentials: what connections are encrypted with; None where they are not.
        """
        self._address = address
        self._flag = flag
        self._credentials = credentials
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=max_calls)
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self._stopping = False
        self._watching: asyncio.Task[None] | None = None
        self.on_end: Callable[[], None] = lambda: None
        """Called when it took no more calls although nobody had stopped it."""
        self.port = 0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<GrpcServer {self._address}, port {self.port}>"

    async def start(self) -> None:
        """Bind and serve.

        :raises ConfigError: when the address cannot be bound.
        """
        self.bind()
        tolerate_undecodable_paths()
        await self._server.start()
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        # Whatever is raised in the loop in which gRPC accepts calls, it takes for the end of the
        # server, logs, and closes the port; the process would live on without it.
        await self._server.wait_for_termination()
        if not self._stopping:
            log.critical("gRPC stopped serving %s by itself", self._address)
            self.on_end()

    def bind(self) -> None:
        """Take the address; connections wait until ``start``.

        :raises ConfigError: when it cannot be bound.
        """
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(self._address)
            else:
                self.port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError:
            self.port = 0
        if not self.port:
            msg = (
                f"cannot listen on {self._address}: is another server running there? "
                f"({self._flag} takes another port, 0 any free one)"
            )
            raise ConfigError(msg)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let running ones finish for ``grace`` seconds, then end them."""
        self._stopping = True
        await self._server.stop(grace)
