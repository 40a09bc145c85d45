"""The metrics pages: their own port, their own threads."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from jitney.telemetry.page_server import PageServer, PageServer6

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from jitney.telemetry.metrics import Metrics
    from jitney.telemetry.triton_page import TritonPage

    Names = tuple[tuple[str, ...], tuple[str, ...]]
    MayRead = Callable[[str, Names], bool]

__all__ = ["TRITON_PATH", "MetricsPage"]

log = logging.getLogger(__name__)

TRITON_PATH: Final = "/metrics/triton"
NAMES: Final = "jitney.names"
"""Where the environment of a request has the names in its caller's certificate: the alternative
ones, and the common ones, which are kept apart as who signs may have looked at one kind only."""
NO_NAMES: Final[Names] = ((), ())
LONGEST_SHARE: Final = 0.2
"""Share of a core that making pages may take, however many are asked for: they are made by the
interpreter that serves requests as well."""


class MetricsPage:
    """Serves ``/metrics``, and ``/metrics/triton`` under other names, over HTTP.

    - Each request has a thread, so that a slow scraper delays nobody; ``PageServer`` bounds how
      many there are, and how long each may take.
    - Pages are made one at a time, and after each there is a pause of four times its duration: who
      asks too often waits. A page is always as new as its request: none is kept, because figures
      that are compared with each other have to be of one moment.
    """

    def __init__(
        self,
        metrics: Metrics,
        triton: TritonPage,
        host: str,
        port: int,
        *,
        context: Callable[[], ssl.SSLContext] | None = None,
        may_read: MayRead | None = None,
    ) -> None:
        """Serve.

        :param context: returns what the next connection is encrypted with; None for plain HTTP.
        :param may_read: tells, on any thread, whether a request is answered that came with this
            ``Authorization``, and with a certificate of these names. None for everybody's.
        :raises OSError: when the address cannot be bound.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        self._ours = make_wsgi_app(registry)
        self._triton = triton
        self._may_read = may_read
        self._making = threading.Lock()
        self._rest_until = 0.0
        kind = PageServer6 if ":" in host else PageServer
        self._server = kind((host, port), _Handler, context)
        self._server.set_app(self._answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )
        self._thread.start()
        self.port: int = self._server.server_port

    def _answer(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment.get("REQUEST_METHOD") != "GET":
            return _text(start, "405 Method Not Allowed", [("Allow", "GET")])
        authorization = environment.get("HTTP_AUTHORIZATION", "")
        names = environment.get(NAMES, NO_NAMES)
        if self._may_read is not None and not self._may_read(authorization, names):
            return _text(start, "401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        with self._making:
            if (rest := self._rest_until - time.monotonic()) > 0:
                time.sleep(rest)
            began = time.monotonic()
            try:
                return list(self._page(environment, start))
            finally:
                ended = time.monotonic()
                self._rest_until = ended + (ended - began) * (1 / LONGEST_SHARE - 1)

    def _page(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment.get("PATH_INFO") != TRITON_PATH:
            answer: Iterable[bytes] = self._ours(environment, start)
            return answer
        try:
            page = self._triton.render().encode()
        except Exception:
            log.exception("the page %s could not be made", TRITON_PATH)
            text = "500 Internal Server Error"
            return _text(start, text, [], b"internal error; the server's log has the details\n")
        start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [page]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _text(
    start: StartResponse, status: str, headers: list[tuple[str, str]], text: bytes = b""
) -> list[bytes]:
    start(status, [("Content-Type", "text/plain"), *headers])
    return [text or f"{status[4:]}\n".encode()]


class _Handler(WSGIRequestHandler):
    server: PageServer

    def get_environ(self) -> WSGIEnvironment:
        """Add who the caller is, where its certificate says so."""
        return {**super().get_environ(), NAMES: names_in(self.connection)}

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name there
        """Write no line for every scrape."""


def names_in(connection: socket.socket) -> Names:
    """Return the names in the certificate of who is at the other end; none without one."""
    certificate: Any = getattr(connection, "getpeercert", dict)() or {}
    parts = [pair for part in certificate.get("subject", ()) for pair in part]
    return (
        tuple(value for _, value in certificate.get("subjectAltName", ())),
        tuple(value for key, value in parts if key == "commonName"),
    )
