"""How a server is configured: the tree of settings, and where their values come from."""

from __future__ import annotations

from jitney.config.flags import add_flags, flag_values
from jitney.config.settings import (
    BatchingSettings,
    DeviceSettings,
    LimitSettings,
    RepositorySettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)
from jitney.config.sources import load_settings

__all__ = [
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
