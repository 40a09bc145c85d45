"""The tree of settings: every knob of the server, its default, its bounds and its help text.

It is the one list: flags, environment variables, keys of the settings file and ``--help`` are all
derived from it (``config.sources``). Bounds of a single value are data here and are checked where
the value is read, because only there is it known whether a flag, a variable or a file is to blame;
what several values must satisfy together is checked when a section is made, by whomever.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jitney.errors import ConfigError

__all__ = [
    "BatchingSettings",
    "DeviceSettings",
    "LimitSettings",
    "RepositorySettings",
    "ServerSettings",
    "Setting",
    "Settings",
    "TelemetrySettings",
]

MIB: Final = 1 << 20
MAX_PORT: Final = 65535
MAX_WIRE_MESSAGE: Final = (1 << 31) - 1
"""The largest message that protobuf can read, in bytes."""
LONGEST_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Setting:
    """What is said about one setting beside its type and its default.

    ``low`` and ``high`` are inclusive bounds of a number. ``choices`` or ``pattern`` restrict a
    text; ``form`` describes the pattern to a person. ``is_file`` marks a text that is a path.
    """

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    form: str = ""
    is_file: bool = False


def _setting(default: object, help_: str, **bounds: Any) -> Any:  # noqa: ANN401  # as field() is
    return field(default=default, metadata={"setting": Setting(help_, **bounds)})


def _file(help_: str) -> Any:  # noqa: ANN401  # as field() is
    return _setting("", help_, pattern=r"[^\0]*", form="a file, or nothing", is_file=True)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server listens and how it ends."""

    host: str = _setting(
        "127.0.0.1",
        "address to listen on, for gRPC and metrics",
        pattern=r"[^\s/]+",
        form="an address such as 127.0.0.1",
    )
    grpc_port: int = _setting(
        8001, "port of the gRPC service; 0 takes a free one", low=0, high=MAX_PORT
    )
    metrics_port: int = _setting(
        8002, "port of the metrics page; 0 takes a free one", low=0, high=MAX_PORT
    )
    insecure: bool = _setting(
        default=False,
        help_="listen on an address that other machines reach, although there is no TLS",
    )
    tls_certificate: str = _file(
        "certificate of the server in PEM form, followed by those between it and its root; with "
        "tls_key, the gRPC port takes encrypted connections only",
    )
    tls_key: str = _file("private key of tls_certificate in PEM form")
    tls_client_ca: str = _file(
        "certificates in PEM form; only callers with one that these have signed may connect",
    )
    reflection: bool = _setting(
        default=True, help_="answer server reflection, which grpcurl and the like need"
    )
    triton_compat: bool = _setting(
        default=False,
        help_="answer with Triton's status codes where ours are others on purpose, and under its "
        "name, for programs that compare them",
    )
    forward_metadata: str = _setting(
        "",
        "regular expression; metadata of a call whose keys match it become parameters of its "
        "requests, which the built-in echo model shows. Empty: none do",
        pattern=r"[^\n]*",
        form="a regular expression such as x-trace-.*",
    )
    allow_client_shm: bool = _setting(
        default=False,
        help_="let callers on this machine pass tensors in POSIX shared memory. Whoever may call "
        "can then read and write, through the server, every object in it that the server's user "
        "may",
    )
    client_shm_prefix: str = _setting(
        "",
        "with allow_client_shm, what the names of these objects have to begin with; empty: "
        "anything that is not known to belong to others",
        pattern=r"[A-Za-z0-9_.-]{0,100}",
        form="the beginning of a name such as tensors_, or nothing",
    )
    drain_delay_seconds: float | None = _setting(
        None,
        "how long to keep accepting after a stop signal, while balancers notice; "
        "auto is 0 on a loopback address and 10 elsewhere",
        low=0,
        high=3600,
    )
    drain_timeout_seconds: float = _setting(
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


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What the server accepts at the same time, before it says that it is overloaded."""

    max_message_bytes: int = _setting(
        0,
        "largest message to receive, in bytes; 0 derives it from slot_bytes",
        low=0,
        high=MAX_WIRE_MESSAGE,
    )
    max_inflight_requests: int = _setting(
        8192, "requests accepted and not yet answered", low=1, high=1 << 24
    )
    max_inflight_bytes: int = _setting(
        2 << 30, "bytes of their tensors, all together", low=1, high=1 << 44
    )
    max_concurrent_streams: int = _setting(
        128, "calls open at once on one connection", low=1, high=(1 << 31) - 1
    )
    max_shm_regions: int = _setting(
        1024,
        "regions of shared memory registered at once; each holds a file descriptor",
        low=1,
        high=1 << 16,
    )
    max_shm_bytes: int = _setting(
        1 << 36, "bytes of these regions, all together", low=1, high=1 << 44
    )
    max_connections: int = _setting(2048, "connections open at once", low=1, high=1 << 20)
    compression: bool = _setting(
        default=True,
        help_="take compressed requests (gzip, deflate); max_message_bytes holds for what they "
        "inflate to. Replies are never compressed",
    )
    max_stream_requests: int = _setting(
        256,
        "requests of one stream whose replies were not all sent; beyond it, nothing more is read "
        "from the stream",
        low=1,
        high=1 << 20,
    )
    max_stream_bytes: int = _setting(
        256 * MIB,
        "bytes of replies that may wait to be read on one stream; near it nothing more is read, "
        "and where a decoupled model exceeds it, the stream ends",
        low=1,
        high=1 << 40,
    )
    tenant_metadata_key: str = _setting(
        "",
        "metadata key of a call that names its tenant, such as x-tenant; tenants share the server "
        "fairly. Callers can write what they like there, so let a proxy set it. Empty: no tenants",
        # What gRPC allows in a key, without those that are its own, or that hold bytes.
        pattern=r"(?!grpc-)[a-z0-9_.-]{0,128}(?<!-bin)",
        form="a metadata key in lower case such as x-tenant, or nothing",
    )
    tenant_weights: str = _setting(
        "",
        "shares of tenants, such as a=2,b=1; who is not listed has 1",
        pattern=r"([^=,\s]{1,128}=[0-9]{1,6}(\.[0-9]{1,6})?(,(?!$)|$)){0,1000}",
        form="tenants and their weights such as a=2,b=1",
    )
    max_tenant_share: float = _setting(
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


@dataclass(frozen=True, slots=True)
class BatchingSettings:
    """How models are batched that do not say it themselves in their model.toml."""

    max_batch_size: int = _setting(32, "rows of one batch, at most", low=1, high=1 << 16)
    max_queue_delay_ms: float = _setting(
        0.0,
        "how long the oldest request may wait for company while a device is free, in milliseconds",
        low=0,
        high=60_000,
    )
    max_queue_size: int = _setting(
        4096, "rows that may wait, per model version", low=1, high=1 << 24
    )
    default_slo_ms: float = _setting(
        0.0,
        "deadline of requests that bring none, in milliseconds from their arrival; it ends them as "
        "their caller's own would. 0: they have none",
        low=0,
        high=LONGEST_MS,
    )
    default_timeout_ms: float = _setting(
        0.0,
        "how long a request may wait for its batch to start, in milliseconds; its own timeout can "
        "only shorten it. 0: as long as its deadline allows",
        low=0,
        high=LONGEST_MS,
    )
    default_priority: int = _setting(
        2, "priority of requests that bring none; 1 is the highest", low=1, high=3
    )
    mode: str = _setting(
        "latency",
        "latency gives a free device what there is; efficiency lets batches grow for as long as "
        "deadlines allow, which frees devices",
        choices=("latency", "efficiency"),
    )
    split_large_requests: bool = _setting(
        default=True,
        help_="serve requests larger than a batch in parts, where the model can be batched",
    )
    max_overhead_ratio: float = _setting(
        0.15,
        "share of the host's time that the fixed cost of batches may take: under load, small "
        "batches wait up to 2 ms for company; 1 lets every batch leave at the first chance",
        low=0.01,
        high=1,
    )


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What models run on, and the workers that drive it."""

    device: str = _setting(
        "auto",
        "auto (every CUDA device, else the CPU), cpu, cuda (every CUDA device), "
        "or a list such as cuda:0,cuda:1",
        pattern=r"auto|cpu|cuda|cuda:(0|[1-9][0-9]{0,2})(,cuda:(0|[1-9][0-9]{0,2}))*",
        form="auto, cpu, cuda, or a list such as cuda:0,cuda:1",
    )
    cpu_threads: int = _setting(
        0, "threads of the CPU worker; 0 shares all cores between the workers", low=0, high=4096
    )
    slots: int = _setting(
        3,
        "batch buffers of each worker: one runs, one is staged, one is being answered",
        low=3,
        high=16,
    )
    slot_bytes: int = _setting(
        64 * MIB,
        "size of one batch buffer, in bytes, for inputs and again for outputs",
        low=4096,
        high=1 << 34,
    )
    poll_microseconds: int = _setting(
        0,
        "how long a worker looks for its next batch before it sleeps; takes up to a core per "
        "worker, and saves a lone caller a tenth of a millisecond",
        low=0,
        high=100_000,
    )
    start_timeout_seconds: float = _setting(
        120.0, "how long a worker may take to start", low=0.1, high=3600
    )
    load_timeout_seconds: float = _setting(
        600.0, "how long one model may take to load", low=0.1, high=36_000
    )
    batch_timeout_seconds: float = _setting(
        60.0, "how long one batch may run before its worker is replaced", low=0.1, high=3600
    )
    max_restarts: int = _setting(
        5, "restarts of one worker within a minute before it is given up", low=0, high=1000
    )

    def __post_init__(self) -> None:
        """Check that no device is listed twice.

        :raises ConfigError: when one is.
        """
        names = self.device.split(",")
        if len(set(names)) != len(names):
            msg = f"devices.device: {max(names, key=names.count)} is listed more than once"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where models are, and which of them are served."""

    model_repository: tuple[Path, ...] = _setting(
        (Path("models"),), "folder that holds one folder per model; may be repeated"
    )
    model_control_mode: str = _setting(
        "none",
        "none serves everything that is found at the start; poll looks again every "
        "repository_poll_seconds, and loads, reloads and unloads what changed; explicit serves "
        "what load_model names, and lets callers load and unload models",
        choices=("none", "poll", "explicit"),
    )
    load_model: str = _setting(
        "",
        "models to load at the start in the explicit mode, separated by commas; * for all",
        pattern=r"\*|[A-Za-z0-9_.,-]*",
        form="names of models, separated by commas, or *",
    )
    repository_poll_seconds: float = _setting(
        15.0, "how often the poll mode looks for changes", low=0.1, high=86_400
    )
    allow_model_uploads: bool = _setting(
        default=False,
        help_="in the explicit mode, accept model files over the network. They are programs: "
        "whoever may send them can run what they like in a worker",
    )
    max_upload_bytes: int = _setting(
        256 * MIB,
        "largest total of the files of one upload, in bytes; max_message_bytes limits it as well",
        low=1,
        high=MAX_WIRE_MESSAGE,
    )
    exit_on_error: bool = _setting(
        default=False, help_="end when a model fails to load at the start"
    )
    strict_readiness: bool = _setting(
        default=True, help_="the server is ready only when every model that should be served is"
    )

    def __post_init__(self) -> None:
        """Check that models are only named where that means something.

        :raises ConfigError: when it does not.
        """
        if self.load_model and self.model_control_mode != "explicit":
            msg = "repository.load_model: needs --model-control-mode explicit"
            raise ConfigError(msg)
        if self.allow_model_uploads and self.model_control_mode != "explicit":
            msg = "repository.allow_model_uploads: needs --model-control-mode explicit"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What the server tells about itself."""

    log_level: str = _setting(
        "info", "the least severe messages to log", choices=("debug", "info", "warning", "error")
    )
    metrics: bool = _setting(default=True, help_="serve the metrics page")
    trace_file: str = _file(
        "file to which traces are appended, a line of JSON each; without one they go to the log. "
        "The RPC TraceSetting says what is traced, at first nothing",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole tree; a component is given its own section of it and never the whole."""

    server: ServerSettings = field(default_factory=ServerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    batching: BatchingSettings = field(default_factory=BatchingSettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)

    @property
    def max_message_bytes(self) -> int:
        """The largest message to receive, in bytes.

        Where nobody said, one whole slot and 1 MiB for names, shapes and headers: a larger
        message could not be run, except in parts.
        """
        if self.limits.max_message_bytes:
            return self.limits.max_message_bytes
        return min(self.devices.slot_bytes + MIB, MAX_WIRE_MESSAGE)
