from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from calls import error_of, tensors
from waiting import Stream

if TYPE_CHECKING:
    import tritonclient.grpc as triton
    from live_server import LiveServer


def value(number: int) -> Any:
    """Return the input of a sequence model."""
    return tensors(INPUT=np.array([[number]], np.int32))


def run(
    client: triton.InferenceServerClient, model: str, sequence_id: int, numbers: list[int]
) -> list[int]:
    """Send a whole sequence, one call after the other; return what came."""
    got = []
    for i, number in enumerate(numbers):
        result = client.infer(
            model,
            value(number),
            sequence_id=sequence_id,
            sequence_start=i == 0,
            sequence_end=i == len(numbers) - 1,
        )
        got.append(int(result.as_numpy("OUTPUT")[0, 0]))
    return got


def test_direct(client: triton.InferenceServerClient) -> None:
    """The first value has START."""
    assert [12, 7, 5] == run(client, "simple_sequence", 1001, [11, 7, 5])


def test_oldest(client: triton.InferenceServerClient) -> None:
    """The last value has END, and every one the correlation id."""
    assert [12, 7, 5 + 1002] == run(client, "simple_dyna_sequence", 1002, [11, 7, 5])


def test_one_request_is_start_and_end(client: triton.InferenceServerClient) -> None:
    """A sequence may have one request."""
    assert [1 + 1 + 77] == run(client, "simple_dyna_sequence", 77, [1])


def test_ids_may_come_again(client: triton.InferenceServerClient) -> None:
    """After its end an id is free."""
    assert run(client, "accumulate", 5, [1, 2, 3]) == run(client, "accumulate", 5, [1, 2, 3])


def test_state_is_kept_by_row(client: triton.InferenceServerClient) -> None:
    """A model that sums by row gets each sequence in a row of its own."""
    assert [1, 3, 6, 10] == run(client, "accumulate", 9, [1, 2, 3, 4])


def test_sequences_side_by_side(server: LiveServer) -> None:
    """More sequences than rows run to their ends, none seeing another's values."""
    # On a stream: calls of their own may overtake each other on their way to the server.
    with Stream(server.address) as stream:
        for step in range(5):
            for sequence in range(1, 11):
                stream.send(
                    "accumulate",
                    value(sequence),
                    request_id=str(sequence),
                    sequence_id=sequence,
                    sequence_start=step == 0,
                    sequence_end=step == 4,
                )
        got: dict[int, list[int]] = {}
        for _ in range(50):
            reply = stream.reply()
            number = int(reply.as_numpy("OUTPUT")[0, 0])
            got.setdefault(int(reply.get_response().id), []).append(number)
    assert {s: [s * n for n in range(1, 6)] for s in range(1, 11)} == got


def test_a_stream_of_two_sequences(server: LiveServer) -> None:
    """As the example client does: two sequences on one stream, replies by their ids."""
    numbers = [11, 7, 5, 3, 2, 0, 1]
    got: dict[str, list[int]] = {"a": [], "b": []}
    with Stream(server.address) as stream:
        for i, number in enumerate(numbers):
            for name, sequence, sign in (("a", 2001, 1), ("b", 2002, -1)):
                stream.send(
                    "simple_sequence",
                    value(sign * number),
                    request_id=name,
                    sequence_id=sequence,
                    sequence_start=i == 0,
                    sequence_end=i == len(numbers) - 1,
                )
        for _ in range(2 * len(numbers)):
            reply = stream.reply()
            got[reply.get_response().id].append(int(reply.as_numpy("OUTPUT")[0, 0]))
    assert {"a": [12, 7, 5, 3, 2, 0, 1], "b": [-10, -7, -5, -3, -2, 0, -1]} == got


def test_a_request_without_an_id(client: triton.InferenceServerClient) -> None:
    """A sequence model wants to know the sequence."""
    status, message = error_of(client.infer, "simple_sequence", value(1))
    assert "StatusCode.INVALID_ARGUMENT" == status
    assert (
        "inference request to model 'simple_sequence' must specify a non-zero or non-empty "
        "correlation ID"
    ) in message


def test_a_sequence_without_a_start(client: triton.InferenceServerClient) -> None:
    """The first request of a sequence has to say that it is."""
    status, message = error_of(client.infer, "simple_sequence", value(1), sequence_id=4711)
    assert "StatusCode.INVALID_ARGUMENT" == status
    assert (
        "inference request for sequence 4711 to model 'simple_sequence' must specify the START "
        "flag on the first request of the sequence"
    ) in message


def test_after_its_end(client: triton.InferenceServerClient) -> None:
    """A sequence that has ended is unknown."""
    run(client, "simple_sequence", 4712, [1, 2])
    message = error_of(client.infer, "simple_sequence", value(1), sequence_id=4712)[1]
    assert "must specify the START flag" in message


def test_a_start_begins_anew(client: triton.InferenceServerClient) -> None:
    """A START in the middle forgets what was before."""
    for _ in range(2):
        first = client.infer("accumulate", value(5), sequence_id=31, sequence_start=True)
        second = client.infer("accumulate", value(5), sequence_id=31)
        got = [int(result.as_numpy("OUTPUT")[0, 0]) for result in (first, second)]
        assert [5, 10] == got
    client.infer("accumulate", value(0), sequence_id=31, sequence_end=True)


def test_texts_as_ids(client: triton.InferenceServerClient) -> None:
    """An id may be a text where the model does not ask for a number."""
    first = client.infer("simple_sequence", value(1), sequence_id="mine", sequence_start=True)
    last = client.infer("simple_sequence", value(1), sequence_id="mine", sequence_end=True)
    assert [2, 1] == [int(r.as_numpy("OUTPUT")[0, 0]) for r in (first, last)]


def test_more_than_one_row(client: triton.InferenceServerClient) -> None:
    """A request of a sequence is one row."""
    status, message = error_of(
        client.infer,
        "simple_sequence",
        tensors(INPUT=np.zeros((2, 1), np.int32)),
        sequence_id=1,
        sequence_start=True,
    )
    assert ("StatusCode.INVALID_ARGUMENT", True) == (status, "batch-size" in message)


@pytest.mark.parametrize("model", ["simple_sequence", "simple_dyna_sequence", "accumulate"])
def test_ready(client: triton.InferenceServerClient, model: str) -> None:
    """A model with state is ready like any other."""
    assert client.is_model_ready(model)
