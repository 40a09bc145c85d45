"""The metrics pages: their own port, their own threads."""

from __future__ import annotations

import logging
import socket
import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from jitney.telemetry.metrics import Metrics
    from jitney.telemetry.triton_page import TritonPage

__all__ = ["TRITON_PATH", "MetricsPage"]

log = logging.getLogger(__name__)

TRITON_PATH: Final = "/metrics/triton"


class MetricsPage:
    """Serves ``/metrics``, and ``/metrics/triton`` under other names, over HTTP.

    Each request has a thread, so that a slow scraper delays nobody.

    :raises OSError: when the address cannot be bound.
    """

    def __init__(self, metrics: Metrics, triton: TritonPage, host: str, port: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        self._ours = make_wsgi_app(registry)
        self._triton = triton
        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, self._answer, kind, _Silent)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.port: int = self._server.server_port

    def _answer(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment.get("PATH_INFO") != TRITON_PATH:
            answer: Iterable[bytes] = self._ours(environment, start)
            return answer
        try:
            page = self._triton.render().encode()
        except Exception:
            log.exception("the page %s could not be made", TRITON_PATH)
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"internal error; the server's log has the details\n"]
        start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [page]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name there
        """Write no line for every scrape."""
