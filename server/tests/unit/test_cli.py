"""The command line: exit codes, texts, and what commands make of their arguments."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from jitney.cli import main
from jitney.cli.status import describe
from jitney.cli.table import amount, duration, table
from jitney_client.protocol import inference, jitney_v1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOBODY = "127.0.0.1:1"


STATUS = jitney_v1.ServerStatus(
    version="1.2",
    uptime_seconds=3700,
    transport="grpcio",
    inflight_requests=3,
    inflight_bytes=2048,
    scheduler=jitney_v1.SchedulerStatus(
        utilisation=1.25,
        pressure=1.0,
        tight=True,
        queued_requests=3,
        queued_rows=12,
        running_batches=2,
        staged_batches=1,
    ),
    devices=[
        jitney_v1.DeviceStatus(
            name="cpu", description="2 threads", state="ready", memory_bytes={"allocated": 1 << 20}
        )
    ],
    models=[
        jitney_v1.ModelStatus(
            name="echo",
            version=1,
            state="READY",
            max_batch_size=8,
            batched=True,
            inputs=[jitney_v1.TensorStatus(name="x", datatype="FP32", shape=["N", "2"])],
            mode="latency",
            default_slo_seconds=0.2,
            default_priority=2,
            demand=jitney_v1.DemandStatus(
                rows_per_second=12.25, shapes=2, slo_seconds=0.1, best_rows=4, worth=60
            ),
            instances=[
                jitney_v1.InstanceStatus(
                    device="cpu",
                    form="frozen",
                    why="1.3 times as fast as plain",
                    load_seconds=0.5,
                    warnings=["it prints\x1b[2J"],
                    buckets=[1, 8],
                    latency=jitney_v1.LatencyStatus(
                        shapes=2,
                        batches=64,
                        alpha_seconds=0.0002,
                        beta_seconds=0.002,
                        z=2.2,
                        drift=1.03,
                        sizes=[
                            jitney_v1.SizeStatus(
                                rows=rows,
                                mean_seconds=mean,
                                planned_seconds=1.1 * mean,
                                spread=0.045,
                                observations=seen,
                            )
                            for rows, mean, seen in ((1, 0.0022, 60.25), (8, 1.5, 3.75))
                        ],
                    ),
                )
            ],
        ),
        jitney_v1.ModelStatus(
            name="lost", version=2, state="UNAVAILABLE", reason="model.pt: there is no such file"
        ),
    ],
)


class FakeServer(grpc.GenericRpcHandler):
    """Answers what the commands call: ``echo`` returns its inputs; ``own`` makes it a jitney.

    ``parameters`` are those of the last request.
    """

    def __init__(self) -> None:
        """Answer as a jitney does."""
        self.own = True
        self.parameters: dict[str, object] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method, None for one that is not offered."""
        methods = {**inference.METHODS, **(jitney_v1.METHODS if self.own else {})}
        name = details.method.rpartition("/")[2]
        answer: Callable[..., Any] | None = getattr(self, f"answer_{name}", None)
        if answer is None or name not in methods:
            return None
        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=methods[name].request.FromString,
            response_serializer=methods[name].response.SerializeToString,
        )

    def answer_ModelMetadata(  # the method's name
        self, request: inference.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> inference.ModelMetadataResponse:
        """Describe echo, and refuse others as Triton does."""
        if request.name != "echo":
            text = f"Request for unknown model: '{request.name}' is not found"
            context.abort(grpc.StatusCode.NOT_FOUND, text)
        reply = inference.ModelMetadataResponse(name="echo")
        reply.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        return reply

    def answer_ModelInfer(  # the method's name
        self, request: inference.ModelInferRequest, _: grpc.ServicerContext
    ) -> inference.ModelInferResponse:
        """Return the inputs as outputs."""
        self.parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice") or "")
            for name, value in request.parameters.items()
        }
        reply = inference.ModelInferResponse(model_name=request.model_name, model_version="3")
        for tensor in request.inputs:
            reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.extend(request.raw_input_contents)
        return reply

    def answer_GetStatus(  # the method's name
        self, _: jitney_v1.GetStatusRequest, __: grpc.ServicerContext
    ) -> jitney_v1.ServerStatus:
        """Return the one status."""
        return STATUS

    def answer_RepositoryIndex(  # the method's name
        self, _: inference.RepositoryIndexRequest, __: grpc.ServicerContext
    ) -> inference.RepositoryIndexResponse:
        """List one model."""
        reply = inference.RepositoryIndexResponse()
        reply.models.add(name="other", version="1", state="READY")
        return reply


@pytest.fixture
def fake() -> Iterator[tuple[FakeServer, str]]:
    """Return a server and its address."""
    handler = FakeServer()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield handler, f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.mark.parametrize(
    "command",
    [[], ["serve"], ["pack"], ["inspect"], ["import-triton"], ["infer"], ["status"]],
)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help is printed, and is no failure."""
    assert main([*command, "--help"]) == 0
    assert "usage: jitney" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        ([], 2, "COMMAND"),
        (["fly"], 2, "invalid choice: 'fly'"),
        (["serve", "--grpc-prt", "1"], 2, "unrecognized arguments: --grpc-prt"),
        (["serve", "--grpc-port", "x"], 2, "jitney: error: --grpc-port: expected a whole number"),
        (
            ["serve", "--host", "0.0.0.0"],
            2,
            "jitney: error: server.host: '0.0.0.0' can be",
        ),  # refused
        (["serve", "--config", "none.toml"], 2, "jitney: error: --config: cannot read"),
        (["infer", "m"], 2, "jitney: error: give the inputs with one of --input, --image and"),
        (["infer", "m", "--text", "a", "--input", "x=1"], 2, "got 2 of them"),
        (["infer", "m", "--text", "a", "--address", NOBODY], 1, "no server answers at 127.0"),
        (["status", "--address", NOBODY], 1, "jitney: error: no server answers at 127.0.0.1:1;"),
        (["pack", "a.pt", "-o", "b.pt", "--toml", "none.toml"], 2, "none.toml: cannot be read"),
    ],
)
def test_errors_are_one_line_and_a_code(
    argv: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong line is 2, a failed call 1; neither shows a traceback."""
    assert code == main(argv)
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


def test_a_traceback_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """Only who asks for it sees where an error came from."""
    assert main(["--traceback", "serve", "--grpc-port", "x"]) == 2  # usage
    assert "Traceback" in capsys.readouterr().err


def test_the_command_line_imports_nothing_heavy() -> None:
    """Help and mistakes are answered without torch, grpc or numpy."""
    code = (
        "import sys; from jitney.cli import main; main(['infer', 'm']); "
        "print(sorted({'torch', 'grpc', 'numpy', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_reader_that_leaves_early_is_no_defect(fake: tuple[FakeServer, str]) -> None:
    """``jitney status | head -0`` ends without a word on stderr."""
    code = "import sys; from jitney.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(  # our own interpreter and code
        [sys.executable, "-c", code, "status", "--address", fake[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (1, b"") == (process.wait(), error)


def test_status_is_a_table(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Devices, models, and what is worth saying about them; the server moves no cursor here."""
    assert main(["status", "--address", fake[1]]) == 0
    expected = f"""\
jitney 1.2 at {fake[1]}, up 1 h 1 min, transport grpcio, 3 requests in flight (2.0 KiB)
scheduler: load 1.25 (too much), price 1.00, 3 requests wait (12 rows), 2 batches run, 1 staged

DEVICE  STATE  BUSY  RESTARTS  MEMORY             WHAT
cpu     ready  0%    0         allocated 1.0 MiB  2 threads

MODEL  VERSION  STATE        BATCH  QUEUED  DEVICE  FORM    LOADED IN  PLANNED
echo   1        READY        <= 8   0       cpu     frozen  0.5 s      1: 2.42 ms, 8: 1.65 s
lost   2        UNAVAILABLE  no     0       -       -       -          -

echo/1
form     frozen: 1.3 times as fast as plain
warning  it prints\\x1b[2J

lost/2
reason  model.pt: there is no such file
"""
    assert expected == capsys.readouterr().out


def test_status_of_one_model_has_its_details() -> None:
    """Shapes, digest, buckets and samples are for who asks about one model."""
    lines = list(describe(STATUS, "a", details=True))
    for expected in (
        "input       x FP32 [N, 2]",
        "buckets     1, 8",
        "repeatable  no",
        "defaults    SLO 200 ms, timeout none, priority 2, mode latency",
        "demand      12.2 rows/s with deadlines in 2 shapes; best batch 4 rows, 60 rows/s a device",
    ):
        assert expected in lines


def test_status_of_one_model_has_the_table_that_its_batches_are_planned_by(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is there for one model, and for all with --verbose, within 100 columns."""
    expected = """
echo/1 on cpu
  learnt from 64 batches of the commonest of 2 shapes; drift 1.03, z 2.20
  about 2 ms a batch and 0.2 ms a row
  ROWS  MEAN    PLANNED  SPREAD  BATCHES
  1     2.2 ms  2.42 ms  4.5%    60
  8     1.5 s   1.65 s   4.5%    4
"""
    for argv in (["status", "echo"], ["status", "--verbose"]):
        assert main([*argv, "--address", fake[1]]) == 0
        out = capsys.readouterr().out
        assert expected in out
        assert max(map(len, out.splitlines())) <= 100
    assert main(["status", "--address", fake[1]]) == 0
    assert "drift" not in capsys.readouterr().out


def test_status_of_an_older_server_has_what_that_server_tells() -> None:
    """What it does not know is left out."""
    status = jitney_v1.ServerStatus()
    status.models.add(name="m", version=1, state="READY").instances.add(device="cpu")

    text = "\n".join(describe(status, "a", details=True))

    assert "m      1        READY  no     0       cpu           0.0 s      -" in text
    assert [] == [word for word in ("scheduler", "defaults", "demand", "drift") if word in text]


def test_status_in_json_is_the_message(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs read every field, also those that are empty."""
    assert main(["status", "--json", "--address", fake[1]]) == 0
    status = json.loads(capsys.readouterr().out)
    assert ["READY", "UNAVAILABLE"] == [model["state"] for model in status["models"]]
    assert status["devices"][0]["reason"] == ""


def test_other_servers_have_an_index(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A server without our status service still tells its models' states."""
    fake[0].own = False
    assert main(["status", "--address", fake[1]]) == 0
    expected = "MODEL  VERSION  STATE  REASON\nother  1        READY\n"
    assert expected == capsys.readouterr().out


def test_infer_prints_arrays(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON goes in with the model's datatype, and every output comes back with its shape."""
    assert main(["infer", "echo", "--address", fake[1], "--input", "x=[[1, 2.5]]"]) == 0
    assert capsys.readouterr().out == "echo, version 3\nx: float32 [1, 2]\n  [[1.  2.5]]\n"


def test_infer_sends_parameters(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They have the type that JSON would give them; what is no JSON is a text."""
    argv = ["infer", "echo", "--address", fake[1], "--input", "x=[[1, 2]]"]
    for given in ("sequence_id=7", "sequence_start=true", "rate=0.5", "who=me", 'text="7"'):
        argv += ["--parameter", given]
    assert main(argv) == 0
    expected = {"sequence_id": 7, "sequence_start": True, "rate": 0.5, "who": "me", "text": "7"}
    assert expected == fake[0].parameters
    capsys.readouterr()
    for wrong, text in (("a", "expected NAME=VALUE"), (f"a={1 << 63}", "numbers of 64 bits only")):
        assert main([*argv, "--parameter", wrong]) == 2  # usage
        assert text in capsys.readouterr().err


def test_infer_reads_files_and_prints_json(
    fake: tuple[FakeServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A saved array is sent as it is; the answer is one JSON object."""
    np.save(tmp_path / "x.npy", np.array([[1, 2]], np.int16))
    argv = ["infer", "echo", "--address", fake[1], "--json", "--input", f"x=@{tmp_path}/x.npy"]
    assert main(argv) == 0
    expected = {
        "model": "echo",
        "version": "3",
        "outputs": {"x": {"shape": [1, 2], "data": [[1, 2]]}},
    }
    assert expected == json.loads(capsys.readouterr().out)


def test_infer_says_what_the_server_says(
    fake: tuple[FakeServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The text of a refused call is the server's."""
    assert main(["infer", "none", "--address", fake[1], "--input", "x=[1]"]) == 1
    expected = "jitney: error: Request for unknown model: 'none' is not found\n"
    assert expected == capsys.readouterr().err


# Tracing is deprecated; it is how many of the models that people have were made.
def test_pack_writes_a_file_that_inspect_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain TorchScript file becomes one with a signature, labels and the samples given."""
    torch = pytest.importorskip("torch")
    # Traced: source code for scripting would have to be in a file.
    module = torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2))
    module.save(str(tmp_path / "plain.pt"))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n", encoding="utf-8")
    np.savez(tmp_path / "one.npz", input=np.ones((2, 2), np.float32))
    out = tmp_path / "packed.pt"
    argv = ["pack", str(tmp_path / "plain.pt"), "-o", str(out), "--input", "input:FP32[N,2]"]
    argv += ["--output", "scores:FP32[N,3]", "--labels", str(tmp_path / "labels.txt")]

    assert main([*argv, "--samples", str(tmp_path / "one.npz")]) == 0

    assert f"{out}: input:FP32[N,2] -> scores:FP32[N,3] (" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 0
    report = capsys.readouterr().out
    assert "3 labels" in report
    assert "samples      1 (2 rows)" in report

    # Into a version's folder, its manifest is written as well.
    (tmp_path / "double" / "1").mkdir(parents=True)
    argv[3] = str(tmp_path / "double" / "1" / "model.pt")
    assert main(argv) == 0
    assert "1 files listed\n" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "double" / "1")]) == 0
    assert main([*argv, "--no-manifest"]) == 0
    assert main([*argv, "--sign", str(tmp_path / "none")]) == 2


def test_a_table_is_as_wide_as_its_cells() -> None:
    """Columns are aligned, and lines have no blanks at the end."""
    assert ["A   B", "ab", "c   d"] == list(table(("A", "B"), [("ab", ""), ("c", "d")]))
    assert [] == list(table(("A",), []))


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3072.0 GiB")]
)
def test_amounts(size: int, expected: str) -> None:
    """Bytes are shown in the largest unit that keeps a digit in front of the point."""
    assert expected == amount(size)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (61, "1 min 1 s"), (7300, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, expected: str) -> None:
    """Durations have two units at most."""
    assert expected == duration(seconds)
