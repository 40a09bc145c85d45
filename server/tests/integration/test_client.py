"""Both of our clients against a real server."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from certificates import make_ca, make_pair
from live_server import LiveServer, wait_until
from sequence_models import Control, SumByRow, write_sequence_model
from tiny_models import MAX_ROWS

import jitney_client as jc
from jitney_client.protocol import inference as pb

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "clients/python/tests"))

from as_blocking import AsBlocking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connect = Callable[..., Any]

WIDE = 1 << 18
"""Elements of a row of ``wide``: 1 MiB of FP32."""
IDENTITY = """
max_batch_size = 4
[builtin]
handler = "identity"
parameters = {parameters}
[[input]]
name = "x"
datatype = "{datatype}"
shape = ["N", {width}]
[[output]]
name = "y"
datatype = "{datatype}"
shape = ["N", {width}]
"""
ROW = np.array([[0.5, 3.0, -1.0, 2.0]], np.float32)
SHARED = Path("/dev/shm")  # noqa: S108  # where the client makes its regions


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that loads fast: built-in models, and one with state."""
    root = tmp_path_factory.mktemp("client")
    for name, width, parameters, datatype in (
        ("same", 4, "{}", "FP32"),
        ("wide", WIDE, "{}", "FP32"),
        ("wide_bf16", WIDE, "{}", "BF16"),
        ("any", -1, "{}", "FP32"),
        ("slow", 4, '{ execute_delay_ms = "400" }', "FP32"),
        ("slow_wide", WIDE, '{ execute_delay_ms = "400" }', "FP32"),
        ("texts", 1, "{}", "BYTES"),
    ):
        (root / name).mkdir()
        text = IDENTITY.format(width=width, parameters=parameters, datatype=datatype)
        (root / name / "model.toml").write_text(text, encoding="utf-8")
    with (root / "same" / "model.toml").open("a") as file:
        file.write('labels = ["a", "b", "c:d", "e"]\n')
    with (root / "slow" / "model.toml").open("a") as file:
        file.write("[batching]\nmax_queue_size = 4\n")
    (root / "repeat").mkdir()
    (root / "repeat" / "model.toml").write_text(
        'max_batch_size = 0\n[builtin]\nhandler = "repeat"\n', encoding="utf-8"
    )
    controls = [Control("start", "BOOL"), Control("ready", "BOOL")]
    write_sequence_model(root, "sum", SumByRow(MAX_ROWS), "FP32", controls)
    return root


@pytest.fixture(scope="module")
def live(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server of them that offers everything."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    names = [f"--load-model={folder.name}" for folder in sorted(models.iterdir())]
    flags = ("--allow-client-shm=true", "--model-control-mode=explicit", *names)
    with LiveServer(models, log, *flags) as server:
        yield server


def only(models: Path, name: str, folder: Path) -> Path:
    """Return a repository of one of the models."""
    shutil.copytree(models / name, folder / "few" / name)
    return folder / "few"


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Return what makes clients; every test that uses it runs with either kind."""
    with contextlib.ExitStack() as stack:

        def make(address: Any, **options: Any) -> Any:
            kind = jc.Client if request.param == "blocking" else AsBlocking.client
            return stack.enter_context(kind(address, **{"timeout": 30.0, **options}))

        yield make


@pytest.fixture
def client(live: LiveServer, connect: Connect) -> Any:
    """Connect a client to the shared server."""
    return connect(live.address)


# -- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({"x": ROW, "z": ROW}, {}),
        ({}, {}),
        ({"x": ROW.astype(np.float64)}, {}),
        ({"x": ROW[:, :3]}, {}),
        ({"x": ROW[0]}, {}),
        ({"x": ROW[:0]}, {}),
        ({"x": ROW}, {"outputs": ["q"]}),
        ({"x": ROW}, {"outputs": ["y", "y"]}),
        ({"x": np.array([["a"]])}, {"model": "texts", "top_k": {"y": 1}}),
    ],
)
def test_the_client_says_what_the_server_would(
    live: LiveServer, client: Any, inputs: Any, options: Any
) -> None:
    """What is refused before it is sent is refused in the same words, for the same reason."""
    options = {"model": "same", **options}
    errors = []
    # The live server's own client checks nothing.
    for either in (live.client, client):
        with pytest.raises(jc.InvalidRequest) as caught:
            either.infer(inputs=inputs, **options)
        errors.append((str(caught.value), caught.value.code, caught.value.reason))
    assert errors[0] == errors[1]


def test_timing_is_there_when_it_is_asked_for(client: Any) -> None:
    """The stages of the server add up to no more than its total, which is above nothing."""
    timing = client.infer("same", ROW, timing=True).timing
    assert 0 < timing.total
    assert timing.compute_infer <= timing.total
    assert client.infer("same", ROW).timing is None


def test_classes_have_labels(client: Any) -> None:
    """The highest elements come in order, with their numbers and labels."""
    result = client.infer("same", ROW, top_k={"y": 2})
    assert {"y": [[(3.0, 1, "b"), (2.0, 3, "e")]]} == result.classes


def test_a_sequence_keeps_its_state(live: LiveServer, client: Any) -> None:
    """Requests of one sequence add up, whether they are called or streamed."""
    one = np.ones((1, 1), np.float32)
    sequence = jc.Sequence()
    steps = [sequence.next(), sequence.next(), sequence.last()]
    assert [1.0, 2.0, 3.0] == [client.infer("sum", one, **step)["y"][0, 0] for step in steps]
    with connect_blocking(live) as blocking, blocking.stream() as stream:
        sequence = jc.Sequence()
        pendings = [stream.submit("sum", one, **sequence.next()) for _ in range(4)]
        stream.submit("sum", one, **sequence.last())
        assert [1.0, 2.0, 3.0, 4.0] == [pending.result()["y"][0, 0] for pending in pendings]


def connect_blocking(live: LiveServer) -> jc.Client:
    """Return a client for what is not about the client."""
    return jc.Client(live.address, timeout=30.0)


def test_decoupled_replies_come_one_by_one(client: Any) -> None:
    """A decoupled model's replies are iterated over on a stream, and refused elsewhere."""
    inputs = {
        "IN": np.arange(5, dtype=np.int32),
        "DELAY": np.zeros(5, np.uint32),
        "WAIT": np.zeros(1, np.uint32),
    }
    with client.stream() as stream:
        replies = [int(reply["OUT"][0]) for reply in stream.submit("repeat", inputs)]
        nothing = {**inputs, "IN": inputs["IN"][:0], "DELAY": inputs["DELAY"][:0]}
        assert [] == list(stream.submit("repeat", nothing))
    assert [0, 1, 2, 3, 4] == replies
    with pytest.raises(jc.NotSupported, match="decoupled transaction policy"):
        client.infer("repeat", inputs)


def test_many_requests_in_flight(client: Any) -> None:
    """A thousand requests over one call are answered each with its own numbers."""
    with client.stream(max_in_flight=64) as stream:
        pendings = [stream.submit("same", np.full((1, 4), n, np.float32)) for n in range(1000)]
        found = [pending.result()["y"][0, 0] for pending in pendings]
    assert [float(n) for n in range(1000)] == found


# -- repeating ------------------------------------------------------------------------------------


def test_a_full_queue_is_waited_for(live: LiveServer, connect: Connect) -> None:
    """With the server's advice, all of many calls are answered; without retries, some are not."""
    items = [ROW] * 12
    with jc.Client(live.address, timeout=30.0, retries=None) as plain:
        results = list(plain.infer_many("slow", items, concurrency=12, return_errors=True))
    refused = [error for error in results if isinstance(error, jc.QueueFull)]
    assert refused
    assert all(error.retry_after for error in refused)
    patient = connect(live.address, retries=jc.Retries(attempts=40, budget=1))
    assert 12 == len(list(patient.infer_many("slow", items, concurrency=12)))


def test_the_next_server_on_a_port_is_found(
    models: Path, connect: Connect, start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """A client outlives its server: calls go on when another one listens there."""
    root = only(models, "wide", tmp_path)
    first = start(root, "--allow-client-shm=true")
    client = connect(first.address, retries=jc.Retries(attempts=100, budget=1))
    wide = np.ones((1, WIDE), np.float32)
    np.testing.assert_array_equal(wide, client.infer("wide", wide)["y"])
    port = first.address.rpartition(":")[2]
    first.stop()
    second = start(root, "--allow-client-shm=true", f"--grpc-port={port}")
    client.wait_until_ready(timeout=30)
    np.testing.assert_array_equal(wide, client.infer("wide", wide)["y"])
    assert second.address == first.address


# -- models ---------------------------------------------------------------------------------------


def test_models_are_loaded_and_unloaded(live: LiveServer, client: Any) -> None:
    """An unloaded model is not there, and is again once it was loaded with another limit."""
    client.infer("any", ROW)
    client.unload("any")
    wait_until(lambda: not live.client.model_ready("any"), "any is unloaded")
    with pytest.raises(jc.ModelNotFound):
        client.infer("any", ROW)
    client.load("any", config={"max_batch_size": 2})
    client.wait_until_ready("any")
    assert 2 == client.config("any").max_batch_size
    np.testing.assert_array_equal(ROW, client.infer("any", ROW)["y"])


def test_traces_and_logs_are_changed_and_changed_back(client: Any) -> None:
    """What the server writes down is what it is told, and a wrong value changes nothing."""
    before = client.trace_settings("same")
    changed = client.update_trace_settings("same", levels=["TIMESTAMPS"], rate=7)
    assert (("TIMESTAMPS",), 7) == (changed.levels, changed.rate)
    with pytest.raises(jc.InvalidRequest, match="trace_rate"):
        client.update_trace_settings("same", levels=["OFF"], rate=0)
    assert changed == client.trace_settings("same")
    assert before == client.update_trace_settings("same", levels=None, rate=None)

    log = client.log_settings()
    assert (log.error, not log.info) == (
        (louder := client.update_log_settings(info=not log.info)).error,
        louder.info,
    )
    with pytest.raises(jc.InvalidRequest, match="log_format"):
        client.update_log_settings(info=log.info, format="of my own")
    assert louder == client.log_settings()
    assert log == client.update_log_settings(info=log.info)


def test_a_load_that_may_not_be_says_so(start: Callable[..., LiveServer], models: Path) -> None:
    """Where the operator does not allow it, the error has a type of its own."""
    live = start(models)
    with connect_blocking(live) as client, pytest.raises(jc.ControlDisabled):
        client.load("same")


# -- shared memory --------------------------------------------------------------------------------


def regions(live: LiveServer) -> dict[str, Any]:
    """Return what is registered with the server."""
    reply = live.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())
    return dict(reply.regions)


def left_behind() -> list[str]:
    """Return the names of regions that clients have left."""
    return [path.name for path in SHARED.glob("jitney_client_*")]


def test_large_tensors_go_through_shared_memory(live: LiveServer, connect: Connect) -> None:
    """Values are right, regions are used again, have no names, and are gone with the client."""
    rng = np.random.default_rng(7)
    client = connect(live.address)
    for _ in range(5):
        sent = rng.standard_normal((2, WIDE), np.float32)
        np.testing.assert_array_equal(sent, client.infer("wide", sent)["y"])
    assert 2 == len(regions(live))
    assert [] == left_behind()
    client.infer("same", ROW)
    assert 2 == len(regions(live))
    client.close()
    assert {} == regions(live)


def test_results_keep_their_memory(live: LiveServer, connect: Connect) -> None:
    """A result is a read-only view that later calls do not overwrite; a part of it is enough."""
    client = connect(live.address)
    kept = []
    for n in range(3):
        output = client.infer("wide", np.full((1, WIDE), n, np.float32))["y"]
        assert not output.flags.writeable
        kept.append(output[:, :10])
        del output
    assert [0.0, 1.0, 2.0] == [part[0, 0] for part in kept]
    assert 4 == len(regions(live))  # one of inputs, three of outputs
    kept.clear()
    gc.collect()
    client.infer("wide", np.zeros((1, WIDE), np.float32))
    assert 4 == len(regions(live))
    last = client.infer("wide", np.full((1, WIDE), 7, np.float32))["y"]
    client.close()
    assert (7.0, WIDE) == (last[0, 0], last.size)


def test_only_large_tensors_of_a_known_size_are_shared(live: LiveServer, connect: Connect) -> None:
    """Outputs of unknown size, and texts, come in the message; BF16 is converted as ever."""
    client = connect(live.address)
    wide = np.arange(WIDE, dtype=np.float32).reshape(1, WIDE)
    np.testing.assert_array_equal(wide, client.infer("any", wide)["y"])
    assert 1 == len(regions(live))
    ones = np.ones((1, WIDE), np.float32)
    np.testing.assert_array_equal(ones, client.infer("wide_bf16", jc.Bfloat16(ones))["y"])
    text = np.array([[b"x" * (1 << 20)]], object)
    assert text.tolist() == client.infer("texts", text)["y"].tolist()
    two = client.infer("wide", wide, outputs=["y"], request_id="r")
    assert ("r", True) == (two.request_id, bool((two["y"] == wide).all()))


def test_shared_memory_can_be_left_out(live: LiveServer, connect: Connect) -> None:
    """With False, everything is in the message."""
    wide = np.ones((1, WIDE), np.float32)
    client = connect(live.address, shared_memory=False)
    np.testing.assert_array_equal(wide, client.infer("wide", wide)["y"])
    assert {} == regions(live)


def test_a_server_that_offers_none_is_no_obstacle(
    models: Path, connect: Connect, start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """Where it is off, tensors go in the message; who insists is told the flag."""
    root = only(models, "wide", tmp_path)
    live = start(root)
    wide = np.ones((1, WIDE), np.float32)
    np.testing.assert_array_equal(wide, connect(live.address).infer("wide", wide)["y"])
    with pytest.raises(jc.NotSupported, match="--allow-client-shm"):
        connect(live.address, shared_memory=True).infer("wide", wide)


def test_memory_that_cannot_be_registered_is_no_obstacle(
    models: Path, connect: Connect, start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """Where the server refuses the region, tensors go in the message; who insists is told why."""
    root = only(models, "wide", tmp_path)
    live = start(root, "--allow-client-shm=true", "--client-shm-prefix=others_")
    wide = np.ones((1, WIDE), np.float32)
    client = connect(live.address)
    for _ in range(2):
        np.testing.assert_array_equal(wide, client.infer("wide", wide)["y"])
    assert [] == left_behind()
    with pytest.raises(jc.InvalidRequest, match="--client-shm-prefix"):
        connect(live.address, shared_memory=True).infer("wide", wide)


def test_regions_of_a_call_that_timed_out_are_not_used_again(
    live: LiveServer, connect: Connect
) -> None:
    """The server may still write to them; nobody else's results shall be there."""
    client = connect(live.address)
    wide = np.ones((1, WIDE), np.float32)
    client.infer("slow_wide", wide)
    before = set(regions(live))
    with pytest.raises(jc.DeadlineExceeded):
        client.infer("slow_wide", wide, timeout=0.1)
    np.testing.assert_array_equal(wide, client.infer("wide", wide)["y"])
    assert not before & set(regions(live))


# -- connections ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a CA, a server's pair and a client's."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = make_ca(folder, "ca")
    return ca, make_pair(folder, "server", ca), make_pair(folder, "caller", ca)


def test_tls_and_mtls(
    models: Path,
    certificates: Any,
    connect: Connect,
    start: Callable[..., LiveServer],
    tmp_path: Path,
) -> None:
    """With the right files calls pass, given as paths or bytes; without them they do not."""
    root = only(models, "same", tmp_path)
    ca, pair, own = certificates
    flags = [
        f"--tls-certificate={pair.certificate}",
        f"--tls-key={pair.key}",
        f"--tls-client-ca={ca.certificate}",
    ]
    live = start(root, *flags)
    tls = jc.Tls(ca=ca.certificate, certificate=own.certificate, key=str(own.key))
    np.testing.assert_array_equal(ROW, connect(live.address, tls=tls).infer("same", ROW)["y"])
    for wrong in (None, jc.Tls(ca=ca.certificate), jc.Tls(certificate=own[0], key=own[1])):
        client = connect(live.address, tls=wrong, retries=None)
        with pytest.raises(jc.Unavailable):
            client.infer("same", ROW)
    # As bytes; and by a name that is not the one in the address.
    contents = [file.read_bytes() for file in (ca.certificate, own.certificate, own.key)]
    tls = jc.Tls(*contents, server_name="localhost")
    np.testing.assert_array_equal(ROW, connect(live.address, tls=tls).infer("same", ROW)["y"])


def test_keepalive_notices_a_server_that_hangs(
    models: Path, start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """A call without a timeout ends when the server's machine is gone, not when TCP gives up."""
    root = only(models, "same", tmp_path)
    live = start(root)
    pings = [("grpc.keepalive_timeout_ms", 500), ("grpc.http2.ping_timeout_ms", 500)]
    with jc.Client(
        live.address, keepalive=0.5, channel_options=pings, retries=None, timeout=None
    ) as client:
        client.infer("same", ROW)
        os.kill(live.pid, signal.SIGSTOP)
        try:
            with pytest.raises(jc.Unavailable):
                client.infer("same", ROW)
        finally:
            os.kill(live.pid, signal.SIGCONT)
