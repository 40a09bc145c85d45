"""``jitney bench`` against real servers: ours, and one that is wrong on purpose."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from certificates import make_ca, make_pair

from jitney.cli import main
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from live_server import LiveServer


class FakeServer(grpc.GenericRpcHandler):
    """Has one model, y = 2x on FP32 [-1, 4], and no statistics; ``spoil`` is added by call."""

    def __init__(self) -> None:
        self.calls = itertools.count(1)
        self.spoil: Callable[[int], float] = lambda _: 0.0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method, None for one that is not offered."""
        name = details.method.rpartition("/")[2]
        answer = getattr(self, f"answer_{name}", None)
        if answer is None:
            return None
        method = pb.METHODS[name]
        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def answer_ModelMetadata(  # the method's name
        self, request: pb.ModelMetadataRequest, _: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Describe the model."""
        made = pb.ModelMetadataResponse(name=request.name)
        made.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
        made.outputs.add(name="y", datatype="FP32", shape=[-1, 4])
        return made

    def answer_ModelInfer(  # the method's name
        self, request: pb.ModelInferRequest, _: grpc.ServicerContext
    ) -> pb.ModelInferResponse:
        """Answer, and be wrong by ``spoil``."""
        x = np.frombuffer(request.raw_input_contents[0], np.float32)
        y = 2 * x + np.float32(self.spoil(next(self.calls)))
        made = pb.ModelInferResponse(model_name=request.model_name)
        made.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
        made.raw_output_contents.append(y.tobytes())
        return made


@pytest.fixture
def fake() -> Iterator[tuple[FakeServer, str]]:
    """Serve a fake; return it and its address."""
    handler = FakeServer()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_an_encrypted_server_is_measured(tmp_path: Path) -> None:
    """The generator encrypts as the command's own calls do, and trusts the same certificates."""
    ca = make_ca(tmp_path, "ca")
    own, ours = make_pair(tmp_path, "server", ca), make_pair(tmp_path, "client", ca)
    credentials = grpc.ssl_server_credentials(
        [(own.key.read_bytes(), own.certificate.read_bytes())],
        ca.certificate.read_bytes(),
        require_client_auth=True,
    )
    server = grpc.server(ThreadPoolExecutor(4), handlers=[FakeServer()])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    flags = ["--concurrency", "2", "--duration", "0.3", "--tls-ca", str(ca.certificate)]
    flags += ["--tls-certificate", str(ours.certificate), "--tls-key", str(ours.key)]
    try:
        code, results = bench(f"127.0.0.1:{port}", "double", tmp_path / "r.json", *flags)
    finally:
        server.stop(None).wait()

    assert 0 == code
    assert results["points"][0]["calls"]["in_slo"] > 0
    assert 0 == results["points"][0]["wrong"]


def bench(address: str, model: str, file: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and the results."""
    code = main(["bench", model, "--address", address, "--json", str(file), *flags])
    results: dict[str, Any] = json.loads(file.read_text())
    return code, results


def test_a_rate_is_measured_with_every_answer_checked(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All calls are answered rightly, by tenant and priority, and the server counted them."""
    flags = ["--tenants", "a=2,b=1", "--priorities", "1=1,2=1", "--duration", "1"]
    # A busy machine lags by milliseconds, which shall not decide a test: 2 % of this are 20.
    flags += ["--slo-ms", "1000"]
    code, results = bench(
        server.address,
        "simple",
        tmp_path / "r.json",
        "--rate",
        "100",
        *flags,
        "--report",
        str(tmp_path / "r.html"),
    )

    (point,) = results["points"]
    assert (0, 0, ["OK"]) == (point["wrong"], point["unchecked"], list(point["calls"]["ends"]))
    assert code == int(bool(point["fault"]))
    assert point["server"]["requests"] >= point["calls"]["sent"] > 50
    assert {"a priority 1", "a priority 2", "b priority 1", "b priority 2"} == set(point["callers"])
    assert point["calls"]["sent"] == sum(c["sent"] for c in point["callers"].values())
    assert "<svg" in (tmp_path / "r.html").read_text()
    assert "answers checked" in capsys.readouterr().out


def test_a_concurrency_is_measured_by_several_generators(
    server: LiveServer, tmp_path: Path
) -> None:
    """Two processes keep three calls going; there is a throughput and no promise."""
    code, results = bench(
        server.address,
        "same_bytes",
        tmp_path / "r.json",
        "--concurrency",
        "1,3",
        "--processes",
        "2",
        "--duration",
        "0.5",
        "--shape",
        "x=3",
    )

    assert 0 == code
    assert [1, 3] == [point["load"] for point in results["points"]]
    assert all(point["calls"]["rate"] > 0 and not point["wrong"] for point in results["points"])
    assert {"x": [1, 3]} == results["setup"]["shapes"]


def test_a_file_says_what_is_expected(server: LiveServer, tmp_path: Path) -> None:
    """Inputs and outputs of a file are sent and compared; a wrong expectation ends it."""
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.savez(tmp_path / "right.npz", x=x, y=x + 1)
    np.savez(tmp_path / "wrong.npz", x=x, y=x + 2)
    flags = ["--concurrency", "2", "--duration", "0.3", "--rows", "2"]

    code, results = bench(
        server.address,
        "shared",
        tmp_path / "r.json",
        *flags,
        "--inputs",
        str(tmp_path / "right.npz"),
    )

    assert (0, 3) == (code, results["setup"]["different_inputs"])
    assert 1 == main(
        [
            "bench",
            "shared",
            "--address",
            server.address,
            *flags,
            "--inputs",
            str(tmp_path / "wrong.npz"),
        ]
    )


def test_a_model_that_fails_is_told_with_the_servers_words(
    server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs that the model refuses end the command before any load."""
    flags = ["--concurrency", "1", "--range", "x=2000000..3000000"]

    assert 1 == main(["bench", "poison", "--address", server.address, *flags])

    assert "poisoned" in capsys.readouterr().err


def test_wrong_answers_under_load_void_the_figures(
    fake: tuple[FakeServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that is right alone and wrong now and then under load is found out."""
    handler, address = fake
    handler.spoil = lambda number: float(number > 64 and number % 10 == 0)

    code, results = bench(
        address, "double", tmp_path / "r.json", "--concurrency", "2", "--duration", "0.5"
    )

    assert 1 == code
    assert results["points"][0]["wrong"] > 0
    assert "void: " in capsys.readouterr().out
    assert results["points"][0]["server"] is None


def test_a_model_that_differs_each_time_cannot_be_checked(
    fake: tuple[FakeServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is measured, and said that answers are not looked at."""
    handler, address = fake
    handler.spoil = float

    code, results = bench(
        address, "double", tmp_path / "r.json", "--concurrency", "1", "--duration", "0.3"
    )

    assert 0 == code
    assert "the model answers the same input differently" == results["setup"]["unchecked"]
    assert results["points"][0]["unchecked"] > 0
    assert "answers are not checked" in capsys.readouterr().err


def test_a_search_ends_at_the_first_wrong_answer(
    fake: tuple[FakeServer, str], tmp_path: Path
) -> None:
    """There is no goodput of a server that answers wrongly."""
    handler, address = fake
    handler.spoil = lambda number: float(number > 64)

    code, results = bench(
        address,
        "double",
        tmp_path / "r.json",
        "--search",
        "--start",
        "2000",
        "--duration",
        "0.3",
        "--slo-ms",
        "200",
    )

    assert (1, 0.0) == (code, results["found"]["rate"])
    assert 1 == len(results["points"])
