"""Callers who are slow, frozen, or never read: the server sheds them, and serves the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import numpy as np
import psutil
import pytest
from conftest import held_flags
from grpc_health.v1 import health_pb2, health_pb2_grpc
from live_server import CALL_TIMEOUT, LiveServer, infer_request, wait_until
from raw_caller import HEALTH_WATCH, INFER, RawCaller

import jitney_client
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tiny_models import Gate

MIB = 1 << 20
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
FLAGS = (
    *(f"--max-message-bytes={8 * MIB}", f"--slot-bytes={8 * MIB}"),
    *(f"--max-receiving-bytes={32 * MIB}", f"--max-unread-bytes={32 * MIB}"),
    *("--receive-timeout-seconds=2", "--keepalive-seconds=1", "--keepalive-timeout-seconds=1"),
    "--health-port=0",
)
ROW = infer_request("same_fp32", x=np.ones((1, 4), np.float32)).SerializeToString()
HALF = b"\0" + (8 * MIB - 1000).to_bytes(4, "big")


@pytest.fixture(scope="module")
def strict(few: Path, gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server with little patience and small budgets."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with LiveServer(few, log, *FLAGS, *held_flags(gate)) as live:
        yield live


def served(server: LiveServer) -> None:
    """Fail unless an ordinary call is answered."""
    server.infer_raw(ROW)


def own_mib(server: LiveServer) -> int:
    """Return what the server process has for itself."""
    return int(server.metric("jitney_server_private_bytes")) >> 20


def nothing_left(server: LiveServer) -> None:
    """Wait until the server holds nothing for anybody."""
    wait_until(lambda: (0, 0) == server.in_flight(), "nothing is in flight")
    for name in ("jitney_receiving_calls", "jitney_unread_reply_bytes"):
        wait_until(lambda name=name: server.metric(name) == 0, name)  # type: ignore[misc]  # bound


# -- messages that do not arrive ------------------------------------------------------------------


def test_a_request_that_does_not_arrive_ends(strict: LiveServer) -> None:
    """A few bytes of it, or none; for any method; a stream may wait."""
    with RawCaller(strict.address) as caller:
        paths = (INFER, INFER.replace("ModelInfer", "ServerLive"), "/grpc.health.v1.Health/Check")
        calls = [caller.begin(path) for path in paths]
        stream = caller.begin(INFER.replace("ModelInfer", "ModelStreamInfer"))
        caller.send(calls[0], HALF)
        assert [EXHAUSTED] * 3 == [caller.wait(call) for call in calls]
        assert stream not in caller.statuses
    served(strict)
    nothing_left(strict)


def test_many_who_send_a_byte_now_and_then_keep_nobody_out(strict: LiveServer) -> None:
    """Hundreds of connections; each loses its call, and others are served meanwhile."""
    with ExitStack() as stack:
        callers = [stack.enter_context(RawCaller(strict.address)) for _ in range(200)]
        calls = [caller.begin() for caller in callers]
        for size in range(6):
            for caller, call in zip(callers, calls, strict=True):
                caller.send(call, HALF[size : size + 1], seconds=0)
            served(strict)

        def have_ended() -> bool:
            for caller in callers:
                caller.listen(0)  # and answer pings
            return all(caller.statuses for caller in callers)

        wait_until(have_ended, "they lose their calls")
        assert {EXHAUSTED} == {status for c in callers for status in c.statuses.values()}
    nothing_left(strict)


def test_half_sent_messages_have_a_budget(strict: LiveServer) -> None:
    """Who has most of them loses them, long before their time is over; memory is given back."""
    before = own_mib(strict)
    with RawCaller(strict.address) as few, RawCaller(strict.address) as many:
        one = few.begin()
        few.send(one, HALF + bytes(MIB))
        calls = [many.begin() for _ in range(20)]
        for _ in range(7):
            for call in calls:
                many.send(call, HALF + bytes(MIB), seconds=0.5)
        assert {EXHAUSTED} == {many.wait(call) for call in calls}
        assert strict.metric("jitney_evicted_calls_total") >= len(calls)
    served(strict)
    nothing_left(strict)
    wait_until(lambda: own_mib(strict) < before + 32, "memory is given back", 30)


# -- replies that nobody reads --------------------------------------------------------------------


def large_request(model: str) -> bytes:
    """Return a request with a reply of 4 MiB."""
    return infer_request(model, x=np.ones((1, MIB), np.float32)).SerializeToString()


def test_replies_that_nobody_reads_have_a_budget(strict: LiveServer) -> None:
    """Connections are dropped for it whose callers take nothing; others get all of theirs."""
    message = large_request("same_fp32")
    dropped = strict.metric("jitney_dropped_connections_total")
    ends: set[grpc.StatusCode] = set()
    with RawCaller(strict.address, window=0) as greedy:

        def is_full() -> bool:
            greedy.listen(0)
            return strict.metric("jitney_unread_reply_bytes") > 28 * MIB

        def is_gone() -> bool:
            greedy.listen(0)
            try:
                strict.infer_raw(message)
            except grpc.RpcError as error:
                ends.add(error.code())
            return greedy.closed

        for _ in range(7):
            greedy.call(message)
        wait_until(is_full, "replies wait unread")
        # Who takes nothing is known after a second; until then there is no room for others.
        wait_until(is_gone, "the greedy one is dropped")
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == ends
    assert dropped + 1 == strict.metric("jitney_dropped_connections_total")
    assert len(message) < len(strict.infer_raw(message)) + 1000
    nothing_left(strict)


# -- callers who are gone without a word ----------------------------------------------------------


FROZEN = """
import sys, grpc
call = grpc.insecure_channel(sys.argv[1]).unary_unary(sys.argv[2])
future = call.future(sys.stdin.buffer.read())
print("sent", flush=True)
future.result()
"""


def test_a_frozen_caller_is_given_up(
    strict: LiveServer, busy: Callable[[LiveServer], AbstractContextManager[None]]
) -> None:
    """Stopped, with its connection intact: its requests leave the queue when it answers no ping."""
    request = infer_request("held", x=np.ones((1, 4), np.float32)).SerializeToString()
    with busy(strict):
        arguments = [sys.executable, "-c", FROZEN, strict.address, INFER]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
            assert caller.stdin is not None
            assert caller.stdout is not None
            caller.stdin.write(request)
            caller.stdin.close()
            assert b"sent\n" == caller.stdout.readline()
            wait_until(lambda: strict.in_flight()[0] == 2, "both requests are there")
            os.kill(caller.pid, signal.SIGSTOP)
            began = time.monotonic()
            wait_until(lambda: strict.in_flight()[0] == 1, "the frozen one's is given up")
            took = time.monotonic() - began
            caller.kill()
    assert took < 3.5  # keepalive, ping timeout, one second, and half of one for this machine
    nothing_left(strict)


def test_a_watcher_of_health_that_does_not_read_stops_nothing(
    few: Path, start: Callable[..., LiveServer]
) -> None:
    """Neither news for others, nor the end of the server."""
    live = start(few)
    with ExitStack() as stack:
        for _ in range(3):
            watcher = stack.enter_context(RawCaller(live.address, window=0))
            watcher.send(watcher.begin(HEALTH_WATCH), b"\0\0\0\0\0", last=True)
            watcher.listen(0.1)
        assert 0 == live.stop()


# -- floods ---------------------------------------------------------------------------------------


def test_resets_in_rapid_succession_hurt_nobody(strict: LiveServer) -> None:
    """Calls that are given up as soon as they are made cost their caller as much as the server."""
    stop = threading.Event()

    def storm() -> None:
        with RawCaller(strict.address) as caller:
            while not stop.is_set() and not caller.closed:
                caller.storm(50)
                caller.listen(0.005)

    attackers = [threading.Thread(target=storm) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    try:
        for _ in range(20):
            served(strict)
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    nothing_left(strict)


def test_a_header_without_an_end_takes_no_memory(strict: LiveServer) -> None:
    """The connection is closed at the limit of metadata."""
    before = own_mib(strict)
    with RawCaller(strict.address) as caller:
        caller.flood(64 * MIB)
        caller.listen(5)
        assert caller.closed
    assert own_mib(strict) < before + 32
    served(strict)


def test_a_path_that_is_no_text_is_one_that_is_not_there(strict: LiveServer) -> None:
    """And does not end the server."""
    with RawCaller(strict.address) as caller:
        number = caller.begin_bytes(b"/\xe3(/x")
        assert grpc.StatusCode.UNIMPLEMENTED.value[0] == caller.wait(number)
    served(strict)


# -- connections that are old ---------------------------------------------------------------------


def test_connections_of_a_second_lose_no_call(few: Path, start: Callable[..., LiveServer]) -> None:
    """Clients that do not retry make new ones all the time, and notice nothing."""
    live = start(
        few,
        "--model-scan=warn",
        "--max-connection-age-seconds=1",
        "--max-connection-idle-seconds=1",
    )
    done, failures = [], []
    until = time.monotonic() + 4

    def caller() -> None:
        with jitney_client.Client(live.address, retries=None, timeout=CALL_TIMEOUT) as client:
            x = np.ones((1, 4), np.float32)
            while time.monotonic() < until:
                try:
                    done.append(client.infer("same_fp32", {"x": x}))
                except jitney_client.Error as error:
                    failures.append(repr(error))

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert len(done) > 100


# -- the listener for health checks ---------------------------------------------------------------


def test_health_has_a_port_of_its_own(strict: LiveServer) -> None:
    """There and nothing else, so that it may be open to everybody."""
    (line,) = [line for line in strict.lines if line.startswith("health ")]
    with grpc.insecure_channel(line.split()[1]) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for name in ("", "readiness", "liveness", "same_fp32"):
            reply = check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_TIMEOUT)
            assert health_pb2.HealthCheckResponse.SERVING == reply.status
        for path in (INFER, pb.METHODS["ServerLive"].path):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"", timeout=CALL_TIMEOUT)
            assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()


def test_the_process_has_no_more_threads_than_it_needs(strict: LiveServer) -> None:
    """After all that was done to it."""
    served(strict)
    assert psutil.Process(strict.pid).num_threads() < 40
