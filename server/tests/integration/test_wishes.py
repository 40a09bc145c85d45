"""What callers may ask of the queue: a timeout, a priority, a tenant; and what refusals say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from live_server import LiveServer, infer_request, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Busy = Callable[[LiveServer], AbstractContextManager[None]]


def ask(model: str, **parameters: int) -> Any:
    """Return a request of one row with parameters of type int64."""
    request = infer_request(model, x=np.ones((1, 4), np.float32))
    for key, value in parameters.items():
        request.parameters[key].int64_param = value
    return request


def details(call: Any) -> tuple[str, float | None]:
    """Return the reason and the wait in the standard details of a failed call."""
    error = call.exception()
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (error.code().value[0], error.details()) == (status.code, status.message)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = [detail.Unpack(retry) for detail in status.details if not detail.Unpack(info)]
    assert trailers["jitney-reason"] == info.reason
    return info.reason, retry.retry_delay.ToMicroseconds() / 1e6 if found else None


@pytest.mark.parametrize(("model", "timeout"), [("same_fp32", 200_000), ("hasty", None)])
def test_a_timeout_ends_what_still_waits(
    server: LiveServer, busy: Busy, model: str, timeout: int | None
) -> None:
    """With the text that clients of the protocol compare, whoever asked: the request, the model."""
    wishes = {} if timeout is None else {"timeout": timeout}
    with busy(server):
        call = server.start_infer(ask(model, **wishes))
        code, text = call.exception().code(), call.exception().details()
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "Request timeout expired") == (code, text)
    assert ("EXPIRED", None) == details(call)
    assert 1 <= server.metric("jitney_rejected_total", model=model, reason="expired")


def test_a_timeout_is_over_once_the_batch_has_started(server: LiveServer, gate: Any) -> None:
    """Other than a deadline it does not bound the time on the device."""
    started = server.metric("jitney_batches_total", model="held")
    gate.shut()
    try:
        call = server.start_infer(ask("held", timeout=1_000_000))
        wait_until(lambda: server.metric("jitney_batches_total", model="held") > started, "it runs")
        with pytest.raises(grpc.FutureTimeoutError):
            call.result(timeout=1.2)
    finally:
        gate.open()
    assert [1, 4] == list(call.result().outputs[0].shape)


def test_a_full_queue_says_when_to_come_back(server: LiveServer, busy: Busy) -> None:
    """RESOURCE_EXHAUSTED carries RetryInfo, and the same wait for gRPC's own retries."""
    with busy(server):
        waiting = [server.start_infer(ask("short_queue")) for _ in range(4)]
        wait_until(lambda: server.waiting("short_queue") == 4, "four rows wait")
        call = server.start_infer(ask("short_queue"))
        reason, wait = details(call)
    trailers = dict(call.exception().trailing_metadata())
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is call.exception().code()
    assert ("QUEUE_FULL", int(trailers["grpc-retry-pushback-ms"])) == (reason, (wait or 0) * 1000)
    assert [1, 4] == list(waiting[0].result().outputs[0].shape)


def test_tenants_are_told_apart_by_a_metadata_key(
    few: Path, start: Callable[..., LiveServer], gate: Any
) -> None:
    """One tenant's flood is refused at its share, another one's request is taken."""
    live = start(few, "--tenant-metadata-key=x-tenant", "--max-inflight-requests=8")
    message = ask("held").SerializeToString()
    call = live.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    gate.shut()
    try:
        calls = [
            call.future(message, metadata=(("x-tenant", tenant),), timeout=30)
            for tenant in ("b", *"aaaaa")
        ]
        wait_until(lambda: any(each.done() for each in calls), "one is refused")
        (refused,) = [each for each in calls if each.done()]
        assert "TENANT_QUOTA" == details(refused)[0]
        last = call.future(message, metadata=(("x-tenant", "c"),), timeout=30)
        wait_until(lambda: live.in_flight()[0] == 6, "another tenant's request is taken")
        with pytest.raises(grpc.RpcError) as caught:
            call(message, metadata=(("x-tenant", "c" * 129),), timeout=30)
    finally:
        gate.open()
    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
    assert last.result()
    assert 1 == live.metric("jitney_rejected_total", model="held", reason="quota")
