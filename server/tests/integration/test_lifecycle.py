"""Servers start, stop, and lose their workers, and nobody is left without an answer."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from live_server import CALL_TIMEOUT, LiveServer, infer_request, launch, wait_until
from tiny_models import POISON, Gate

from jitney_client import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Start = Callable[..., LiveServer]
    Busy = Callable[[LiveServer], AbstractContextManager[None]]

ROW = np.ones((1, 4), np.float32)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def ask(server: LiveServer, model: str, value: float = 1) -> Any:
    """Start a request; return gRPC's future."""
    return server.start_infer(infer_request(model, x=np.full((1, 4), value, np.float32)))


def hold(server: LiveServer, gate: Gate) -> Any:
    """Start a request to ``held`` that runs until the gate opens; return its future."""
    before = server.metric("jitney_batches_total", model="held")
    gate.shut()
    call = ask(server, "held")
    wait_until(lambda: server.metric("jitney_batches_total", model="held") > before, "it runs")
    return call


def health(server: LiveServer, name: str = "") -> int:
    """Return what the health service says."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    status: int = stub.Check(
        health_pb2.HealthCheckRequest(service=name), timeout=CALL_TIMEOUT
    ).status
    return status


def gone(pid: int) -> bool:
    """Return whether a process has ended; one that nobody has waited for has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def port_of(address: str) -> int:
    """Return the port of an address or a URL."""
    return int(address.rpartition(":")[2].partition("/")[0])


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def kill(pid: int) -> None:
    """End a process at once."""
    os.kill(pid, signal.SIGKILL)


def end(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a server that cannot start; return its exit code and what it said on stderr."""
    command = launch("serve", "--device=cpu", *arguments, env=env)
    _, errors = command.communicate(timeout=30)
    return command.returncode, errors


# -- stopping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered(
    start: Start, few: Path, gate: Gate, number: signal.Signals
) -> None:
    """A stop signal ends the server after its last reply: code 0, no process, no port is left."""
    server = start(few)
    workers = server.workers()
    held = hold(server, gate)
    queued = [ask(server, "same_fp32", value=n) for n in range(5)]
    wait_until(lambda: server.in_flight()[0] == 6, "all are accepted")
    server.process.send_signal(number)
    wait_until(lambda: "stopping: " in server.output(), "it begins to stop")
    gate.open()
    assert [float(n) for n in range(5)] == [
        np.frombuffer(call.result().raw_output_contents[0], np.float32)[0] for call in queued
    ]
    assert "1" == held.result().model_version
    assert 0 == server.wait()
    assert "stopped" == server.lines[-1]
    assert [True] == [gone(pid) for pid in workers]
    assert is_free(port_of(server.address))
    assert is_free(port_of(server.metrics_url))


def test_nothing_new_is_taken_while_it_stops(start: Start, few: Path, gate: Gate) -> None:
    """While the last batch runs, new calls are UNAVAILABLE: another replica may serve them."""
    server = start(few)
    held = hold(server, gate)
    server.terminate()
    wait_until(lambda: "stopping: " in server.output(), "it begins to stop")
    wait_until(lambda: _is_refused(server), "new calls are refused")
    gate.open()
    held.result()
    assert 0 == server.wait()


def _is_refused(server: LiveServer) -> bool:
    try:
        server.client.infer("same_fp32", ROW)
    except Unavailable:
        return True
    return False


def test_a_second_signal_forces(start: Start, few: Path, gate: Gate) -> None:
    """Told twice, the server ends although a batch still runs; its caller hears UNAVAILABLE."""
    server = start(few)
    (worker,) = server.workers()
    held = hold(server, gate)
    server.terminate()
    wait_until(lambda: "stopping: " in server.output(), "it begins to stop")
    server.terminate()
    assert 0 == server.wait(5)
    assert held.exception().code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    wait_until(lambda: gone(worker), "the worker ends", 5)


def test_watchers_do_not_keep_it_alive(start: Start, few: Path) -> None:
    """A balancer that watches the health hears NOT_SERVING, and does not delay the end."""
    server = start(few)
    stub = health_pb2_grpc.HealthStub(server.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT)
    assert SERVING == next(watch).status
    server.terminate()
    assert NOT_SERVING == next(watch).status
    assert 0 == server.wait(5)


def test_it_serves_while_balancers_notice(start: Start, few: Path) -> None:
    """During the drain delay health is NOT_SERVING, and requests are still answered."""
    server = start(few, "--drain-delay-seconds=60")
    server.terminate()
    wait_until(lambda: health(server) == NOT_SERVING, "it says that it stops")
    assert (NOT_SERVING, SERVING) == (health(server, "same_fp32"), health(server, "liveness"))
    assert 1.0 == server.client.infer("same_fp32", ROW)["y"][0, 0]
    server.terminate()
    assert 0 == server.wait(5)


def test_a_stop_during_the_start(few: Path) -> None:
    """Stopped before its models are loaded, the server ends at once and leaves no worker."""
    command = launch(
        "serve",
        f"--model-repository={few}",
        "--grpc-port=0",
        "--metrics-port=0",
        "--device=cpu",
    )
    process = psutil.Process(command.pid)
    wait_until(lambda: bool(process.children()), "the worker is started")
    workers = [child.pid for child in process.children()]
    command.send_signal(signal.SIGTERM)
    command.communicate(timeout=10)
    assert (0, [True]) == (command.returncode, [gone(pid) for pid in workers])


# -- dying ----------------------------------------------------------------------------------------


def test_workers_die_with_the_server(start: Start, few: Path, gate: Gate) -> None:
    """A server that is killed takes its busy worker along, and leaves no memory behind."""
    before = set(Path("/dev/shm").iterdir())  # noqa: S108  # where shared memory would be
    server = start(few)
    (worker,) = server.workers()
    held = hold(server, gate)
    server.kill9()
    wait_until(lambda: gone(worker), "the worker ends", 5)
    assert grpc.StatusCode.UNAVAILABLE == held.exception().code()
    assert set() == set(Path("/dev/shm").iterdir()) - before  # noqa: S108


def test_a_dead_worker_is_replaced(start: Start, few: Path, gate: Gate) -> None:
    """Health tells, and its successor answers what it was at, and what had waited."""
    server = start(few)
    stub = health_pb2_grpc.HealthStub(server.channel)
    watches = {
        name: stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=CALL_TIMEOUT)
        for name in ("", "same_fp32")
    }
    assert [SERVING, SERVING] == [next(watch).status for watch in watches.values()]
    (worker,) = server.workers()
    held = hold(server, gate)
    waiting = ask(server, "same_fp32", value=3)
    wait_until(lambda: server.waiting("same_fp32") == 1, "one waits")
    kill(worker)
    wait_until(lambda: gone(worker), "it ends")
    gate.open()
    for watch in watches.values():
        assert [NOT_SERVING, SERVING] == [next(watch).status, next(watch).status]
        watch.cancel()
    assert [1.0, 3.0] == [
        np.frombuffer(call.result().raw_output_contents[0], np.float32)[0]
        for call in (held, waiting)
    ]
    assert 1 == server.metric("jitney_worker_restarts_total", device="cpu")
    assert 1 == server.metric("jitney_worker_state", device="cpu", state="up")
    assert [False] == [pid == worker for pid in server.workers()]
    assert (0, 0) == server.in_flight()


def test_a_request_that_kills_its_worker(start: Start, few: Path) -> None:
    """A crash in native code ends a batch and a worker, never the server."""
    server = start(few)
    crash = ask(server, "crash", value=POISON)
    assert grpc.StatusCode.UNAVAILABLE == crash.exception().code()
    assert "WORKER_LOST" == dict(crash.exception().trailing_metadata())["jitney-reason"]
    wait_until(lambda: server.client.model_ready("crash"), "it is loaded again")
    assert 2.0 == server.client.infer("crash", ROW)["y"][0, 0]


def test_inputs_that_kill_workers_are_not_run_a_third_time(start: Start, few: Path) -> None:
    """Whoever repeats them is refused, and the model goes on serving everybody else."""
    server = start(few)
    for _ in range(2):
        wait_until(lambda: server.client.model_ready("crash"), "it is loaded", 30)
        crash = ask(server, "crash", value=POISON)
        assert grpc.StatusCode.UNAVAILABLE == crash.exception().code()
    wait_until(lambda: server.client.model_ready("crash"), "it is loaded again", 30)

    refused = ask(server, "crash", value=POISON).exception()

    assert grpc.StatusCode.INVALID_ARGUMENT == refused.code()
    assert "QUARANTINED" == dict(refused.trailing_metadata())["jitney-reason"]
    assert 2.0 == server.client.infer("crash", ROW)["y"][0, 0]


def test_requests_during_a_replacement_may_be_retried(start: Start, few: Path, gate: Gate) -> None:
    """Where requests shall not wait for the new worker, they are UNAVAILABLE, with advice."""
    server = start(few, "--wait-for-worker-seconds=0")
    (worker,) = server.workers()
    gate.shut()  # the model is warmed up when it is loaded: held before it, the others wait
    kill(worker)
    wait_until(lambda: not server.client.model_ready("same_fp32"), "the worker is gone")
    refused = ask(server, "same_fp32").exception()
    assert grpc.StatusCode.UNAVAILABLE == refused.code()
    assert refused.details().startswith(
        "Request for unknown model: 'same_fp32' version 1 is not at ready state: "
    )
    assert int(dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    assert not server.client.server_ready()
    gate.open()
    wait_until(server.client.server_ready, "it is ready again")
    assert 1.0 == server.client.infer("same_fp32", ROW)["y"][0, 0]


def test_requests_may_wait_for_a_new_worker(start: Start, few: Path, gate: Gate) -> None:
    """While the only one is replaced; but not those that would be late then, who are told so."""
    server = start(few)
    (worker,) = server.workers()
    gate.shut()
    kill(worker)
    wait_until(lambda: not server.client.model_ready("same_fp32"), "the worker is gone")
    assert NOT_SERVING == health(server, "same_fp32")
    patient = ask(server, "same_fp32", value=3)
    request = infer_request("same_fp32", x=ROW)

    refused = server.start_infer(request, timeout=0.3).exception()

    gate.open()
    assert grpc.StatusCode.UNAVAILABLE == refused.code()
    assert 3.0 == np.frombuffer(patient.result().raw_output_contents[0], np.float32)[0]


def test_a_batch_that_hangs_is_ended(start: Start, few: Path, gate: Gate) -> None:
    """A batch that takes longer than the limit costs its worker; its caller hears UNAVAILABLE."""
    server = start(few, "--batch-timeout-seconds=0.5")
    held = hold(server, gate)
    assert grpc.StatusCode.UNAVAILABLE == held.exception().code()
    gate.open()
    wait_until(server.client.server_ready, "it is ready again")
    assert 1 == server.metric("jitney_worker_restarts_total", device="cpu")


def test_a_worker_that_is_stopped_is_found(start: Start, few: Path) -> None:
    """One that somebody stopped between two batches is replaced before anybody needs it."""
    server = start(few)
    (worker,) = server.workers()

    os.kill(worker, signal.SIGSTOP)

    wait_until(lambda: gone(worker), "it is ended", 4)
    wait_until(server.client.server_ready, "it is ready again")
    assert 1.0 == server.client.infer("same_fp32", ROW)["y"][0, 0]


def test_a_spare_worker_takes_over(start: Start, few: Path) -> None:
    """It has imported torch already, so the models are back within a fraction of a second."""
    server = start(few, "--spare-workers=1")
    wait_until(lambda: len(server.workers()) == 2, "the spare is started")
    first, spare = server.workers()
    loaded = Path(f"/proc/{spare}/maps")
    wait_until(lambda: "libtorch_python" in loaded.read_text(errors="replace"), "it has torch")

    kill(first)

    wait_until(lambda: not server.client.server_ready(), "the worker is gone")
    wait_until(server.client.server_ready, "it is ready again")
    assert spare in server.workers()
    assert 1.0 == server.client.infer("same_fp32", ROW)["y"][0, 0]


def test_a_server_may_outlive_its_last_device(start: Start, few: Path) -> None:
    """Told to probe, it goes on without a device, and says truthfully that it is not ready."""
    server = start(few, "--max-restarts=0", "--on-last-device-lost=probe")
    (worker,) = server.workers()

    kill(worker)

    wait_until(
        lambda: [d.state for d in server.client.status().devices] == ["failed"], "it is given up"
    )
    assert not server.client.server_ready()
    assert (NOT_SERVING, NOT_SERVING) == (health(server), health(server, "same_fp32"))
    assert SERVING == health(server, "liveness")
    refused = ask(server, "same_fp32").exception()
    assert grpc.StatusCode.UNAVAILABLE == refused.code()
    assert "tried again in 60 s" in refused.details()
    assert 0 == server.stop()


def test_a_server_without_a_device_ends(start: Start, few: Path, gate: Gate) -> None:
    """Past max_restarts nothing can be served: every caller hears so, and the exit code is 1."""
    server = start(few, "--max-restarts=0")
    (worker,) = server.workers()
    held = hold(server, gate)
    waiting = ask(server, "same_fp32")
    wait_until(lambda: server.waiting("same_fp32") == 1, "one waits")
    kill(worker)
    assert {grpc.StatusCode.UNAVAILABLE} == {held.exception().code(), waiting.exception().code()}
    assert 1 == server.wait()
    log = server.log.read_text()
    assert "no device can be used: cpu: its worker ended 1 times in a minute" in log
    assert "Traceback" not in log


# -- starting -------------------------------------------------------------------------------------


def test_a_port_in_use_is_refused(start: Start, few: Path) -> None:
    """A second server on a port says what is wrong and what to do, and harms the first not."""
    server = start(few)
    grpc_port, metrics_port = port_of(server.address), port_of(server.metrics_url)
    code, errors = end(f"--model-repository={few}", f"--grpc-port={grpc_port}", "--metrics-port=0")
    assert 2 == code
    assert f"cannot listen on 127.0.0.1:{grpc_port}: is another server running there?" in errors
    code, errors = end(
        f"--model-repository={few}", "--grpc-port=0", f"--metrics-port={metrics_port}"
    )
    assert 2 == code
    assert f"cannot serve metrics on 127.0.0.1:{metrics_port}: Address already in use" in errors
    assert server.client.server_ready()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com"])
def test_other_machines_are_not_let_in_by_accident(few: Path, host: str) -> None:
    """An address that others reach is refused without --insecure, and nothing is started."""
    code, errors = end(f"--model-repository={few}", f"--host={host}")
    assert (2, True, "") == (code, "say --insecure" in errors, errors.partition("Traceback")[1])


def test_a_missing_repository_is_refused(tmp_path: Path) -> None:
    """A folder that is not there ends the start, by name and without a traceback."""
    code, errors = end(
        f"--model-repository={tmp_path / 'none'}", "--grpc-port=0", "--metrics-port=0"
    )
    assert (2, True, "") == (
        code,
        "cannot list" in errors and "No such file or directory" in errors,
        errors.partition("Traceback")[1],
    )


def test_an_empty_repository_is_served(start: Start, tmp_path: Path) -> None:
    """A server without models says so, and answers about itself."""
    root = tmp_path / "empty"
    root.mkdir()
    server = start(root)
    assert ([], True) == (list(server.client.models()), server.client.server_ready())


def test_a_model_that_keeps_crashing_is_refused_and_costs_the_others_nothing(
    start: Start, few: Path
) -> None:
    """After three crashes within a minute the model is out, with its reason; the device stays."""
    server = start(few)
    for number in range(3):
        wait_until(lambda: server.client.model_ready("crash"), "it is loaded", 30)
        crash = ask(server, "crash", value=POISON + number)
        assert grpc.StatusCode.UNAVAILABLE == crash.exception().code()

    wait_until(lambda: server.client.model_ready("same_fp32"), "the other is loaded again", 30)

    (state,) = {(m.state, m.reason) for m in server.client.models() if m.name == "crash"}
    assert "UNAVAILABLE" == state[0]
    assert "ended the worker process 3 times within a minute" in state[1]
    assert ["up"] == [device.state for device in server.client.status().devices]


def test_what_still_waits_at_the_end_of_a_drain_is_told_so(
    start: Start, few: Path, gate: Gate
) -> None:
    """Queued requests end with DRAINING and are counted in the log; none is cut off silently."""
    server = start(few, "--drain-timeout-seconds=0.5")
    held = hold(server, gate)
    waiting = [ask(server, "same_fp32", value=n) for n in range(3)]
    wait_until(lambda: server.waiting("same_fp32") == 3, "three wait")

    server.terminate()

    for call in waiting:
        assert grpc.StatusCode.UNAVAILABLE == call.exception().code()
        assert "DRAINING" == dict(call.exception().trailing_metadata())["jitney-reason"]
    assert grpc.StatusCode.UNAVAILABLE == held.exception().code()
    assert 0 == server.wait()
    assert "3 requests still waited at the end of the drain" in server.log.read_text()


def test_the_explicit_mode_serves_what_is_named(start: Start, few: Path) -> None:
    """It is ready when that is, the rest is listed by name, and nothing suggests to call it."""
    server = start(few, "--model-control-mode=explicit", "--load-model=same_fp32")

    assert server.client.server_ready()
    assert SERVING == health(server)
    states = {m.name: (m.state, m.reason) for m in server.client.models()}
    assert ("READY", "") == states.pop("same_fp32")
    assert {("", "")} == set(states.values())
    assert "crash" not in server.output()
