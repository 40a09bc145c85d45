"""What the server tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jitney.config.setting import file_setting, setting

__all__ = ["TelemetrySettings"]

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What the server tells about itself."""

    log_level: str = setting(
        "info", "the least severe messages to log", choices=("debug", "info", "warning", "error")
    )
    log_format: str = setting(
        "auto",
        "how: a JSON object per line, or text; auto is text on a terminal and JSON elsewhere",
        choices=("auto", "text", "json"),
    )
    log_rate: int = setting(
        20,
        "records per second that each line of the program may log, further ones are counted; 0 for "
        "any number",
        low=0,
        high=1_000_000,
    )
    metrics: bool = setting(default=True, help_="serve the metrics page")
    trace_file: str = file_setting(
        "file to which traces are appended, a line of JSON each; without one they go to the log. "
        "The RPC TraceSetting says what is traced, at first nothing",
    )
    otlp_endpoint: str = setting(
        "",
        "where spans are sent, by OTLP over gRPC, such as http://localhost:4317 (https for TLS); "
        "none are made without. Needs the extra otel",
        pattern=r"|https?://[^\s/@]+(:[0-9]{1,5})?/?",
        form="an address such as http://localhost:4317, or nothing",
    )
    trace_sample_ratio: float = setting(
        0.01, "share of the calls without a traceparent that spans are made of", low=0, high=1
    )
    trace_follow_callers: bool = setting(
        default=True,
        help_="whether a caller's traceparent says if spans are made; otherwise the share does, of "
        "all calls",
    )
    audit_file: str = file_setting(
        "file of the audit log: loads, unloads, changed settings, refused callers, certificates, "
        "as lines of JSON of which each holds the hash of the one before; none is kept without",
    )
    audit_max_bytes: int = setting(
        256 * MIB,
        "size in bytes at which the audit log is put aside and the next file begun",
        low=4096,
        high=1 << 50,
    )
    audit_sync: bool = setting(
        default=True,
        help_="write every record of the audit log through to the disk, some milliseconds after "
        "what it is about; otherwise a machine that loses power loses the last of them",
    )
    audit_anchor_seconds: float = setting(
        3600.0,
        "how often the number and the hash of the last record of the audit log go to the "
        "server's own log, while there are new ones; 0 only when the server ends",
        low=0,
        high=864_000,
    )
