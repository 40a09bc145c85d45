"""An HTTP server that nobody can keep busy: few connections, each for a short time."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

__all__ = ["PageServer", "PageServer6"]

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 16
"""Beyond them, the oldest is dropped: a scrape takes milliseconds, so that is no scrape."""
LONGEST: Final = 10.0
"""Seconds that a connection may take for all of its request and its reply."""


class PageServer(ThreadingMixIn, WSGIServer):
    """Answers each connection on a thread of its own, once.

    A connection has at most ``LONGEST`` seconds, whether it sends a byte a second or nothing, and
    there are at most ``MOST_CONNECTIONS``. What it sends is bounded by Python's own server: 64 KiB
    for a line, 100 lines; a body is not read. So slow, endless and hung callers cost a thread each
    for ten seconds, and keep nobody out.

    :raises OSError: when the address cannot be bound.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        """Bind; serve nothing yet.

        :param context: returns what the next connection is encrypted with; None for none.
        """
        self._context = context
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        """Connections, the oldest first, and when each has to be over."""
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, and look no name up: that may take seconds where there is no server for names."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # theirs
        """Begin a connection; drop the oldest if there are too many."""
        with self._lock:
            while len(self._open) >= MOST_CONNECTIONS:
                _end(next(iter(self._open)), self._open)
            self._open[request] = time.monotonic() + LONGEST
        request.settimeout(LONGEST)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there can be no more threads
            self.shutdown_request(request)
            log.warning("no thread for a scrape of the metrics page")

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # theirs
        """Encrypt, where that is wanted, and answer; on the connection's own thread."""
        if self._context is None:
            super().finish_request(request, client_address)
            return
        encrypted = self._context().wrap_socket(
            request, server_side=True, do_handshake_on_connect=False
        )
        with self._lock:
            # It takes the other one's place: that has lost its descriptor.
            self._open[encrypted] = self._open.pop(request, 0.0)
        try:
            with encrypted:
                encrypted.do_handshake()
                super().finish_request(encrypted, client_address)
                encrypted.unwrap()
        finally:
            with self._lock:
                self._open.pop(encrypted, None)

    def service_actions(self) -> None:
        """Drop connections that took too long; called a few times a second."""
        now = time.monotonic()
        with self._lock:
            for request, until in list(self._open.items()):
                if now > until:
                    _end(request, self._open)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  # theirs
        """End a connection that was answered, or that could not be."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Say nothing of callers who go away, or speak something else."""
        log.debug("a scrape of the metrics page failed", exc_info=sys.exception())


class PageServer6(PageServer):
    """The same, for IPv6."""

    address_family = socket.AF_INET6


def _end(connection: socket.socket, among: dict[socket.socket, float]) -> None:
    """End a connection whatever its thread is doing."""
    del among[connection]
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
