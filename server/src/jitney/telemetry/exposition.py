"""The metrics page: its own port, its own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

if TYPE_CHECKING:
    from jitney.telemetry.metrics import Metrics

__all__ = ["MetricsPage"]


class MetricsPage:
    """Serves ``/metrics`` over HTTP on its own thread, so that a slow scraper delays nobody.

    :raises OSError: when the address cannot be bound.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        self._server, self._thread = start_http_server(port, host, registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
