"""What our own client costs over a bare stub, and what a stream saves over single calls."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np

from benchmarks import models
from benchmarks.comparison import Ratio, Report, ratio_of, take_turns
from benchmarks.process import BenchmarkError, Round
from benchmarks.suite import CLOSED
from jitney_client import AsyncClient, Client
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from benchmarks.process import ServerProcess
    from benchmarks.stage import Stage

    Play = Callable[[float], Round]

__all__ = ["overhead", "streams"]

ELEMENTS: Final = 16
MODEL: Final = "identity"
IN_FLIGHT: Final = 64
OVERHEAD_BAR: Final = 40.0
"""Microseconds of CPU time per call."""
BARE, OURS = "bare stub", "our client"
UNARY, STREAM = "single calls", "stream"
METHOD: Final = pb.METHODS["ModelInfer"]


def overhead(stage: Stage) -> Report:
    """Compare the CPU time of one caller with our client, and with a stub and a ready message."""
    report = Report(
        "client",
        "CPU time of the caller per call, our client less a bare stub",
        {"model": f"{MODEL}, FP32 [1, {ELEMENTS}]", "arrivals": CLOSED, "concurrency": 1},
    )
    server = stage.server(models.build_identities(stage.folder / "repository"))
    array, request = _input()

    channel = stage.enter_context(grpc.insecure_channel(server.address))
    stub = channel.unary_unary(
        METHOD.path,
        request_serializer=METHOD.request.SerializeToString,
        response_deserializer=METHOD.response.FromString,
    )
    client = stage.enter_context(Client(server.address))
    meter = _Meter(server, array)
    sides: dict[str, Play] = {
        BARE: lambda seconds: meter.play(seconds, (stub(request) for _ in itertools.count())),
        OURS: lambda seconds: meter.play(
            seconds, (client.infer(MODEL, array) for _ in itertools.count())
        ),
    }
    _compare(stage, report, sides, "blocking")

    runner = stage.enter_context(asyncio.Runner())
    awaiting = runner.run(_connect(server.address))
    aio = awaiting.channel.unary_unary(
        METHOD.path,
        request_serializer=METHOD.request.SerializeToString,
        response_deserializer=METHOD.response.FromString,
    )

    async def bare() -> AsyncIterator[Any]:
        while True:
            yield await aio(request)

    async def ours() -> AsyncIterator[Any]:
        while True:
            yield await awaiting.client.infer(MODEL, array)

    sides = {
        BARE: lambda seconds: runner.run(meter.play_async(seconds, bare())),
        OURS: lambda seconds: runner.run(meter.play_async(seconds, ours())),
    }
    _compare(stage, report, sides, "asynchronous")
    runner.run(awaiting.close())
    return report


def streams(stage: Stage) -> Report:
    """Compare a stream with as many single calls in flight, both through our client."""
    report = Report(
        "client_stream",
        f"requests/s of a stream over single calls, {IN_FLIGHT} in flight",
        {"model": f"{MODEL}, FP32 [1, {ELEMENTS}]", "arrivals": CLOSED, "concurrency": IN_FLIGHT},
    )
    server = stage.server(models.build_identities(stage.folder / "repository"))
    array, _ = _input()
    client = stage.enter_context(Client(server.address))
    meter = _Meter(server, array)
    sides: dict[str, Play] = {
        UNARY: lambda seconds: meter.play(
            seconds,
            client.infer_many(MODEL, itertools.repeat(array), concurrency=IN_FLIGHT),
        ),
        STREAM: lambda seconds: meter.play(seconds, _streamed(client, array)),
    }
    _note_streams(report, take_turns(sides, stage.effort), "blocking")

    runner = stage.enter_context(asyncio.Runner())
    awaiting = runner.run(_connect(server.address))
    sides = {
        UNARY: lambda seconds: runner.run(
            meter.play_async(
                seconds,
                awaiting.client.infer_many(MODEL, itertools.repeat(array), concurrency=IN_FLIGHT),
            )
        ),
        STREAM: lambda seconds: runner.run(
            meter.play_async(seconds, _streamed_async(awaiting.client, array))
        ),
    }
    _note_streams(report, take_turns(sides, stage.effort), "asynchronous")
    runner.run(awaiting.close())
    return report


class _Meter:
    """Plays rounds in this process, whose CPU time is that of the caller; checks every answer."""

    def __init__(self, server: ServerProcess, array: np.ndarray[Any, Any]) -> None:
        self._server = server
        self._expected = array.tobytes()

    def play(self, seconds: float, answers: Iterator[Any]) -> Round:
        """Take answers for so long."""
        times: list[float] = []
        begun = self._begin()
        end = begun[0] + seconds
        for answer in answers:
            self._check(answer)
            times.append(time.perf_counter())
            if times[-1] >= end:
                break
        seen = self._round(begun, times)
        getattr(answers, "close", lambda: None)()
        return seen

    async def play_async(self, seconds: float, answers: AsyncIterator[Any]) -> Round:
        """Likewise."""
        times: list[float] = []
        begun = self._begin()
        end = begun[0] + seconds
        async for answer in answers:
            self._check(answer)
            times.append(time.perf_counter())
            if times[-1] >= end:
                break
        seen = self._round(begun, times)
        await answers.aclose()  # type: ignore[attr-defined]  # generators, all of them
        return seen

    def _begin(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), self._server.cpu_seconds()

    def _round(self, begun: tuple[float, float, float], times: Sequence[float]) -> Round:
        elapsed, own, served = (now - then for now, then in zip(self._begin(), begun, strict=True))
        # With many in flight these are the times between answers, which nobody should compare.
        gaps = sorted(b - a for a, b in itertools.pairwise([begun[0], *times]))
        p50, p99 = (1000 * gaps[int(share * (len(gaps) - 1))] for share in (0.5, 0.99))
        count = len(times)
        return Round(count, count / elapsed, p50, p99, 1000 * served / count, own / elapsed)

    def _check(self, answer: Any) -> None:  # noqa: ANN401  # a message or a result
        if isinstance(answer, pb.ModelInferResponse):
            data = answer.raw_output_contents[0]
        else:
            data = answer["y"].tobytes()
        if data != self._expected:
            msg = "a wrong answer"
            raise BenchmarkError(msg)


class _Awaiting:
    """A bare channel and our client, on one event loop."""

    def __init__(self, address: str) -> None:
        self.channel: Any = grpc.aio.insecure_channel(address)
        self.client = AsyncClient(address)

    async def close(self) -> None:
        """Close both."""
        await self.channel.close()
        await self.client.close()


async def _connect(address: str) -> _Awaiting:
    return _Awaiting(address)


def _input() -> tuple[np.ndarray[Any, Any], pb.ModelInferRequest]:
    array = np.arange(ELEMENTS, dtype=np.float32).reshape(1, ELEMENTS)
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return array, request


def _streamed(client: Client, array: np.ndarray[Any, Any]) -> Iterator[Any]:
    with client.stream(max_in_flight=IN_FLIGHT) as stream:
        open_ = deque(stream.submit(MODEL, array) for _ in range(IN_FLIGHT))
        while True:
            yield open_.popleft().result()
            open_.append(stream.submit(MODEL, array))


async def _streamed_async(client: AsyncClient, array: np.ndarray[Any, Any]) -> AsyncIterator[Any]:
    async with client.stream(max_in_flight=IN_FLIGHT) as stream:
        open_ = deque([await stream.submit(MODEL, array) for _ in range(IN_FLIGHT)])
        while True:
            yield await open_.popleft()
            open_.append(await stream.submit(MODEL, array))


def _compare(stage: Stage, report: Report, sides: dict[str, Play], words: str) -> None:
    rounds = take_turns(sides, stage.effort)
    report.rounds |= {f"{label}, {words}": seen for label, seen in rounds.items()}
    extra = [
        _caller_us(ours) - _caller_us(bare)
        for ours, bare in zip(rounds[OURS], rounds[BARE], strict=True)
    ]
    name = f"microseconds of CPU time per call over a bare stub, {words}"
    report.ratios.append(
        Ratio(name, statistics.median(extra), min(extra), max(extra), OVERHEAD_BAR, at_most=True)
    )


def _note_streams(report: Report, rounds: dict[str, list[Round]], words: str) -> None:
    report.rounds |= {f"{label}, {words}": seen for label, seen in rounds.items()}
    report.ratios.append(ratio_of(f"requests/s, {words}", rounds, STREAM, UNARY))
    name = f"server CPU per request, {words}"
    report.ratios.append(ratio_of(name, rounds, STREAM, UNARY, figure="cpu_ms"))
    shares = [
        _caller_us(stream) / _caller_us(unary)
        for stream, unary in zip(rounds[STREAM], rounds[UNARY], strict=True)
    ]
    name = f"caller CPU per request, {words}"
    report.ratios.append(
        Ratio(name, statistics.median(shares), min(shares), max(shares), None, at_most=True)
    )


def _caller_us(seen: Round) -> float:
    """Return the CPU microseconds of the caller per request."""
    return 1e6 * seen.caller_busy / seen.rate
