"""What the server tells about itself."""

from __future__ import annotations

from dataclasses import dataclass

from jitney.config.setting import file_setting, setting

__all__ = ["TelemetrySettings"]


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What the server tells about itself."""

    log_level: str = setting(
        "info", "the least severe messages to log", choices=("debug", "info", "warning", "error")
    )
    metrics: bool = setting(default=True, help_="serve the metrics page")
    trace_file: str = file_setting(
        "file to which traces are appended, a line of JSON each; without one they go to the log. "
        "The RPC TraceSetting says what is traced, at first nothing",
    )
