"""What the gRPC server lets in: encrypted and compressed calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from certificates import Pair, make_ca, make_pair

from jitney.audit import NO_AUDIT
from jitney.config import LimitSettings, ServerSettings
from jitney.errors import ConfigError
from jitney.telemetry.metrics import Metrics
from jitney.transport.arrivals import Arrivals
from jitney.transport.receiver import Receiver
from jitney.transport.server import GrpcServer, channel_options, health_options
from jitney.transport.status import Statuses
from jitney.transport.tls import CertificateWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LIMIT = 1 << 20
"""Bytes of a message."""
METHOD = "/test.Test/Size"


async def size(message: bytes, _: object) -> bytes:
    """Return how long a message is."""
    return str(len(message)).encode()


@asynccontextmanager
async def serving(
    limits: LimitSettings | None = None, *, behaviour: Any = size, **settings: Any
) -> AsyncIterator[int]:
    """Serve a method for the length of a block, as a server does; give the port."""
    limits = limits or LimitSettings()
    arrivals = Arrivals(timeout=600, free=15, most=1000)
    handler = grpc.unary_unary_rpc_method_handler(behaviour)
    handlers = grpc.method_handlers_generic_handler("test.Test", {"Size": handler})
    watch = CertificateWatch(ServerSettings(**settings), NO_AUDIT) if settings else None
    server = GrpcServer(
        [Receiver([handlers], arrivals, Statuses(), Metrics())],
        "127.0.0.1:0",
        channel_options(limits, LIMIT),
        flag="--grpc-port",
        max_calls=limits.concurrent_calls,
        credentials=watch.credentials() if watch else None,
    )
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop(0)


async def call(channel: grpc.aio.Channel, size: int, **options: Any) -> bytes:
    """Send zeros; return the answer."""
    async with channel:
        answer: bytes = await channel.unary_unary(METHOD)(bytes(size), timeout=20, **options)
        return answer


# -- compression ----------------------------------------------------------------------------------


def code_of_call(size: int, limits: LimitSettings | None = None, **options: Any) -> str:
    """Return the status with which a call of so many bytes ends."""

    async def run() -> str:
        async with serving(limits) as port:
            channel = grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)]
            )
            try:
                assert str(size).encode() == await call(channel, size, **options)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

    return asyncio.run(run())


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_request_is_inflated(algorithm: grpc.Compression) -> None:
    """Both algorithms of the protocol's clients work, up to the limit of what is inflated."""
    assert ("OK", "RESOURCE_EXHAUSTED") == (
        code_of_call(LIMIT, compression=algorithm),
        code_of_call(LIMIT + 1, compression=algorithm),
    )


def test_the_limit_holds_without_compression_as_well() -> None:
    """The same bytes end in the same way."""
    assert ("OK", "RESOURCE_EXHAUSTED") == (code_of_call(LIMIT), code_of_call(LIMIT + 1))


def test_compression_can_be_switched_off() -> None:
    """Then compressed requests are refused, and others are not."""
    off = LimitSettings(compression=False)

    assert ("UNIMPLEMENTED", "OK") == (
        code_of_call(1000, off, compression=grpc.Compression.Gzip),
        code_of_call(1000, off),
    )


def test_a_release_that_inflates_without_a_limit_is_not_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An old grpcio takes no compressed requests, whatever the setting says."""
    monkeypatch.setattr(grpc, "__version__", "1.84.9")

    options = dict(channel_options(LimitSettings(), LIMIT))

    assert 1 == options["grpc.compression_enabled_algorithms_bitset"]


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "code"), [(12_000, "OK"), (17_000, "RESOURCE_EXHAUSTED")])
def test_metadata_has_one_limit(size: int, code: str) -> None:
    """Below it they always pass, above it never: gRPC would draw lots between 8 and 16 KiB."""

    async def run() -> list[str]:
        codes = []
        async with (
            serving() as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            method = channel.unary_unary(METHOD)
            for _ in range(20):
                try:
                    await method(b"", metadata=(("x-long", "x" * size),), timeout=20)
                    codes.append("OK")
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code().name)
        return codes

    assert [code] * 20 == asyncio.run(run())


def test_no_more_calls_are_open_than_may_be() -> None:
    """The next one is refused at once, whatever connection it comes on."""

    async def run() -> list[str]:
        inside, leave = asyncio.Semaphore(0), asyncio.Event()

        async def held(_: bytes, __: object) -> bytes:
            inside.release()
            await leave.wait()
            return b""

        limits = LimitSettings(max_concurrent_calls=2)
        async with serving(limits, behaviour=held) as port:
            channels = [
                grpc.aio.insecure_channel(
                    f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]
                )
                for _ in range(3)
            ]
            methods = [channel.unary_unary(METHOD) for channel in channels]
            calls = [asyncio.ensure_future(_code(method)) for method in methods[:2]]
            for _ in calls:
                await inside.acquire()
            refused = await _code(methods[2])
            leave.set()
            codes = [refused, *(await asyncio.gather(*calls)), await _code(methods[2])]
            for channel in channels:
                await channel.close()
        return codes

    assert ["RESOURCE_EXHAUSTED", "OK", "OK", "OK"] == asyncio.run(run())


async def _code(method: Any) -> str:
    try:
        await method(b"", timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def test_the_listener_for_health_checks_takes_little_of_everything() -> None:
    """It is open to everybody, so its limits are those of what it is for."""
    options = dict(health_options(LimitSettings()))

    names = ("grpc.max_receive_message_length", "grpc.max_allowed_incoming_connections")
    assert [4096, 64] == [options[name] for name in names]
    assert set(dict(channel_options(LimitSettings(), LIMIT))) == set(options)


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where certificates are."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Pair:
    """Return what signed the server's certificate."""
    return make_ca(folder, "ca")


@pytest.fixture(scope="module")
def server(folder: Path, ca: Pair) -> Pair:
    """Return the server's certificate."""
    return make_pair(folder, "server", ca)


def tls(server: Pair, **settings: object) -> dict[str, str]:
    """Return the settings of a server with a certificate."""
    paths = {"tls_certificate": server.certificate, "tls_key": server.key, **settings}
    return {name: str(path) for name, path in paths.items()}


def secure(port: int, ca: Pair, client: Pair | None = None) -> grpc.aio.Channel:
    """Return a channel that trusts a CA, with a certificate of its own or none."""
    key, chain = (
        (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None,) * 2
    )
    credentials = grpc.ssl_channel_credentials(ca.certificate.read_bytes(), key, chain)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


def test_a_server_with_a_certificate_takes_encrypted_calls_only(server: Pair, ca: Pair) -> None:
    """Who trusts its CA is answered; who does not encrypt is not."""

    async def run() -> bytes:
        async with serving(**tls(server)) as port:
            with pytest.raises(grpc.aio.AioRpcError):
                await call(grpc.aio.insecure_channel(f"localhost:{port}"), 3)
            return await call(secure(port, ca), 3)

    assert b"3" == asyncio.run(run())


def test_callers_need_a_certificate_where_a_ca_for_them_is_given(
    folder: Path, server: Pair, ca: Pair
) -> None:
    """One that this CA signed; another one, or none, does not do."""
    own = make_ca(folder, "own")
    client, stranger = make_pair(folder, "client", own), make_pair(folder, "stranger", ca)

    async def run() -> bytes:
        async with serving(**tls(server, tls_client_ca=own.certificate)) as port:
            for pair in (None, stranger):
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(secure(port, ca, pair), 3)
            return await call(secure(port, ca, client), 3)

    assert b"3" == asyncio.run(run())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"tls_key": "k"}, "server.tls_certificate, server.tls_key: one needs the other"),
        ({"tls_certificate": "c"}, "server.tls_certificate, server.tls_key: one needs the other"),
        (
            {"tls_client_ca": "a"},
            "server.tls_client_ca: needs server.tls_certificate and server.tls_key",
        ),
    ],
)
def test_settings_of_tls_belong_together(settings: dict[str, str], text: str) -> None:
    """Half of them would be no encryption, or none that was meant."""
    with pytest.raises(ConfigError) as caught:
        ServerSettings(**settings)  # type: ignore[arg-type]  # texts, all of them

    assert text == str(caught.value)


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        (
            {"grpc_port": 1, "metrics_port": 1},
            "server.grpc_port and server.metrics_port: both are 1",
        ),
        ({"grpc_port": 1, "health_port": 1}, "server.grpc_port and server.health_port: both are 1"),
        (
            {"health_port": 1, "metrics_port": 1},
            "server.health_port and server.metrics_port: both are 1",
        ),
    ],
)
def test_ports_are_different(ports: dict[str, int], text: str) -> None:
    """Where they are on the same address; 0 and -1 are no ports."""
    with pytest.raises(ConfigError) as caught:
        ServerSettings(**ports)  # type: ignore[arg-type]  # numbers, all of them

    assert text == str(caught.value)
    ServerSettings(grpc_port=1, metrics_port=1, metrics_host="127.0.0.2")
    ServerSettings(grpc_port=0, metrics_port=0, health_port=0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"metrics_host": "0.0.0.0"}, ("server.metrics_host", "0.0.0.0")),
        ({"metrics_host": "0.0.0.0", "metrics_tls": False}, None),
        ({"metrics_host": "::1"}, None),
        ({"host": "0.0.0.0", "metrics_host": "127.0.0.1"}, ("server.host", "0.0.0.0")),
    ],
)
def test_a_page_that_others_reach_is_an_address_like_any_other(
    settings: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    """Unless somebody said that it shall not be encrypted."""
    assert expected == ServerSettings(**settings).reachable_address
