"""What the server accepts at the same time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from jitney.config.setting import setting
from jitney.errors import ConfigError

__all__ = ["MAX_WIRE_MESSAGE", "LimitSettings"]

MIB: Final = 1 << 20
MAX_WIRE_MESSAGE: Final = (1 << 31) - 1
"""The largest message that protobuf can read, in bytes."""
MAX_SECONDS: Final = 2_000_000
"""The longest time that gRPC can count in its milliseconds, roughly: 23 days."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What the server accepts at the same time, before it says that it is overloaded."""

    max_message_bytes: int = setting(
        0,
        "largest message to receive, in bytes; 0 derives it from slot_bytes",
        low=0,
        high=MAX_WIRE_MESSAGE,
    )
    max_inflight_requests: int = setting(
        8192, "requests accepted and not yet answered", low=1, high=1 << 24
    )
    max_inflight_bytes: int = setting(
        2 << 30, "bytes of their tensors, all together", low=1, high=1 << 44
    )
    max_concurrent_streams: int = setting(
        1024,
        "calls open at once on one connection; of a client that has more, some are refused with "
        "UNAVAILABLE",
        low=1,
        high=(1 << 31) - 1,
    )
    max_shm_regions: int = setting(
        1024,
        "regions of shared memory registered at once; each holds a file descriptor",
        low=1,
        high=1 << 16,
    )
    max_shm_bytes: int = setting(
        1 << 36, "bytes of these regions, all together", low=1, high=1 << 44
    )
    max_connections: int = setting(2048, "connections open at once", low=1, high=1 << 20)
    max_concurrent_calls: int = setting(
        0,
        "calls of any kind open at once on all connections, streams and those that watch health "
        "included; 0 is twice max_inflight_requests",
        low=0,
        high=1 << 25,
    )
    max_receiving_bytes: int = setting(
        1 << 30,
        "memory that messages may take which have begun to arrive and do not finish; beyond it, "
        "whoever has most of them loses them",
        low=1 << 20,
        high=1 << 44,
    )
    receive_timeout_seconds: float = setting(
        60.0,
        "how long the request of a call may take to arrive, once the call has; the messages of a "
        "stream may take any time",
        low=1,
        high=MAX_SECONDS,
    )
    max_unread_bytes: int = setting(
        2 << 30,
        "bytes of replies, of all calls and streams together, that may wait for their callers to "
        "read them; those below 64 KiB count on streams only",
        low=1 << 20,
        high=1 << 44,
    )
    stream_window_bytes: int = setting(
        MIB // 4,
        "bytes that a call may send before the server has begun to read them (HTTP/2's window)",
        low=65_535,
        high=(1 << 31) - 1,
    )
    max_metadata_bytes: int = setting(
        16_384, "bytes of the metadata of one call", low=4096, high=1 << 24
    )
    max_connection_idle_seconds: float = setting(
        300.0, "after how long without a call a connection is closed", low=1, high=MAX_SECONDS
    )
    max_connection_age_seconds: float = setting(
        1200.0,
        "after how long (a tenth more or less) clients are asked to make a new connection, so that "
        "balancers and new certificates have their turn; calls that run are not disturbed",
        low=1,
        high=MAX_SECONDS,
    )
    max_connection_age_grace_seconds: float | None = setting(
        None,
        "how long such calls may go on, before they are cut off with the connection; auto is as "
        "long as they like",
        low=1,
        high=MAX_SECONDS,
    )
    keepalive_seconds: float = setting(
        10.0,
        "after how long a silent connection is asked whether it is still there",
        low=1,
        high=7200,
    )
    keepalive_timeout_seconds: float = setting(
        5.0, "how long it may take to answer that, before it is given up", low=1, high=7200
    )
    compression: bool = setting(
        default=True,
        help_="take compressed requests (gzip, deflate); max_message_bytes holds for what they "
        "inflate to. Replies are never compressed",
    )
    max_stream_requests: int = setting(
        256,
        "requests of one stream whose replies were not all sent; beyond it, nothing more is read "
        "from the stream",
        low=1,
        high=1 << 20,
    )
    max_stream_bytes: int = setting(
        256 * MIB,
        "bytes of replies that may wait to be read on one stream; near it nothing more is read, "
        "and where a decoupled model exceeds it, the stream ends",
        low=1,
        high=1 << 40,
    )
    tenant_metadata_key: str = setting(
        "",
        "metadata key of a call that names its tenant, such as x-tenant; tenants share the server "
        "fairly. Callers can write what they like there, so let a proxy set it. Empty: no tenants",
        # What gRPC allows in a key, without those that are its own, or that hold bytes.
        pattern=r"(?!grpc-)[a-z0-9_.-]{0,128}(?<!-bin)",
        form="a metadata key in lower case such as x-tenant, or nothing",
    )
    tenant_from: str = setting(
        "metadata",
        "who a call's tenant is: metadata takes what stands under tenant_metadata_key, principal "
        "the name under which --tokens-file knows the caller",
        choices=("metadata", "principal"),
    )
    tenant_weights: str = setting(
        "",
        "shares of tenants, such as a=2,b=1; who is not listed has 1",
        pattern=r"([^=,\s]{1,128}=[0-9]{1,6}(\.[0-9]{1,6})?(,(?!$)|$)){0,1000}",
        form="tenants and their weights such as a=2,b=1",
    )
    max_tenant_share: float = setting(
        0.5,
        "share of max_inflight_requests and of max_inflight_bytes that one tenant may hold while "
        "others hold some; 1 is no limit",
        low=0.01,
        high=1,
    )

    def __post_init__(self) -> None:
        """Check that each tenant has one weight, above 0, and that there are tenants.

        :raises ConfigError: when that is not so.
        """
        if self.tenant_weights and not self.tenants:
            msg = (
                "limits.tenant_weights: needs --tenant-metadata-key or --tenant-from principal, "
                "which tell tenants apart"
            )
            raise ConfigError(msg)
        if self.tenant_from == "principal" and self.tenant_metadata_key:
            msg = "limits.tenant_metadata_key: has no use beside --tenant-from principal"
            raise ConfigError(msg)
        names = [item.partition("=")[0] for item in self.tenant_weights.split(",")]
        if len(set(names)) != len(names):
            msg = f"limits.tenant_weights: {max(names, key=names.count)} is listed more than once"
            raise ConfigError(msg)
        for name, weight in self.weights.items():
            if not weight:
                msg = f"limits.tenant_weights: the weight of {name} must be above 0"
                raise ConfigError(msg)

    @property
    def concurrent_calls(self) -> int:
        """``max_concurrent_calls`` with 0 decided."""
        return self.max_concurrent_calls or 2 * self.max_inflight_requests

    @property
    def tenants(self) -> bool:
        """Whether tenants are told apart."""
        return bool(self.tenant_metadata_key) or self.tenant_from == "principal"

    @property
    def weights(self) -> dict[str, float]:
        """``tenant_weights``, read."""
        return {
            name: float(weight)
            for name, weight in re.findall(r"([^=,]+)=([^,]+)", self.tenant_weights)
        }
