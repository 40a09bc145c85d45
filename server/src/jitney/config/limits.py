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
        128, "calls open at once on one connection", low=1, high=(1 << 31) - 1
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
        if self.tenant_weights and not self.tenant_metadata_key:
            msg = "limits.tenant_weights: needs --tenant-metadata-key, which tells tenants apart"
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
    def weights(self) -> dict[str, float]:
        """``tenant_weights``, read."""
        return {
            name: float(weight)
            for name, weight in re.findall(r"([^=,]+)=([^,]+)", self.tenant_weights)
        }
