"""Where the server listens, how it ends, and which dialect it speaks."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from jitney.config.setting import file_setting, setting
from jitney.errors import ConfigError

__all__ = ["ServerSettings"]

MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server listens and how it ends."""

    host: str = setting(
        "127.0.0.1",
        "address to listen on, for gRPC and metrics",
        pattern=r"[^\s/]+",
        form="an address such as 127.0.0.1",
    )
    grpc_port: int = setting(
        8001, "port of the gRPC service; 0 takes a free one", low=0, high=MAX_PORT
    )
    metrics_port: int = setting(
        8002, "port of the metrics page; 0 takes a free one", low=0, high=MAX_PORT
    )
    insecure: bool = setting(
        default=False,
        help_="listen on an address that other machines reach, although there is no TLS",
    )
    tls_certificate: str = file_setting(
        "certificate of the server in PEM form, followed by those between it and its root; with "
        "tls_key, the gRPC port takes encrypted connections only",
    )
    tls_key: str = file_setting("private key of tls_certificate in PEM form")
    tls_client_ca: str = file_setting(
        "certificates in PEM form; only callers with one that these have signed may connect",
    )
    reflection: bool = setting(
        default=True, help_="answer server reflection, which grpcurl and the like need"
    )
    triton_compat: bool = setting(
        default=False,
        help_="answer with Triton's status codes where ours are others on purpose, and under its "
        "name, for programs that compare them",
    )
    forward_metadata: str = setting(
        "",
        "regular expression; metadata of a call whose keys match it become parameters of its "
        "requests, which the built-in echo model shows. Empty: none do",
        pattern=r"[^\n]*",
        form="a regular expression such as x-trace-.*",
    )
    allow_client_shm: bool = setting(
        default=False,
        help_="let callers on this machine pass tensors in POSIX shared memory. Whoever may call "
        "can then read and write, through the server, every object in it that the server's user "
        "may",
    )
    client_shm_prefix: str = setting(
        "",
        "with allow_client_shm, what the names of these objects have to begin with; empty: "
        "anything that is not known to belong to others",
        pattern=r"[A-Za-z0-9_.-]{0,100}",
        form="the beginning of a name such as tensors_, or nothing",
    )
    drain_delay_seconds: float | None = setting(
        None,
        "how long to keep accepting after a stop signal, while balancers notice; "
        "auto is 0 on a loopback address and 10 elsewhere",
        low=0,
        high=3600,
    )
    drain_timeout_seconds: float = setting(
        30.0, "how long accepted requests may take to finish after that", low=0, high=3600
    )

    def __post_init__(self) -> None:
        """Check what the values must satisfy together.

        :raises ConfigError: when they do not.
        """
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        if self.grpc_port == self.metrics_port != 0:
            msg = f"server.grpc_port and server.metrics_port: both are {self.grpc_port}"
            raise ConfigError(msg)
        if bool(self.tls_certificate) != bool(self.tls_key):
            msg = "server.tls_certificate, server.tls_key: one needs the other"
            raise ConfigError(msg)
        if self.tls_client_ca and not self.tls:
            msg = "server.tls_client_ca: needs server.tls_certificate and server.tls_key"
            raise ConfigError(msg)
        if not self.loopback and not self.insecure and not self.tls:
            msg = (
                f"server.host: {self.host!r} can be reached from other machines, and connections "
                "are not encrypted; give --tls-certificate and --tls-key, say --insecure "
                "(server.insecure = true) to accept that, or listen on 127.0.0.1"
            )
            raise ConfigError(msg)
        try:
            re.compile(self.forward_metadata)
        except re.error as error:
            msg = f"server.forward_metadata: not a regular expression: {error}"
            raise ConfigError(msg) from None

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.tls_certificate)

    @property
    def url_host(self) -> str:
        """The host as it stands before a port: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches ``host``; a name other than localhost counts as not.

        Names are not resolved: what they mean may change after the check.
        """
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def drain_delay(self) -> float:
        """``drain_delay_seconds`` with auto decided."""
        if self.drain_delay_seconds is not None:
            return self.drain_delay_seconds
        return 0.0 if self.loopback else 10.0
