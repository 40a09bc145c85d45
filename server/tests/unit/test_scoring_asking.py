"""Rows are asked about again where that helps, and the one at fault is found."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, doubling, error

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.scoring.asking import Asker, BadReply, Wishes
from jitney.scoring.model import Tensor, look_up
from jitney.scoring.quarantine import Quarantine
from jitney_client import (
    DeadlineExceeded,
    ModelFault,
    ModelLoading,
    ModelNotFound,
    NotSupported,
    QueueFull,
    Unavailable,
    WorkerLost,
)
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from jitney.scoring.asking import Answer
    from jitney_client import JitneyError

POISON = 13.0


def rows(*firsts: float) -> dict[str, Any]:
    """Return inputs whose rows begin so."""
    return {"x": np.array([[first, 0] for first in firsts], np.float32)}


class Asked:
    """An asker, and how long it would have slept."""

    def __init__(self, endpoint: FakeEndpoint, **wishes: Any) -> None:
        self.slept: list[float] = []
        self.asker = Asker(endpoint, doubling(8), Wishes(**wishes), self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def __call__(self, *firsts: float) -> Answer:
        """Ask, and return the answer."""
        return asyncio.run(self.asker.ask(rows(*firsts), len(firsts)))


def outputs(answer: Answer) -> list[float | None]:
    """Return the first element of each row's output."""
    return [None if row is None else float(row[0]) for row in answer.outputs["y"]]


def test_rows_go_together() -> None:
    """Where nothing is wrong, one request has them all."""
    endpoint = FakeEndpoint()

    answer = Asked(endpoint)(1, 2, 3)

    assert ([2.0, 4.0, 6.0], {}) == (outputs(answer), answer.errors)
    assert [[1.0, 2.0, 3.0]] == endpoint.sent
    assert [{"version": "1", "outputs": ("y",)}] == endpoint.options


def test_wishes_go_along() -> None:
    """A file may stand back behind callers who wait."""
    endpoint = FakeEndpoint()

    Asked(endpoint, priority=5, tenant="night")(1)

    assert {"priority": 5, "tenant": "night"}.items() <= endpoint.options[0].items()


@pytest.mark.parametrize("place", range(8))
def test_one_bad_row_is_found(place: int) -> None:
    """Wherever it is, the others have their result, after as few requests as halves need."""
    endpoint = FakeEndpoint()
    firsts = [float(i) for i in range(8)]
    firsts[place] = -1.0

    answer = Asked(endpoint)(*firsts)

    expected = [None if first < 0 else 2 * first for first in firsts]
    assert (expected, {place: "row with -1"}) == (outputs(answer), answer.errors)
    assert 7 == len(endpoint.sent)


def test_every_row_may_be_bad() -> None:
    """Then none has a result, and each has its reason."""
    answer = Asked(FakeEndpoint())(-1, -1, -1)

    assert ([None] * 3, dict.fromkeys(range(3), "row with -1")) == (outputs(answer), answer.errors)


def test_a_model_that_fails_for_a_row_is_no_end() -> None:
    """A fault of the model is told like a fault of the row: who knows which of them it is."""
    endpoint = FakeEndpoint(lambda f: error(ModelFault, "log of 0") if 0.0 in f else None)

    assert {1: "log of 0"} == Asked(endpoint)(5, 0, 6).errors


@pytest.mark.parametrize("kind", [ModelNotFound, NotSupported, DeadlineExceeded])
def test_what_is_not_about_rows_ends_it(kind: type[JitneyError]) -> None:
    """It would be the same for every row of the file."""
    endpoint = FakeEndpoint(lambda _: error(kind))

    with pytest.raises(kind):
        Asked(endpoint)(1, 2)
    assert 1 == len(endpoint.sent)


def test_what_passes_is_waited_for() -> None:
    """By the server's advice, or longer each time without any."""
    endpoint = FakeEndpoint()
    endpoint.failures = [
        error(QueueFull, retry_after=0.7),
        error(Unavailable),
        error(ModelLoading),
    ]
    asked = Asked(endpoint)

    assert [2.0] == outputs(asked(1))
    assert [0.7, 0.2, 0.4] == asked.slept


def test_patience_ends() -> None:
    """A server that stays away ends the run, with its own error."""
    endpoint = FakeEndpoint(lambda _: error(Unavailable, "gone"))
    asked = Asked(endpoint, patience=1.0)

    with pytest.raises(Unavailable, match="gone"):
        asked(1)
    assert [0.1, 0.2, 0.4] == asked.slept


def poisoned(endpoint: FakeEndpoint) -> None:
    """Let a row that begins with 13 kill the worker, and whatever runs beside it die with it."""

    async def infer(model: str, inputs: Any, **options: Any) -> Any:
        endpoint.poison += POISON in inputs["x"]  # type: ignore[attr-defined]  # our own count
        try:
            result = await FakeEndpoint.infer(endpoint, model, inputs, **options)
        finally:
            killed = endpoint.poison > 0  # type: ignore[attr-defined]
            endpoint.poison -= POISON in inputs["x"]  # type: ignore[attr-defined]
        if killed:
            raise error(WorkerLost, "the worker died")
        return result

    endpoint.poison = 0  # type: ignore[attr-defined]
    endpoint.infer = infer  # type: ignore[method-assign]


def test_a_row_that_kills_the_worker_is_found() -> None:
    """Only it is bad: what died with it is sent again, alone, and has its result."""
    endpoint = FakeEndpoint()
    poisoned(endpoint)
    asker = Asker(endpoint, doubling(8), Wishes())

    async def side_by_side() -> list[Answer]:
        parts = ([1.0, 2.0], [3.0, POISON, 4.0], [5.0, 6.0])
        return await asyncio.gather(*(asker.ask(rows(*part), len(part)) for part in parts))

    answers = asyncio.run(side_by_side())

    assert [[2, 4], [6, None, 8], [10, 12]] == [outputs(answer) for answer in answers]
    assert [{}, {1: "the worker died"}, {}] == [answer.errors for answer in answers]
    # Together, and alone: each costs the server a worker.
    assert 2 == sum(POISON in sent for sent in endpoint.sent)
    assert 3 == endpoint.together


def test_a_model_without_a_batch_dimension_gets_each_row() -> None:
    """The row is the whole tensor, in and out."""
    endpoint = FakeEndpoint()
    asker = Asker(endpoint, doubling(1, batched=False), Wishes())

    answer = asyncio.run(asker.ask(rows(1), 1))

    assert [2.0] == outputs(answer)


def test_bf16_is_rounded_when_it_is_sent() -> None:
    """NumPy has no such type, so the client's own stands for it."""
    sent: list[Any] = []

    class Noting(FakeEndpoint):
        async def infer(self, model: str, inputs: Any, **options: Any) -> Any:
            sent.append(inputs["x"])
            values = np.asarray(inputs["x"].bits, np.float32)
            return await super().infer(model, {"x": values}, **options)

    model = doubling(8, inputs=(Tensor("x", DataType.BF16, (2,)),))
    asyncio.run(Asker(Noting(), model, Wishes()).ask(rows(1), 1))

    assert ["Bfloat16"] == [type(value).__name__ for value in sent]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (lambda y: y[:-1], r"y: the reply to 2 rows has the shape \[1, 2\], not \[2, 2\]"),
        (lambda y: y.sum(axis=1), r"has the shape \[2\], not \[2, 2\]"),
        (lambda y: y.reshape(1, -1), r"has the shape \[1, 4\]"),
    ],
)
def test_a_reply_without_its_rows_ends_it(shape: Any, text: str) -> None:
    """A model that mixes rows cannot be used row by row, and nobody shall believe it was."""
    endpoint = FakeEndpoint()
    endpoint.shape = shape

    with pytest.raises(BadReply, match=text):
        Asked(endpoint)(1, 2)


def test_who_is_alone_waits_for_the_others_and_they_for_him() -> None:
    """Nothing begins while somebody is alone, and that begins when nothing runs."""
    order: list[str] = []

    async def scene() -> None:
        quarantine = Quarantine()
        release = asyncio.Event()

        async def sharing(name: str) -> None:
            async with quarantine.shared():
                order.append(f"{name} in")
                await release.wait()
                order.append(f"{name} out")

        async def alone() -> None:
            async with quarantine.alone():
                order.append(f"alone in, {quarantine!r}")
                await asyncio.sleep(0)
                order.append("alone out")

        first = asyncio.create_task(sharing("a"))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(alone()), asyncio.create_task(sharing("b"))]
        for _ in range(5):
            await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *tasks)
        assert "<Quarantine 0 together>" == repr(quarantine)

    asyncio.run(scene())

    assert ["a in", "a out", "alone in, <Quarantine alone>", "alone out", "b in", "b out"] == order


def test_giving_up_to_be_alone_lets_others_on() -> None:
    """A cancelled wait leaves nothing behind."""

    async def scene() -> str:
        quarantine = Quarantine()
        async with quarantine.shared():
            waiting = asyncio.create_task(quarantine.alone().__aenter__())
            for _ in range(3):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with quarantine.shared():
                return repr(quarantine)

    assert "<Quarantine 2 together>" == asyncio.run(scene())


# -- what is known before --------------------------------------------------------------------------


def test_the_newest_version_is_taken_and_kept() -> None:
    """By number, not by text: 10 is newer than 2."""
    model = asyncio.run(look_up(FakeEndpoint(), "double", ""))

    assert ("10", 4, True) == (model.version, model.rows, model.batched)
    assert (Tensor("x", DataType.FP32, (2,)),) == model.inputs


def test_a_server_without_configuration_gets_single_rows() -> None:
    """It tells nothing of batches, so nothing is assumed."""

    class Terse(FakeEndpoint):
        async def config(self, model: str, *, version: str = "") -> pb.ModelConfig:
            raise NotSupported(model + version, code=grpc.StatusCode.UNIMPLEMENTED)

    model = asyncio.run(look_up(Terse(), "double", "3"))

    assert ("3", 1, False, (-1, 2)) == (
        model.version,
        model.rows,
        model.batched,
        model.inputs[0].dims,
    )


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            pb.ModelConfig(model_transaction_policy=pb.ModelTransactionPolicy(decoupled=True)),
            "double answers a request any number of times",
        ),
        (
            pb.ModelConfig(sequence_batching=pb.ModelSequenceBatching()),
            "double keeps state between the requests of a sequence",
        ),
    ],
)
def test_models_that_do_not_score_rows_are_refused(config: pb.ModelConfig, text: str) -> None:
    """Before anything is sent to them."""

    class Other(FakeEndpoint):
        async def config(self, model: str, *, version: str = "") -> pb.ModelConfig:
            del model, version
            return config

    with pytest.raises(ConfigError, match=text):
        asyncio.run(look_up(Other(), "double", "1"))


def test_an_output_that_is_not_there_is_said() -> None:
    """And which there are."""
    with pytest.raises(ConfigError, match="--output z: double has the outputs y"):
        asyncio.run(look_up(FakeEndpoint(), "double", "1", ["y", "z"]))


def test_a_datatype_that_nobody_knows_is_said() -> None:
    """Of servers of the protocol, some have types of their own."""

    class Other(FakeEndpoint):
        async def metadata(self, model: str, *, version: str = "") -> pb.ModelMetadataResponse:
            reply = await super().metadata(model, version=version)
            reply.outputs[0].datatype = "JSON"
            return reply

    with pytest.raises(ConfigError, match="double: y is JSON, which is no datatype"):
        asyncio.run(look_up(Other(), "double", "1"))
