"""How the commands reach a server that encrypts, and what they say when they do not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import grpc
import pytest
from certificates import Pair, make_ca, make_pair
from test_cli import NOBODY, FakeServer

from jitney.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Encrypted(NamedTuple):
    """Where a server with TLS is, where it asks for certificates, and what there is to trust."""

    address: str
    mutual: str
    ca: Pair
    other: Pair
    client: Pair


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Start a server with TLS on two ports; at the second one callers need a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    ca, other = make_ca(folder, "ca"), make_ca(folder, "other")
    pair, client = make_pair(folder, "server", ca), make_pair(folder, "client", ca)
    chain = [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((FakeServer(),))
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(chain))
        mutual = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials(
                chain, ca.certificate.read_bytes(), require_client_auth=True
            ),
        )
        server.start()
        yield Encrypted(f"127.0.0.1:{port}", f"127.0.0.1:{mutual}", ca, other, client)
        server.stop(None).wait()


def test_a_server_that_encrypts_is_reached(
    encrypted: Encrypted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whom to trust is said by a flag, and the call is like any other."""
    argv = ["status", "--address", encrypted.address, "--tls-ca", str(encrypted.ca.certificate)]
    assert main(argv) == 0
    assert f"jitney 1.2 at {encrypted.address}" in capsys.readouterr().out


def test_a_certificate_is_shown_to_a_server_that_asks_for_it(
    encrypted: Encrypted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Certificate and key come from files, for every command that calls."""
    argv = ["infer", "echo", "--input", "x=[[1, 2]]", "--address", encrypted.mutual]
    argv += ["--tls-ca", str(encrypted.ca.certificate)]
    argv += ["--tls-certificate", str(encrypted.client.certificate)]
    assert main([*argv, "--tls-key", str(encrypted.client.key)]) == 0
    assert "x: float32 [1, 2]" in capsys.readouterr().out


def test_whoever_reaches_nobody_is_told_which_flag_to_look_at(
    encrypted: Encrypted, capsys: pytest.CaptureFixture[str]
) -> None:
    """A handshake fails for few reasons, and gRPC names none of them in words of ours."""
    ca, other = str(encrypted.ca.certificate), str(encrypted.other.certificate)
    for address, flags, expected in (
        (encrypted.address, [], "it may encrypt; see --tls-ca"),
        (encrypted.address, ["--tls"], "was signed by nobody whom you trust; see --tls-ca"),
        (encrypted.address, ["--tls-ca", other], "was signed by nobody whom you trust"),
        (NOBODY, ["--tls-ca", ca], "no server answers at 127.0.0.1:1; start one with: jitney"),
    ):
        assert main(["status", "--address", address, *flags]) == 1
        assert expected in capsys.readouterr().err


def test_a_server_that_does_not_encrypt_is_told_apart(
    encrypted: Encrypted, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flags are then the mistake."""
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        argv = ["status", "--address", f"127.0.0.1:{port}"]
        code = main([*argv, "--tls-ca", str(encrypted.ca.certificate)])
        server.stop(None).wait()
    assert code == 1
    assert "it does not encrypt; leave the --tls flags out" in capsys.readouterr().err


def test_files_that_cannot_be_used_are_named(
    encrypted: Encrypted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are looked at before anybody is called; gRPC would take them, and fail later."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    certificate, key = str(encrypted.client.certificate), str(encrypted.other.key)
    for flags, expected in (
        (["--tls-ca", "none.pem"], "--tls-ca: cannot read 'none.pem': No such file"),
        (["--tls-ca", str(empty)], "holds no certificates in PEM form"),
        (["--tls-certificate", certificate], "belong together; give both or neither"),
        (["--tls-certificate", certificate, "--tls-key", key], "and its private key, both in PEM"),
    ):
        assert main(["status", "--address", NOBODY, *flags]) == 2  # usage
        assert expected in capsys.readouterr().err
