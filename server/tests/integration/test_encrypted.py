"""A live server whose certificate is exchanged again and again."""

from __future__ import annotations

import os
import ssl
import threading
import urllib.request
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from certificates import Pair, make_ca, make_pair
from grpc_health.v1 import health_pb2, health_pb2_grpc
from live_server import CALL_TIMEOUT, LiveServer, infer_request, wait_until
from raw_caller import INFER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW = infer_request("same_fp32", x=np.ones((1, 4), np.float32)).SerializeToString()


class Encrypted:
    """A server that asks for certificates, its files, and callers with one."""

    def __init__(self, folder: Path, few: Path, start: Callable[..., LiveServer]) -> None:
        self.ca = make_ca(folder, "ca")
        self.pairs = [make_pair(folder, name, self.ca) for name in ("one", "two")]
        self.caller = make_pair(folder, "caller", self.ca)
        self.files = Pair(folder / "server.pem", folder / "server.key")
        self.put(self.pairs[0])
        self.live = start(
            few,
            f"--tls-certificate={self.files.certificate}",
            f"--tls-key={self.files.key}",
            f"--tls-client-ca={self.ca.certificate}",
            "--health-port=0",
            "--log-format=text",
        )

    def put(self, pair: Pair) -> None:
        """Exchange the files, each in one step."""
        for source, target in zip(pair, self.files, strict=True):
            new = target.with_suffix(".new")
            new.write_bytes(source.read_bytes())
            new.rename(target)

    def page(self, name: str) -> float:
        """Return a figure of the metrics page, read with the caller's certificate."""
        context = ssl.create_default_context(cafile=str(self.ca.certificate))
        context.load_cert_chain(self.caller.certificate, self.caller.key)
        with urllib.request.urlopen(  # noqa: S310  # it is https
            self.live.metrics_url, timeout=CALL_TIMEOUT, context=context
        ) as reply:
            for line in reply.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        return 0.0

    def call(self) -> None:
        """Make a call on a connection of its own."""
        credentials = grpc.ssl_channel_credentials(
            self.ca.certificate.read_bytes(),
            self.caller.key.read_bytes(),
            self.caller.certificate.read_bytes(),
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self.live.address, credentials, options) as channel:
            channel.unary_unary(INFER)(ROW, timeout=CALL_TIMEOUT)


@pytest.fixture
def encrypted(tmp_path: Path, few: Path, start: Callable[..., LiveServer]) -> Encrypted:
    """Return a server with TLS on every port that may have it."""
    folder = tmp_path / "tls"
    folder.mkdir()
    return Encrypted(folder, few, start)


def test_certificates_are_exchanged_under_load(encrypted: Encrypted) -> None:
    """No call fails, whether the new files are right or not; metrics and the log say which."""
    live, stop, failures = encrypted.live, threading.Event(), []
    assert live.metrics_url.startswith("https://")

    def caller() -> None:
        while not stop.is_set():
            try:
                encrypted.call()
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=caller) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in (1, 0):
            encrypted.put(encrypted.pairs[number])
            expected = 2 - number
            wait_until(
                lambda expected=expected: (  # type: ignore[misc]  # bound
                    encrypted.page('jitney_tls_rotations_total{outcome="taken"}') == expected
                ),
                "a new certificate is taken up",
            )
        encrypted.files.key.write_bytes(b"rubbish")
        os.utime(encrypted.files.key)
        wait_until(lambda: encrypted.page("jitney_tls_files_broken") == 1, "the fault is seen")
        encrypted.call()
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert [] == failures
    assert "the last good one stays: server.tls_key" in live.log.read_text()


def test_health_is_open_where_calls_need_a_certificate(encrypted: Encrypted) -> None:
    """Probes have none; nobody else gets in without."""
    (line,) = [line for line in encrypted.live.lines if line.startswith("health ")]
    with grpc.insecure_channel(line.split()[1]) as channel:
        request = health_pb2.HealthCheckRequest(service="readiness")
        reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=CALL_TIMEOUT)
    assert health_pb2.HealthCheckResponse.SERVING == reply.status
    credentials = grpc.ssl_channel_credentials(encrypted.ca.certificate.read_bytes())
    with (
        grpc.secure_channel(encrypted.live.address, credentials) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(INFER)(ROW, timeout=CALL_TIMEOUT)
    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
