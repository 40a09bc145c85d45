"""The gRPC server: its options, its address, its start and its stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from jitney.errors import ConfigError
from jitney.transport.tls import credentials
from jitney_client.protocol import inference as pb
from jitney_client.protocol import jitney_v1 as own

if TYPE_CHECKING:
    from jitney.config import LimitSettings, ServerSettings
    from jitney.transport.health import HealthReporter
    from jitney.transport.servicer import InferenceServicer

__all__ = ["GrpcServer", "channel_options"]

SERVICES: Final = (
    (pb.POOL, pb.SERVICE),
    (own.POOL, own.SERVICE),
    (health_pb2.DESCRIPTOR.pool, "grpc.health.v1.Health"),
)
"""Every service that the server offers, with the pool that describes it."""

IDENTITY_ONLY, ALL_ALGORITHMS = 1, 7
"""Bit sets of compression algorithms: none, or deflate and gzip as well."""

BOUNDED_INFLATION: Final = (1, 85)
"""The release of grpcio with which it was measured that inflating ends at the limit of a message: a
message of 1 GiB of zeros in 1 MiB costs no memory and is refused. Releases before some 1.8x inflate
all of it first, so they are not given the chance."""


def channel_options(limits: LimitSettings, max_message_bytes: int) -> list[tuple[str, int]]:
    """Return the options of the gRPC library; docs/operations.md says why each has its value."""
    release = tuple(map(int, grpc.__version__.split(".")[:2]))
    inflates = limits.compression and release >= BOUNDED_INFLATION
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        # The limit alone makes clients wait their turn. With this on (the default), streams that
        # the peer sees as ended but Python has not yet let go of count as well, and honest clients
        # at the limit are refused: 28 % of 5,000 calls, 500 at a time (measured). Off, resets in
        # rapid succession hurt other callers no more than on (measured, 500,000 a second).
        ("grpc.http.overload_protection", 0),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        # Without it a second server on the same port starts silently and takes half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # The ping timeout, not the keepalive timeout, finds a frozen client.
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.server_handshake_timeout_ms", 10_000),
        (
            "grpc.compression_enabled_algorithms_bitset",
            ALL_ALGORITHMS if inflates else IDENTITY_ONLY,
        ),
    ]


class GrpcServer:
    """Binds, serves and stops.

    ``stop`` closes the listener at once, so say NOT_SERVING and wait before it.
    """

    def __init__(
        self,
        servicer: InferenceServicer,
        health: HealthReporter,
        settings: ServerSettings,
        limits: LimitSettings,
        max_message_bytes: int,
    ) -> None:
        """Bind nothing yet.

        :raises ConfigError: when the files for TLS cannot be used.
        """
        self._settings = settings
        self._credentials = credentials(settings)
        self._server = grpc.aio.server(options=channel_options(limits, max_message_bytes))
        self._server.add_generic_rpc_handlers(tuple(servicer.handlers()))
        health_pb2_grpc.add_HealthServicer_to_server(health.servicer, self._server)
        if settings.reflection:
            self._add_reflection()
        self.port = 0

    def _add_reflection(self) -> None:
        # Reflection serves one pool; ours are private and health's is the default one, so the
        # files of all three are put together in a new one.
        pool = DescriptorPool()
        for source, service in SERVICES:
            file = source.FindServiceByName(service).file
            for needed in (*file.dependencies, file):
                pool.AddSerializedFile(needed.serialized_pb)
        names = [service for _, service in SERVICES]
        reflection.enable_server_reflection(names, self._server, pool=pool)

    async def start(self) -> None:
        """Bind and serve.

        :raises ConfigError: when the address cannot be bound.
        """
        address = f"{self._settings.url_host}:{self._settings.grpc_port}"
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            self.port = 0
        if not self.port:
            msg = (
                f"cannot listen on {address}: is another server running there? "
                "(--grpc-port takes another port, 0 any free one)"
            )
            raise ConfigError(msg)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let running ones finish for ``grace`` seconds, then end them."""
        await self._server.stop(grace)
