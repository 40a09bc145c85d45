"""The tree of settings: every knob of the server, its default, its bounds and its help text.

It is the one list: flags, environment variables, keys of the settings file and ``--help`` are all
derived from it (``config.sources``). Bounds of a single value are data here and are checked where
the value is read, because only there is it known whether a flag, a variable or a file is to blame;
what several values must satisfy together is checked when a section is made, by whomever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from jitney.config.access import AccessSettings
from jitney.config.batching import BatchingSettings
from jitney.config.devices import DeviceSettings
from jitney.config.limits import MAX_WIRE_MESSAGE, LimitSettings
from jitney.config.repository import RepositorySettings
from jitney.config.server import ServerSettings
from jitney.config.telemetry import TelemetrySettings
from jitney.errors import ConfigError

__all__ = ["Settings"]

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole tree; a component is given its own section of it and never the whole."""

    server: ServerSettings = field(default_factory=ServerSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    batching: BatchingSettings = field(default_factory=BatchingSettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)

    def __post_init__(self) -> None:
        """Check what settings of several sections must satisfy together.

        :raises ConfigError: when they do not.
        """
        if self.limits.tenant_from == "principal" and not self.access.on:
            msg = "limits.tenant_from: callers have no names unless --tokens-file says who they are"
            raise ConfigError(msg)
        server = self.server
        reachable = server.reachable_address
        if reachable is None or server.insecure:
            return
        missing = []
        if not server.tls:
            missing.append("connections are not encrypted (--tls-certificate, --tls-key)")
        if not self.access.on and not server.tls_client_ca:
            missing.append("nobody is asked who they are (--tokens-file, or --tls-client-ca)")
        if missing:
            msg = (
                f"{reachable[0]}: {reachable[1]!r} can be reached from other machines, and "
                f"{', and '.join(missing)}; give these, say --insecure (server.insecure = true) to "
                "accept that, or listen on 127.0.0.1"
            )
            raise ConfigError(msg)

    @property
    def max_message_bytes(self) -> int:
        """The largest message to receive, in bytes.

        Where nobody said, one whole slot and 1 MiB for names, shapes and headers: a larger
        message could not be run, except in parts.
        """
        if self.limits.max_message_bytes:
            return self.limits.max_message_bytes
        return min(self.devices.slot_bytes + MIB, MAX_WIRE_MESSAGE)
