"""Tracing as the settings have it: from the event loop's notes to the collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jitney.errors import ConfigError
from jitney.telemetry.spans import Spans

if TYPE_CHECKING:
    from jitney.clock import Clock
    from jitney.config import TelemetrySettings
    from jitney.telemetry.metrics import Metrics
    from jitney.telemetry.span_export import SpanSender

__all__ = ["Tracing", "open_spans"]


class Tracing(NamedTuple):
    """Where calls and batches are noted, and who sends it."""

    spans: Spans
    sender: SpanSender


def open_spans(
    telemetry: TelemetrySettings, clock: Clock, metrics: Metrics, version: str
) -> Tracing | None:
    """Begin to note batches, and return where to note calls; None where nobody collects spans.

    :param version: of the server.
    :raises ConfigError: when the extra is not installed.
    """
    if not telemetry.otlp_endpoint:
        return None
    try:
        from jitney.telemetry import span_export, span_maker  # noqa: PLC0415  # 0.3 s, and an extra
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jitney"):
            raise
        msg = f"telemetry.otlp_endpoint: {error.name} is missing: pip install 'jitney[otel]'"
        raise ConfigError(msg) from None
    exporter = span_export.open_exporter(telemetry.otlp_endpoint)
    maker = span_maker.SpanMaker(span_maker.resource(version))
    sender = span_export.SpanSender(exporter, maker)
    spans = Spans(
        clock,
        telemetry.trace_sample_ratio,
        sender.put,
        follow_callers=telemetry.trace_follow_callers,
    )
    metrics.watcher = spans
    metrics.add_reading(sender.reading())
    return Tracing(spans, sender)
