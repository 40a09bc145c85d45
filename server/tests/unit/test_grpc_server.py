"""What the gRPC server lets in: encrypted and compressed calls."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from certificates import Pair, make_ca, make_pair
from grpc_health.v1 import health

from jitney.config import LimitSettings, ServerSettings
from jitney.errors import ConfigError
from jitney.transport.server import GrpcServer, channel_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LIMIT = 1 << 20
"""Bytes of a message."""
METHOD = "/test.Test/Size"
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class FakeServicer:
    """Serves one method, which answers with the number of bytes that came."""

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return its handler."""
        handler = grpc.unary_unary_rpc_method_handler(self.size)
        return [grpc.method_handlers_generic_handler("test.Test", {"Size": handler})]

    async def size(self, message: bytes, _: object) -> bytes:
        """Return how long the message was."""
        return str(len(message)).encode()


class FakeHealth:
    """Something with a health servicer."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()


@asynccontextmanager
async def serving(limits: LimitSettings | None = None, **settings: Any) -> AsyncIterator[int]:
    """Serve for the length of a block; give the port."""
    server = GrpcServer(
        cast("Any", FakeServicer()),
        cast("Any", FakeHealth()),
        ServerSettings(grpc_port=0, **settings),
        limits or LimitSettings(),
        LIMIT,
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


@NEEDS_OPENSSL
def test_a_server_with_a_certificate_takes_encrypted_calls_only(server: Pair, ca: Pair) -> None:
    """Who trusts its CA is answered; who does not encrypt is not."""

    async def run() -> bytes:
        async with serving(**tls(server)) as port:
            with pytest.raises(grpc.aio.AioRpcError):
                await call(grpc.aio.insecure_channel(f"localhost:{port}"), 3)
            return await call(secure(port, ca), 3)

    assert b"3" == asyncio.run(run())


@NEEDS_OPENSSL
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


@NEEDS_OPENSSL
def test_files_that_cannot_be_used_are_named_by_their_setting(
    folder: Path, server: Pair, ca: Pair
) -> None:
    """Before the port is open; the texts have nothing of what is in the files."""
    missing, secret = folder / "missing", folder / "secret"
    secret.write_text("-----BEGIN PRIVATE KEY-----\nhush\n", encoding="utf-8")

    def refusal(**settings: object) -> str:
        async def run() -> None:
            async with serving(**tls(server, **settings)):
                pass

        with pytest.raises(ConfigError) as caught:
            asyncio.run(run())
        return str(caught.value)

    both = (
        "server.tls_certificate, server.tls_key: expected a certificate and its private key, both "
        "in PEM form, the key without a password"
    )
    nowhere = "No such file or directory"
    assert [
        f"server.tls_certificate: cannot read '{missing}': {nowhere}",
        f"server.tls_key: cannot read '{missing}': {nowhere}",
        f"server.tls_client_ca: cannot read '{missing}': {nowhere}",
        "server.tls_key: this is not the key of the certificate in server.tls_certificate",
        both,
        both,
        "server.tls_client_ca: expected certificates in PEM form",
    ] == [
        refusal(tls_certificate=missing),
        refusal(tls_key=missing),
        refusal(tls_client_ca=missing),
        refusal(tls_key=ca.key),
        refusal(tls_key=secret),
        refusal(tls_certificate=secret),
        refusal(tls_client_ca=secret),
    ]


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


def test_an_encrypted_server_may_listen_anywhere() -> None:
    """Nobody has to say --insecure for what is secure."""
    settings = ServerSettings(host="0.0.0.0", tls_certificate="c", tls_key="k")

    assert settings.tls
