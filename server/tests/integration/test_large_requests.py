"""Requests that no batch holds are answered as if one did."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from bad_requests import same, texts
from live_server import LiveServer, infer_request, wait_until
from tiny_models import POISON

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Busy = Callable[[LiveServer], AbstractContextManager[None]]

ROWS = 100


def answer(server: LiveServer, request: Any) -> tuple[list[int], bytes]:
    """Return the shape and the bytes of the only output."""
    reply = pb.ModelInferResponse.FromString(server.infer_raw(request.SerializeToString()))
    (output,) = reply.outputs
    (data,) = reply.raw_output_contents
    return list(output.shape), data


def numbers(first: int, last: int) -> Any:
    """Return a request of some of a hundred rows of numbers."""
    rows = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)[first:last]
    return infer_request("poison", x=rows)


def words(first: int, last: int) -> Any:
    """Return a request of some of a hundred rows of two texts, of which some are long."""
    elements = [f"{'ü' * (n % 7) * n} {n}".encode() for n in range(2 * first, 2 * last)]
    return texts([last - first, 2], *elements)


@pytest.mark.parametrize(("model", "make"), [("poison", numbers), ("same_bytes", words)])
def test_a_hundred_rows_are_answered_as_a_hundred_requests(
    server: LiveServer, model: str, make: Callable[[int, int], Any]
) -> None:
    """Where batches have eight rows, the reply has the shape and bytes of single ones, joined."""
    before = server.figures(model)
    shape, data = answer(server, make(0, ROWS))
    after = server.figures(model)
    singles = [answer(server, make(row, row + 1)) for row in range(ROWS)]

    assert [ROWS, *singles[0][0][1:]] == shape
    assert b"".join(single for _, single in singles) == data
    assert (1, ROWS, 13) == (
        after.inference_stats.success.count - before.inference_stats.success.count,
        after.inference_count - before.inference_count,
        after.execution_count - before.execution_count,
    )


def test_rows_too_large_for_one_slot_are_answered(server: LiveServer) -> None:
    """A request of more bytes than a slot is cut where its bytes ask for it."""
    rows = np.random.default_rng(0).random((8, 40_000), np.float32)
    assert ([8, 40_000], rows.tobytes()) == answer(
        server, same("same_fp32", "FP32", [8, 40_000], rows.tobytes())
    )
    long = [b"x" * size for size in (10, 600_000, 600_000, 10)]
    expected = b"".join(struct.pack("<I", len(text)) + text for text in long)
    assert ([4, 1], expected) == answer(server, texts([4, 1], *long))


def test_parts_share_batches_with_others(server: LiveServer, busy: Busy) -> None:
    """Behind a busy device, twelve rows and four requests of one row are less than six batches."""
    before = server.figures("poison").execution_count
    with busy(server):
        calls = [server.start_infer(numbers(0, 12))]
        calls += [server.start_infer(numbers(row, row + 1)) for row in range(4)]
        wait_until(lambda: server.in_flight()[0] == 6, "six requests are in flight")
    assert [12, 1, 1, 1, 1] == [call.result().outputs[0].shape[0] for call in calls]
    assert 6 > server.figures("poison").execution_count - before


def test_a_bad_row_fails_its_request_and_no_other(server: LiveServer, busy: Busy) -> None:
    """Poison in one part ends the whole with the model's error; neighbours are answered."""
    array = np.ones((20, 4), np.float32)
    array[13] = POISON
    with busy(server):
        call = server.start_infer(infer_request("poison", x=array))
        neighbour = server.start_infer(numbers(0, 1))
        wait_until(lambda: server.in_flight()[0] == 3, "three requests are in flight")
    assert grpc.StatusCode.INVALID_ARGUMENT is call.exception().code()
    assert "poisoned" in call.exception().details()
    assert [1, 4] == list(neighbour.result().outputs[0].shape)
    assert (0, 0) == server.in_flight()


def test_a_cancelled_request_takes_its_parts_along(server: LiveServer, busy: Busy) -> None:
    """Nothing of it waits afterwards."""
    before = server.figures("poison").execution_count
    with busy(server):
        call = server.start_infer(numbers(0, ROWS))
        wait_until(lambda: server.in_flight()[0] == 2, "it is in flight")
        call.cancel()
        wait_until(lambda: server.in_flight()[0] == 1, "it is gone")
        assert 0 == server.waiting("poison")
    server.infer_raw(numbers(0, 1).SerializeToString())
    # Its first part may have been on its way to the device already.
    assert 2 >= server.figures("poison").execution_count - before


def test_a_request_that_does_not_fit_into_the_queue_leaves_nothing_there(
    server: LiveServer, busy: Busy
) -> None:
    """Of a request of many parts all wait, or none."""
    with busy(server):
        first = server.start_infer(numbers(0, ROWS))
        wait_until(lambda: server.in_flight()[0] == 2, "the first one waits")
        waiting = server.waiting("poison")
        rows = np.zeros((4096, 4), np.float32)
        second = server.start_infer(infer_request("poison", x=rows))
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is second.exception().code()
        assert "Exceeds maximum queue size" in second.exception().details()
        assert waiting == server.waiting("poison")
    assert [ROWS, 4] == list(first.result().outputs[0].shape)
