from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from calls import add_sub, error_of, tensors
from public_models import write_public_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from live_server import LiveServer


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client: triton.InferenceServerClient, algorithm: str) -> None:
    """Requests may be compressed."""
    result = client.infer("simple", add_sub(8), compression_algorithm=algorithm)
    assert (8, 16) == result.as_numpy("OUTPUT0").shape


def test_compressed_streams(server: LiveServer) -> None:
    """Streams as well."""
    from waiting import Stream  # noqa: PLC0415

    with Stream(server.address, compression_algorithm="gzip") as stream:
        stream.send("simple", add_sub())
        assert stream.reply().as_numpy("OUTPUT0") is not None


def test_large_tensors(client: triton.InferenceServerClient) -> None:
    """50 MiB go in and come out in one message."""
    values = np.arange(13 << 20, dtype=np.float32)
    result = client.infer("large", tensors(INPUT0=values))
    np.testing.assert_array_equal(values, result.as_numpy("OUTPUT0"))


def test_keepalive_options(server: LiveServer) -> None:
    """The client's keepalive settings are tolerated."""
    options = triton.KeepAliveOptions(keepalive_time_ms=10_000, keepalive_permit_without_calls=True)
    with triton.InferenceServerClient(server.address, keepalive_options=options) as client:
        assert client.is_server_live()


def test_many_clients(server: LiveServer) -> None:
    """Twenty connections at once are served."""
    clients = [triton.InferenceServerClient(server.address) for _ in range(20)]
    try:
        shapes = {c.infer("simple", add_sub()).as_numpy("OUTPUT0").shape for c in clients}
    finally:
        for one in clients:
            one.close()
    assert {(1, 16)} == shapes


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, a server's and a client's certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates, and is not here")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority"),
        *("-keyout", "ca.key", "-out", "ca.pem"),
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for who in ("server", "client"):
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={who}"),
            *("-keyout", f"{who}.key", "-out", f"{who}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{who}.pem"),
        )
    return folder


@pytest.mark.parametrize("mutual", [False, True], ids=["one side", "both sides"])
def test_tls(
    certificates: Path,
    tmp_path: Path,
    start: Callable[..., LiveServer],
    mutual: bool,  # noqa: FBT001
) -> None:
    """The public client connects over TLS, and with a certificate of its own where asked."""
    write_public_models(tmp_path / "models", ("simple_identity",))
    flags = [
        f"--tls-certificate={certificates / 'server.pem'}",
        f"--tls-key={certificates / 'server.key'}",
    ]
    options = {"root_certificates": str(certificates / "ca.pem")}
    if mutual:
        flags.append(f"--tls-client-ca={certificates / 'ca.pem'}")
        options |= {
            "private_key": str(certificates / "client.key"),
            "certificate_chain": str(certificates / "client.pem"),
        }
    live = start(tmp_path / "models", *flags)
    with triton.InferenceServerClient(live.address, ssl=True, **options) as client:
        assert client.is_model_ready("simple_identity")
    with triton.InferenceServerClient(live.address) as plain:
        assert "StatusCode.UNAVAILABLE" == error_of(plain.is_server_live)[0]
    if mutual:
        options = {"root_certificates": str(certificates / "ca.pem")}
        with triton.InferenceServerClient(live.address, ssl=True, **options) as unknown:
            assert "StatusCode.UNAVAILABLE" == error_of(unknown.is_server_live)[0]


@pytest.mark.parametrize(
    "order",
    [
        "import jitney_client, tritonclient.grpc",
        "import tritonclient.grpc, jitney_client",
        "import tritonclient.grpc.aio, jitney_client.protocol",
        "import jitney_client.protocol.inference, tritonclient.grpc.service_pb2",
    ],
)
def test_both_clients_in_one_process(order: str) -> None:
    """Our stubs live beside the public client's, whichever is imported first."""
    program = f"{order}\nprint(jitney_client.Client, tritonclient.grpc.InferenceServerClient)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_both_clients_talk_in_one_process(
    server: LiveServer, client: triton.InferenceServerClient
) -> None:
    """Both get the same answer from one server."""
    values = np.arange(16, dtype=np.int32)[None]
    ours = server.client.infer("simple", {"INPUT0": values, "INPUT1": values})
    theirs = client.infer("simple", tensors(INPUT0=values, INPUT1=values))
    np.testing.assert_array_equal(ours["OUTPUT0"], theirs.as_numpy("OUTPUT0"))
