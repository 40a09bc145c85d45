"""How a server is configured: the tree of settings, and where their values come from."""

from __future__ import annotations

from jitney.config.access import AccessSettings
from jitney.config.batching import BatchingSettings
from jitney.config.devices import DeviceSettings
from jitney.config.flags import add_flags, flag_values
from jitney.config.limits import LimitSettings
from jitney.config.repository import RepositorySettings
from jitney.config.server import ServerSettings
from jitney.config.settings import Settings
from jitney.config.sources import load_settings
from jitney.config.telemetry import TelemetrySettings

__all__ = [
    "AccessSettings",
    "BatchingSettings",
    "DeviceSettings",
    "LimitSettings",
    "RepositorySettings",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "add_flags",
    "flag_values",
    "load_settings",
]
