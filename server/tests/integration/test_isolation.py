"""What each process has and has not, and what callers can and cannot fill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest
from live_server import LiveServer, infer_request, wait_until

from jitney_client import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Start = Callable[..., LiveServer]
    Busy = Callable[[LiveServer], AbstractContextManager[None]]

ROW = np.ones((1, 4), np.float32)


def test_torch_is_in_the_worker_only(server: LiveServer) -> None:
    """The process that holds the sockets never loads torch; its workers do."""
    (worker,) = server.workers()
    loaded = [
        "libtorch" in Path(f"/proc/{pid}/maps").read_text(errors="replace")
        for pid in (server.pid, worker)
    ]
    assert [False, True] == loaded


def test_workers_inherit_no_secrets(
    start: Start, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the server's environment stays there, but for a few names."""
    monkeypatch.setenv("DATABASE_PASSWORD", "swordfish")
    server = start(few)
    (worker,) = server.workers()
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in (server.pid, worker)]
    assert [True, False] == [b"swordfish" in environment for environment in environments]


def test_workers_hold_no_socket_of_the_server(server: LiveServer) -> None:
    """A worker has its channel and nothing that listens or is connected to callers."""
    (worker,) = server.workers()
    assert [] == psutil.Process(worker).net_connections("inet")


def test_what_models_print_stays_off_stdout(server: LiveServer) -> None:
    """The server's stdout is for its operator: it ends with the banner."""
    assert server.lines[-1].startswith("stop ")


def test_labels_never_come_from_the_wire(server: LiveServer) -> None:
    """Names that callers make up do not become time series."""
    for number in range(20):
        request = infer_request(f"made up {number}", x=ROW)
        with pytest.raises(grpc.RpcError):
            server.call("ModelInfer", request)
    known = {m.name for m in server.client.models()} | {"_unknown"}
    assert (
        set() == {labels["model"] for _, labels, _ in server.samples() if "model" in labels} - known
    )
    assert server.metric("jitney_requests_total", model="_unknown", code="NOT_FOUND") >= 20


# -- limits ---------------------------------------------------------------------------------------


def test_more_than_the_server_takes_is_refused(start: Start, few: Path, busy: Busy) -> None:
    """At the limit of requests in flight, the next is RESOURCE_EXHAUSTED, with a pushback."""
    server = start(few, "--max-inflight-requests=2", "--max-inflight-bytes=40")
    with busy(server):
        too_large = ask_rows(server, 2)
        too_large.exception()
        second = ask_rows(server, 1)
        wait_until(lambda: server.in_flight()[0] == 2, "two are in flight")
        with pytest.raises(Overloaded, match="2 requests are in flight") as caught:
            server.client.infer("same_fp32", ROW)
    assert caught.value.retry_after is not None
    assert 1.0 == np.frombuffer(second.result().raw_output_contents[0], np.float32)[0]
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "BYTE_BUDGET") == (
        too_large.exception().code(),
        dict(too_large.exception().trailing_metadata())["jitney-reason"],
    )
    assert 1.0 == server.client.infer("same_fp32", ROW)["y"][0, 0]


def ask_rows(server: LiveServer, rows: int) -> Any:
    """Start a request; return gRPC's future."""
    return server.start_infer(infer_request("same_fp32", x=np.ones((rows, 4), np.float32)))
