"""Whatever speaks to the metrics page, it takes little and keeps nobody out."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Pair, make_ca, make_pair
from test_triton_page import Known

from jitney.audit import NO_AUDIT
from jitney.config import ServerSettings
from jitney.telemetry import page_server
from jitney.telemetry.exposition import MetricsPage
from jitney.telemetry.memory import own_bytes
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.page_server import MOST_CONNECTIONS
from jitney.telemetry.triton_page import TritonPage
from jitney.transport.tls import CertificateWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def serve() -> Iterator[Callable[..., MetricsPage]]:
    """Serve pages that are closed with the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> MetricsPage:
            metrics = Metrics()
            page = MetricsPage(metrics, TritonPage(metrics, Known()), "127.0.0.1", 0, **options)
            stack.callback(page.close)
            return page

        yield start


def read(page: MetricsPage, **headers: str) -> int:
    """Read the page; return the status."""
    request = urllib.request.Request(f"http://127.0.0.1:{page.port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310  # it is http
            assert b"jitney_" in reply.read()
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def connect(page: MetricsPage) -> socket.socket:
    """Connect, and say nothing yet."""
    return socket.create_connection(("127.0.0.1", page.port), timeout=20)


# -- who keeps it busy ----------------------------------------------------------------------------


def test_callers_who_say_nothing_keep_nobody_out(serve: Callable[..., MetricsPage]) -> None:
    """However many they are; the oldest are dropped."""
    page = serve()
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(page)) for _ in range(5 * MOST_CONNECTIONS)]
        assert 200 == read(page)
        assert b"" == silent[0].recv(1)
        names = [thread.name for thread in threading.enumerate()]
        assert sum("process_request_thread" in name for name in names) <= MOST_CONNECTIONS + 5


def test_a_slow_request_has_its_time(
    serve: Callable[..., MetricsPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it together: a byte now and then does not make it longer."""
    monkeypatch.setattr(page_server, "LONGEST", 0.3)
    page = serve()
    with connect(page) as slow:
        slow.settimeout(0.02)
        sent, ended = 0, False
        for byte in b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
            try:
                slow.sendall(bytes((byte,)))
                sent += 1
                ended = not slow.recv(1)
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
        assert ended
        assert sent < 100
    assert 200 == read(page)


@pytest.mark.parametrize(
    "begin",
    [b"GET /metrics HTTP/1.1\r\nX-Long: ", b"GET /", b"GET /metrics HTTP/1.1\r\n", b""],
    ids=["header", "path", "headers", "line"],
)
def test_endless_requests_end(serve: Callable[..., MetricsPage], begin: bytes) -> None:
    """A header, a path or a number of headers without an end take no memory."""
    page = serve()
    before = own_bytes()
    filler = b"X-Many: y\r\n" * 6000 if begin.endswith(b"\n") else b"x" * 65_536
    with connect(page) as endless:
        endless.settimeout(20)
        with contextlib.suppress(OSError):
            endless.sendall(begin)
            for _ in range(1000):  # 64 MB
                endless.sendall(filler)
    assert own_bytes() - before < 32 << 20
    assert 200 == read(page)


def test_a_body_is_not_read(serve: Callable[..., MetricsPage]) -> None:
    """A million chunks are answered before the first, and then the connection is closed."""
    page = serve()
    with connect(page) as chunky, contextlib.suppress(OSError):
        chunky.sendall(b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            chunky.sendall(b"1\r\nx\r\n" * 1000)
    assert 200 == read(page)


def test_who_does_not_read_the_answer_holds_up_nobody(serve: Callable[..., MetricsPage]) -> None:
    """Its thread waits, and others are served."""
    page = serve()
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            hung = stack.enter_context(connect(page))
            hung.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert 200 == read(page)


def test_only_reading_is_offered(serve: Callable[..., MetricsPage]) -> None:
    """Nothing else has a meaning here."""
    page = serve()
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    for method, status in (("POST", 405), ("HEAD", 405), ("GET", 200)):
        connection.request(method, "/metrics")
        reply = connection.getresponse()
        reply.read()
        assert status == reply.status
        connection.close()


# -- who may read ---------------------------------------------------------------------------------


def test_whoever_may_not_read_is_told(serve: Callable[..., MetricsPage]) -> None:
    """The page is for those whom the server lets."""
    page = serve(may_read=lambda authorization, _: authorization == "Bearer good")

    assert [401, 401, 200] == [
        read(page),
        read(page, Authorization="Bearer bad"),
        read(page, Authorization="Bearer good"),
    ]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pair, Pair, Pair]:
    """Return a folder, what signs, a server's certificate and a caller's."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = make_ca(folder, "ca")
    return folder, ca, make_pair(folder, "server", ca), make_pair(folder, "scraper", ca)


def open_with(page: MetricsPage, ca: Pair, own: Pair | None = None) -> int:
    """Read the page encrypted; return the status."""
    context = ssl.create_default_context(cafile=str(ca.certificate))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    url = f"https://localhost:{page.port}/metrics"
    with urllib.request.urlopen(url, timeout=20, context=context) as reply:
        reply.read()
        return int(reply.status)


def test_the_page_is_encrypted_like_calls(
    serve: Callable[..., MetricsPage], ca: tuple[Path, Pair, Pair, Pair]
) -> None:
    """Callers who have to show a certificate are known by its names; others hear nothing."""
    _, root, server, scraper = ca
    settings = ServerSettings(
        tls_certificate=str(server.certificate),
        tls_key=str(server.key),
        tls_client_ca=str(root.certificate),
    )
    known: list[tuple[tuple[str, ...], ...]] = []

    def may_read(_: str, names: tuple[tuple[str, ...], ...]) -> bool:
        known.append(names)
        return True

    page = serve(context=CertificateWatch(settings, NO_AUDIT).context, may_read=may_read)

    assert 200 == open_with(page, root, scraper)
    assert [(("localhost", "127.0.0.1"), ("scraper",))] == known
    for wrong in (lambda: open_with(page, root), lambda: read(page)):
        with pytest.raises((OSError, http.client.HTTPException)):
            wrong()
    assert 200 == open_with(page, root, scraper)


def test_a_handshake_that_never_ends_keeps_nobody_out(
    serve: Callable[..., MetricsPage], ca: tuple[Path, Pair, Pair, Pair]
) -> None:
    """Connections are dropped in the middle of it as anywhere else."""
    _, root, server, _ = ca
    settings = ServerSettings(tls_certificate=str(server.certificate), tls_key=str(server.key))
    page = serve(context=CertificateWatch(settings, NO_AUDIT).context)
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(page)) for _ in range(3 * MOST_CONNECTIONS)]
        assert 200 == open_with(page, root)
        assert b"" == silent[0].recv(1)
