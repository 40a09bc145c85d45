"""Where the server listens, how it ends, and which dialect it speaks."""

from __future__ import annotations

import ipaddress
import itertools
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
    metrics_host: str = setting(
        "",
        "address of the metrics page, where it is another than host",
        pattern=r"[^\s/]*",
        form="an address such as 127.0.0.1, or nothing",
    )
    metrics_tls: bool = setting(
        default=True,
        help_="where there is a certificate, encrypt the metrics page as well, and ask for "
        "certificates of callers there too if tls_client_ca is given",
    )
    health_port: int = setting(
        -1,
        "port of a second listener that answers health checks and nothing else, without "
        "encryption, also while models are loaded; 0 takes a free one, -1 is none",
        low=-1,
        high=MAX_PORT,
    )
    insecure: bool = setting(
        default=False,
        help_="listen on an address that other machines reach, although connections are not "
        "encrypted, or callers not asked who they are",
    )
    admin_address: str = setting(
        "",
        "where the calls that change the server (load, unload, log and trace settings) are served, "
        "and then only there: HOST:PORT, or unix:/path of a socket that only the server's user may "
        "open, and whoever opens it may do everything. Empty: where everything else is",
        pattern=r"(unix:/[^\0\n]{1,100}|(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):[0-9]{1,5})?",
        form="HOST:PORT, unix:/path, or nothing",
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
        for name in ("host", "metrics_host"):
            host = getattr(self, name).removeprefix("[").removesuffix("]")
            object.__setattr__(self, name, host)
        self._check_ports()
        if bool(self.tls_certificate) != bool(self.tls_key):
            msg = "server.tls_certificate, server.tls_key: one needs the other"
            raise ConfigError(msg)
        if self.tls_client_ca and not self.tls:
            msg = "server.tls_client_ca: needs server.tls_certificate and server.tls_key"
            raise ConfigError(msg)
        if self.admin_address and self.admin_socket is None:
            host, port = self.admin_host_port
            if port > MAX_PORT:
                msg = f"server.admin_address: expected a port up to {MAX_PORT}, got {port}"
                raise ConfigError(msg)
            if port == self.grpc_port != 0 and host in (self.host, self.url_host):
                msg = f"server.admin_address: {self.admin_address} is where everything else is"
                raise ConfigError(msg)
        try:
            re.compile(self.forward_metadata)
        except re.error as error:
            msg = f"server.forward_metadata: not a regular expression: {error}"
            raise ConfigError(msg) from None

    def _check_ports(self) -> None:
        ports = {"grpc_port": self.grpc_port, "health_port": self.health_port}
        if self.metrics_host in ("", self.host):
            ports["metrics_port"] = self.metrics_port
        for (one, port), (other, same) in itertools.combinations(ports.items(), 2):
            if port == same > 0:
                msg = f"server.{one} and server.{other}: both are {port}"
                raise ConfigError(msg)

    @property
    def page_host(self) -> str:
        """The host of the metrics page."""
        return self.metrics_host or self.host

    @property
    def page_tls(self) -> bool:
        """Whether the metrics page is encrypted."""
        return self.tls and self.metrics_tls

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.tls_certificate)

    @property
    def url_host(self) -> str:
        """The host as it stands before a port: an IPv6 address in brackets."""
        return _bracketed(self.host)

    @property
    def page_url_host(self) -> str:
        """The host of the metrics page, as it stands before a port."""
        return _bracketed(self.page_host)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches ``host``; a name other than localhost counts as not.

        Names are not resolved: what they mean may change after the check.
        """
        return _is_loopback(self.host)

    @property
    def admin_socket(self) -> str | None:
        """The path in ``admin_address``, None where it has none."""
        return self.admin_address[5:] if self.admin_address.startswith("unix:") else None

    @property
    def admin_host_port(self) -> tuple[str, int]:
        """Host and port in ``admin_address``; only where it has some."""
        host, _, port = self.admin_address.rpartition(":")
        return host, int(port)

    @property
    def reachable_address(self) -> tuple[str, str] | None:
        """A setting and its host that other machines can reach, None where there is none."""
        if not self.loopback:
            return "server.host", self.host
        # Without a certificate there is nothing to encrypt the page with; to say that it shall not
        # be is to know what one does.
        if self.metrics_tls and not _is_loopback(self.page_host):
            return "server.metrics_host", self.metrics_host
        if self.admin_address and self.admin_socket is None:
            host, _ = self.admin_host_port
            if not _is_loopback(host.strip("[]")):
                return "server.admin_address", host
        return None

    @property
    def drain_delay(self) -> float:
        """``drain_delay_seconds`` with auto decided."""
        if self.drain_delay_seconds is not None:
            return self.drain_delay_seconds
        return 0.0 if self.loopback else 10.0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
