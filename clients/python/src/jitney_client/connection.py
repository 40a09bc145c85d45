"""How to connect: the options of channels, and what goes along with every call."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict

from jitney_client.retries import Retries
from jitney_client.target import target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import grpc

    from jitney_client.target import Target
    from jitney_client.tls import Tls

    Metadata = tuple[tuple[str, str], ...]

__all__ = ["Connection", "ConnectionOptions"]

BALANCED: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A server that is about to stop says so before it hangs up: without asking, some calls
        # would still go there and be cut off. One that offers no health counts as healthy.
        "healthCheckConfig": {"serviceName": ""},
    }
)
HABITS: Final = (
    # gRPC's default is 4 MiB for what is received. What fits is the server's business to say.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC's own: 1 s, growing to 2 minutes, which is how long a restarted server would be missed.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 5000),
)
HEADER_NAME: Final = re.compile(r"[0-9a-z_.-]+")
DEFAULT_RETRIES: Final = Retries()
PING_TIMEOUT: Final = 10.0
"""Seconds without an answer to a ping after which a connection is given up."""


class ConnectionOptions(TypedDict, total=False):
    """What ``Client`` and ``AsyncClient`` take beside the address."""

    timeout: float | None
    """Seconds that bound every call that does not give its own; None waits as long as it takes. The
    server is told, and drops what still waits when they have passed."""
    tls: Tls | None
    """How to encrypt; None sends in the clear."""
    credentials: grpc.ChannelCredentials | None
    """gRPC's own, in place of ``tls``."""
    token: str | Callable[[], str] | None
    """Sent along with every call as ``authorization: Bearer …``; a function is asked for it each
    time. Refused without encryption, unless nothing leaves this machine."""
    tenant: str
    """On whose behalf calls are made that do not say otherwise."""
    tenant_key: str
    """The metadata key that the server reads the tenant from (its ``--tenant-metadata-key``)."""
    headers: Mapping[str, str]
    """Further metadata of every call."""
    retries: Retries | None
    """How failed calls are repeated; None for not at all."""
    channels: int
    """Connections to open, used in turn. One carries about as much as one core can encrypt or copy;
    more are worth it for large tensors."""
    keepalive: float | None
    """Seconds without traffic after which the server is asked whether it is there, so that networks
    do not forget an idle connection, and a dead one is noticed; None never asks. A jitney allows
    10 and more, other servers may only allow 300 and more, and hang up on who asks more often."""
    check: bool
    """Whether requests are checked against the model's metadata before they are sent. The first
    request to each model asks for it."""
    shared_memory: bool | str
    """Whether large tensors go through shared memory: ``"auto"`` where the server is on this
    machine and offers it, True to insist on it, False never."""
    channel_options: Sequence[tuple[str, int | str]]
    """gRPC's own, which win over all of the above."""


@dataclass(frozen=True)
class Connection:
    """Everything that a client was told about its connection, checked."""

    target: Target
    timeout: float | None = None
    tls: Tls | None = None
    credentials: grpc.ChannelCredentials | None = None
    token: str | Callable[[], str] | None = None
    tenant: str = ""
    tenant_key: str = "x-tenant"
    headers: Mapping[str, str] | None = None
    retries: Retries | None = DEFAULT_RETRIES
    channels: int = 1
    keepalive: float | None = 30.0
    check: bool = True
    shared_memory: bool | str = "auto"
    channel_options: Sequence[tuple[str, int | str]] = ()

    @classmethod
    def to(cls, address: str | Sequence[str], options: ConnectionOptions) -> Connection:
        """Return the connection to an address.

        :raises ValueError: when an option makes no sense, or a token would be readable by others.
        :raises TypeError: when one is of another kind.
        :raises OSError: when a file of ``tls`` cannot be read, or a name is not known.
        """
        connection = cls(target_of(address), **options)
        connection._check()
        connection._check_habits()
        connection._check_headers()
        return connection

    def _check(self) -> None:
        if self.tls is not None and self.credentials is not None:
            msg = "give tls or credentials, not both"
            raise ValueError(msg)
        if self.token is not None and not self.encrypted and not self.target.local:
            msg = (
                f"the token would travel to {self.target.uri} unencrypted, for all on the way to "
                "read: give tls as well"
            )
            raise ValueError(msg)
        if self.channels < 1:
            msg = f"channels: expected 1 or more, got {self.channels}"
            raise ValueError(msg)
        if self.shared_memory not in (True, False, "auto"):
            msg = f'shared_memory: expected "auto", True or False, got {self.shared_memory!r}'
            raise ValueError(msg)
        if self.shared_memory is True and (self.target.balanced or not self.target.local):
            msg = (
                "shared_memory=True: memory can be shared with one server on this machine only, "
                f"not with {self.target.uri}"
            )
            raise ValueError(msg)

    def _check_habits(self) -> None:
        for name in ("timeout", "keepalive"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # NaN is not, either
                msg = f"{name}: expected seconds above 0 or None, got {value!r}"
                raise ValueError(msg)
        if not isinstance(self.retries, Retries | None):
            msg = f"retries: expected Retries(attempts=…) or None, got {self.retries!r}"  # type: ignore[unreachable]  # of who checks types
            raise TypeError(msg)

    def _check_headers(self) -> None:
        if isinstance(self.token, str):
            _check_header("authorization", self.token)
        for key, header in {**(self.headers or {}), self.tenant_key: self.tenant}.items():
            _check_header(key.lower(), header)

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read what is sent."""
        return self.tls is not None or self.credentials is not None

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Return gRPC's credentials, None to send in the clear.

        :raises ValueError: when a file of ``tls`` cannot be used.
        """
        return self.credentials if self.tls is None else self.tls.credentials()

    def options(self) -> list[tuple[str, Any]]:
        """Return the options of each of its channels."""
        options: list[tuple[str, Any]] = [*HABITS]
        if self.keepalive is not None and self.keepalive != math.inf:
            pings = (
                ("grpc.keepalive_time_ms", math.ceil(self.keepalive * 1000)),
                ("grpc.keepalive_timeout_ms", math.ceil(PING_TIMEOUT * 1000)),
                # This one decides; the line above alone lets a frozen peer be for a minute.
                ("grpc.http2.ping_timeout_ms", math.ceil(PING_TIMEOUT * 1000)),
                # Idle connections are what networks forget, so they are the ones to ask over,
                # for ever, and not twice only.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
            )
            options += pings
        if self.target.balanced:
            options.append(("grpc.service_config", BALANCED))
        if self.channels > 1:
            # Or channels with equal options would share one connection.
            options.append(("grpc.use_local_subchannel_pool", 1))
        if self.tls is not None:
            options += self.tls.options()
        # Each name once: which of two gRPC takes is nowhere promised.
        return [*dict([*options, *self.channel_options]).items()]

    def metadata(self, tenant: str | None = None) -> Metadata:
        """Return what goes along with a call on behalf of ``tenant``; by default the client's.

        :raises ValueError: when that, or a token that was asked for, cannot be in a header.
        """
        pairs = [(key.lower(), value) for key, value in (self.headers or {}).items()]
        tenant = self.tenant if tenant is None else tenant
        if tenant:
            if tenant != self.tenant:
                _check_header(self.tenant_key.lower(), tenant)
            pairs.append((self.tenant_key.lower(), tenant))
        if self.token is not None:
            token = self.token
            if not isinstance(token, str):
                token = token()
                _check_header("authorization", token)
            pairs.append(("authorization", f"Bearer {token}"))
        return tuple(pairs)


def _check_header(name: str, value: str) -> None:
    """Do nothing if a header can have that name and value: gRPC says neither which nor why.

    :raises ValueError: naming the header, and nothing of its value, which may be secret.
    """
    if not HEADER_NAME.fullmatch(name):
        msg = f"{name!r}: a header is named with letters, digits, '-', '_' and '.'"
        raise ValueError(msg)
    if name.endswith("-bin"):
        return
    if not (value.isascii() and value.isprintable()):
        msg = f"{name}: headers have ASCII only, and no line breaks, not even at their end"
        raise ValueError(msg)
