"""Models that keep state between requests are told which is which, and nobody else's state."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from live_server import CALL_TIMEOUT, LiveServer, infer_request, wait_until
from sequence_models import write_sequence_models

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@pytest.fixture(scope="module")
def sequence_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of models with sequences."""
    root = tmp_path_factory.mktemp("sequences")
    write_sequence_models(root)
    return root


@pytest.fixture(scope="module")
def sequences(
    sequence_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """Return a server of them."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with LiveServer(sequence_models, log) as live:
        yield live


def request(
    model: str,
    sequence: int | str,
    value: float,
    *,
    start: bool = False,
    end: bool = False,
    shape: Sequence[int] = (1, 1),
) -> Any:
    """Return a request of a sequence, as clients of the protocol write it."""
    integers = model.startswith("simple")
    array = np.full(shape, value, np.int32 if integers else np.float32)
    message = infer_request(model, **{"INPUT" if integers else "x": array})
    if isinstance(sequence, str):
        message.parameters["sequence_id"].string_param = sequence
    else:
        message.parameters["sequence_id"].int64_param = sequence
    message.parameters["sequence_start"].bool_param = start
    message.parameters["sequence_end"].bool_param = end
    return message


def number(reply: Any, model: str) -> float:
    """Return the one number of a reply."""
    (data,) = reply.raw_output_contents
    (value,) = np.frombuffer(data, np.int32 if model.startswith("simple") else np.float32)
    return float(value)


def run(
    server: LiveServer, model: str, sequence: int | str, values: Sequence[float], **options: Any
) -> list[float]:
    """Send a whole sequence, one request after the other; return what came back."""
    answers = []
    for at, value in enumerate(values):
        message = request(
            model, sequence, value, start=at == 0, end=at == len(values) - 1, **options
        )
        reply = pb.ModelInferResponse.FromString(server.infer_raw(message.SerializeToString()))
        answers.append(number(reply, model))
    return answers


def refusal(server: LiveServer, message: Any) -> tuple[Any, str]:
    """Return the code and the text with which a request is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        server.infer_raw(message.SerializeToString())
    return caught.value.code(), caught.value.details()


def test_the_public_examples_answer_as_they_should(sequences: LiveServer) -> None:
    """The start is added, and the id at the end; with texts the values add up as well."""
    assert [12, 7, 5, 3] == run(sequences, "simple_sequence", 1001, [11, 7, 5, 3])
    assert [12, 7, 1010] == run(sequences, "simple_dyna_sequence", 1007, [11, 7, 3])
    assert [11, 18, 1028] == run(sequences, "simple_string_dyna_sequence", "1007", [11, 7, 3])


@pytest.mark.parametrize("model", ["sum_by_row", "sum_by_identity"])
def test_every_sequence_adds_up_by_itself(sequences: LiveServer, model: str) -> None:
    """More sequences than there are places, all at once and each ahead of itself, in order.

    Each has a stream: only there are requests in the order in which they were sent.
    """
    chance = random.Random(0)  # noqa: S311  # data, not a secret
    values = {1 + n: [float(chance.randint(1, 1000)) for _ in range(12)] for n in range(20)}
    before = sequences.figures(model)
    method = pb.METHODS["ModelStreamInfer"]
    stream = sequences.channel.stream_stream(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
    replies = {
        sequence: stream(
            iter(
                [
                    request(model, sequence, value, start=at == 0, end=at == 11)
                    for at, value in enumerate(numbers)
                ]
            ),
            timeout=CALL_TIMEOUT,
        )
        for sequence, numbers in values.items()
    }
    answers = {
        sequence: [number(reply.infer_response, model) for reply in its]
        for sequence, its in replies.items()
    }
    after = sequences.figures(model)

    assert {sequence: list(np.cumsum(numbers)) for sequence, numbers in values.items()} == answers
    assert 240 == after.inference_count - before.inference_count
    assert after.execution_count - before.execution_count < 240  # they shared batches


def test_a_place_is_clean_for_who_comes_next(sequences: LiveServer) -> None:
    """A sequence never begins with the state of the one that had its row."""
    for sequence in range(100, 110):
        assert [1, 3, 6] == run(sequences, "sum_by_row", sequence, [1, 2, 3])


def test_a_start_begins_anew(sequences: LiveServer) -> None:
    """Without an END before it, of the same id."""
    model, answers = "sum_by_identity", []
    for value, start in ((5, True), (6, False), (7, True), (8, False)):
        message = request(model, 77, value, start=start, end=value == 8)
        answers.append(number(sequences.start_infer(message).result(), model))
    assert [5, 11, 7, 15] == answers


def test_what_is_no_sequence_is_refused_in_known_words(sequences: LiveServer) -> None:
    """No id, no START, several rows, and an id that the model cannot be told."""
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    to_model = "inference request to model 'sum_by_row' must specify "
    unstarted = (
        "inference request for sequence 9 to model 'sum_by_row' must specify the START flag on "
        "the first request of the sequence"
    )
    several = "batch-size 1 due to requirements of sequence batcher"
    for message, expected in (
        (
            request("sum_by_row", 0, 1, start=True),
            f"{to_model}a non-zero or non-empty correlation ID",
        ),
        (request("sum_by_row", 9, 1), unstarted),
        (request("sum_by_row", 9, 1, start=True, shape=(2, 1)), f"{to_model}{several}"),
    ):
        assert (invalid, expected) == refusal(sequences, message)
    code, text = refusal(sequences, request("simple_dyna_sequence", "nine", 1, start=True))
    assert (invalid, True) == (code, "is a text, and model 'simple_dyna_sequence'" in text)


def test_controls_are_not_for_clients(sequences: LiveServer) -> None:
    """They are neither shown nor taken."""
    metadata = sequences.call("ModelMetadata", pb.ModelMetadataRequest(name="sum_by_row"))
    assert ["x"] == [tensor.name for tensor in metadata.inputs]
    message = infer_request(
        "sum_by_row", x=np.ones((1, 1), np.float32), START=np.ones((1, 1), np.bool_)
    )
    code, text = refusal(sequences, message)
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (
        code,
        "unexpected inference input 'START'" in text,
    )


def test_an_idle_sequence_gives_its_place_to_the_next(sequences: LiveServer) -> None:
    """A model without a batch dimension has one place, which is free after an idle while."""
    model = "sum_of_one"
    first = request(model, 1, 5, start=True, shape=(1,))
    assert 5 == number(sequences.start_infer(first).result(), model)
    assert [2, 4] == run(sequences, model, 2, [2, 2], shape=(1,))  # waits, here for 100 ms
    code, text = refusal(sequences, request(model, 1, 5, shape=(1,)))
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, "START flag" in text)


def test_a_lost_worker_ends_its_sequences(
    sequence_models: Path, start: Callable[..., LiveServer]
) -> None:
    """Nothing is continued on a worker that does not know it; it can be started again."""
    server = start(sequence_models)
    model = "sum_by_row"
    for sequence in (1, 2):
        server.start_infer(request(model, sequence, 5, start=True)).result()
    before = set(server.workers())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: bool(set(server.workers()) - before) and server.client.model_ready(model),
        "another worker has the model",
    )

    for sequence in (1, 2):
        code, text = refusal(server, request(model, sequence, 6))
        assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, "START flag" in text)
        assert [7, 15] == run(server, model, sequence, [7, 8])
