"""Requests share batches, and nothing else: neither shapes, nor deadlines, nor faults."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from live_server import LiveServer, infer_request, wait_until
from tiny_models import MAX_ROWS, POISON

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Busy = Callable[[LiveServer], AbstractContextManager[None]]


def ask(server: LiveServer, model: str, *shape: int, value: float = 0, **options: Any) -> Any:
    """Start a request to a model of one FP32 input ``x``; return gRPC's future."""
    array = np.full(shape, value, np.float32)
    return server.start_infer(infer_request(model, x=array), **options)


def answer(call: Any) -> np.ndarray[Any, Any]:
    """Return the only output of a reply."""
    reply = call.result()
    return np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(reply.outputs[0].shape)


def ending(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a call that fails ended."""
    return call.exception().code(), call.exception().details()


def wait_for_in_flight(server: LiveServer, count: int) -> None:
    """Return once the server is at work on so many requests."""
    wait_until(lambda: count == server.in_flight()[0], f"{count} requests are in flight")


def batches(server: LiveServer, model: str) -> dict[int, int]:
    """Return how many batches ran, by their rows."""
    stats = server.figures(model).batch_stats
    return {batch.batch_size: batch.compute_infer.count for batch in stats}


def test_what_waits_shares_batches(server: LiveServer, busy: Busy) -> None:
    """Twenty requests behind a busy device leave as 8, 8 and 4, and each gets its own answer."""
    before = server.figures("shared").execution_count
    with busy(server):
        calls = [ask(server, "shared", 1, 4, value=n) for n in range(20)]
        wait_for_in_flight(server, 21)
    assert [float(n + 1) for n in range(20)] == [answer(call)[0, 0] for call in calls]
    assert 3 == server.figures("shared").execution_count - before
    assert {8: 2, 4: 1} == batches(server, "shared")


def test_requests_keep_their_rows(server: LiveServer, busy: Busy) -> None:
    """Requests of 1, 2 and 3 rows are cut out of a shared batch where they were put into it."""
    before = server.figures("poison")
    with busy(server):
        calls = [ask(server, "poison", rows, 4, value=10 * rows) for rows in (1, 2, 3)]
        wait_for_in_flight(server, 4)
    answers = [answer(call) for call in calls]
    assert [((1, 4), 11), ((2, 4), 21), ((3, 4), 31)] == [(a.shape, a.max()) for a in answers]
    assert all(a.min() == a.max() for a in answers)
    after = server.figures("poison")
    assert (6, 1) == (
        after.inference_count - before.inference_count,
        after.execution_count - before.execution_count,
    )


def test_shapes_do_not_mix(server: LiveServer, busy: Busy) -> None:
    """Requests of three lengths, interleaved, run as three batches of equal lengths."""
    before = server.figures("joined").execution_count
    with busy(server):
        calls = []
        for number in range(12):
            length = 2 + number % 3
            a = np.full((1, length), number, np.float32)
            calls.append(server.start_infer(infer_request("joined", a=a, b=2 * a)))
        wait_for_in_flight(server, 13)
    expected = [[3.0 * number] * (2 + number % 3) for number in range(12)]
    assert expected == [answer(call)[0].tolist() for call in calls]
    assert 3 == server.figures("joined").execution_count - before


def test_a_model_waits_for_company_if_told_to(server: LiveServer) -> None:
    """With max_queue_delay_ms, two requests in a row share a batch on an idle device."""
    calls = [ask(server, "patient", 1, 4, value=n) for n in range(2)]
    assert [1.0, 2.0] == [answer(call)[0, 0] for call in calls]
    assert {2: 1} == batches(server, "patient")


def test_rows_that_would_mix_run_alone(server: LiveServer, busy: Busy) -> None:
    """A model that takes the mean over its batch answers each request as if it were alone."""
    with busy(server):
        calls = [ask(server, "centred", 1, 4, value=n) for n in range(3)]
        wait_for_in_flight(server, 4)
    assert [0.0] * 3 == [float(answer(call).max()) for call in calls]
    assert {1: 3} == batches(server, "centred")


def test_the_rows_of_one_request_run_together(server: LiveServer) -> None:
    """Where rows influence each other, those of a request are one batch, as its caller means."""
    values = np.array([[1.0] * 4, [3.0] * 4], np.float32)
    result = server.client.infer("centred", {"x": values})["y"]
    np.testing.assert_array_equal([[-1.0] * 4, [1.0] * 4], result)


def test_a_request_that_is_too_late_never_runs(server: LiveServer, busy: Busy) -> None:
    """Behind a batch that takes longer than its deadline, it ends by the deadline and not by it."""
    before = server.figures("same_fp32")
    with busy(server):
        call = ask(server, "same_fp32", 1, 4, timeout=0.2)
        code, text = ending(call)
        wait_for_in_flight(server, 1)
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, True) == (code, "Deadline Exceeded" in text)
    after = server.figures("same_fp32")
    assert (before.inference_count, before.execution_count, before.inference_stats.fail.count) == (
        after.inference_count,
        after.execution_count,
        after.inference_stats.fail.count - 1,
    )


def test_a_late_neighbour_costs_nothing(server: LiveServer, busy: Busy) -> None:
    """Of two requests in one queue, one expires and the other is answered, in a batch of one."""
    before = server.figures("same_fp32")
    with busy(server):
        late, patient = (ask(server, "same_fp32", 1, 3, value=7, timeout=t) for t in (0.2, 30))
        late.exception()
        wait_for_in_flight(server, 2)
    assert [7.0] * 3 == answer(patient)[0].tolist()
    after = server.figures("same_fp32")
    assert 1 == after.inference_count - before.inference_count


def test_cancelled_while_it_waits(server: LiveServer, busy: Busy) -> None:
    """Cancelled requests leave the queue at once; their neighbours do not notice."""
    before = server.figures("same_fp32")
    with busy(server):
        calls = [ask(server, "same_fp32", 1, 2, value=n) for n in range(4)]
        wait_for_in_flight(server, 5)
        for call in calls[:2]:
            call.cancel()
        wait_for_in_flight(server, 3)
        assert 2 == server.waiting("same_fp32")
    assert [2.0, 3.0] == [answer(call)[0, 0] for call in calls[2:]]
    after = server.figures("same_fp32")
    assert (2, 1) == (
        after.inference_count - before.inference_count,
        after.execution_count - before.execution_count,
    )
    assert (0, 0) == server.in_flight()


def test_cancelled_while_it_runs(server: LiveServer, gate: Any) -> None:
    """A request cancelled in its batch counts as gone at once; the device is free afterwards."""
    before = server.metric("jitney_cancelled_total", model="held", stage="running")
    started = server.metric("jitney_batches_total", model="held")
    gate.shut()
    try:
        call = ask(server, "held", 1, 4)
        wait_until(lambda: server.metric("jitney_batches_total", model="held") > started, "it runs")
        call.cancel()
        wait_for_in_flight(server, 0)
    finally:
        gate.open()
    assert before + 1 == server.metric("jitney_cancelled_total", model="held", stage="running")
    assert 5.0 == answer(ask(server, "same_fp32", 1, 1, value=5))[0, 0]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_poison_fails_alone(server: LiveServer, busy: Busy, place: int) -> None:
    """A request that makes the model raise is found in its batch; its neighbours are answered."""
    poison = POISON + place  # not the same again and again, which is refused before it is run
    with busy(server):
        calls = [
            ask(server, "poison", 1, 4, value=poison if n == place else n) for n in range(MAX_ROWS)
        ]
        wait_for_in_flight(server, MAX_ROWS + 1)
    neighbours = [n for n in range(MAX_ROWS) if n != place]
    assert [n + 1.0 for n in neighbours] == [answer(calls[n])[0, 0] for n in neighbours]
    code, text = ending(calls[place])
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert "poisoned" in text
    assert not {"Traceback", "/", ".py"} & set(text.split())
    assert (0, 0) == server.in_flight()


def test_only_poison_is_answered_too(server: LiveServer, busy: Busy) -> None:
    """A batch of nothing but poison ends every request, and the worker goes on."""
    with busy(server):
        calls = [ask(server, "poison", 1, 4, value=POISON + 100 + n) for n in range(MAX_ROWS)]
        wait_for_in_flight(server, MAX_ROWS + 1)
    assert {grpc.StatusCode.INVALID_ARGUMENT} == {ending(call)[0] for call in calls}
    assert 2.0 == answer(ask(server, "poison", 1, 4, value=1))[0, 0]


def test_a_full_queue_refuses(server: LiveServer, busy: Busy) -> None:
    """Past max_queue_size a request is refused at once, with advice when to come back."""
    with busy(server):
        calls = [ask(server, "short_queue", 2, 4, value=n) for n in range(2)]
        wait_for_in_flight(server, 3)
        refused = ask(server, "short_queue", 1, 4)
        code, text = ending(refused)
        trailers = dict(refused.exception().trailing_metadata())
    assert (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Exceeds maximum queue size: 4 rows of model 'short_queue' are waiting, the limit is 4",
    ) == (code, text)
    assert ("QUEUE_FULL", True) == (
        trailers["jitney-reason"],
        int(trailers["grpc-retry-pushback-ms"]) > 0,
    )
    assert [1.0, 2.0] == [answer(call)[0, 0] for call in calls]


def test_a_storm_is_answered_right(server: LiveServer) -> None:
    """Hundreds of requests of mixed models, rows and lengths: every answer is the right one."""
    draw = random.Random(7)  # noqa: S311  # not for secrets
    sent = []
    for _ in range(400):
        rows, value = draw.randint(1, MAX_ROWS), draw.randint(0, 1000)
        model, length, plus = draw.choice([("same_fp32", draw.randint(1, 5), 0), ("poison", 4, 1)])
        call = ask(server, model, rows, length, value=value)
        sent.append((call, np.full((rows, length), value + plus, np.float32)))
    assert all(np.array_equal(expected, answer(call)) for call, expected in sent)
    assert (0, 0) == server.in_flight()
