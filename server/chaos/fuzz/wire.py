"""Wounded messages to every RPC of a live server, and wounded HTTP/2 to its port."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import time
from typing import TYPE_CHECKING, Final

from benchmarks.workload import INFER

from chaos.faulty_model import FaultyModel
from chaos.history import OK, History
from chaos.load import Endless, open_loop
from chaos.verdict import percentile
from jitney.loadgen.connection import LOST, RESET_BY_SERVER, OpenConnection, template
from jitney.loadgen.frames import END_HEADERS, HEADERS, data_frame, frame, greeting
from jitney.loadgen.hpack import HeaderWriter
from jitney.testing.mutations import mutations
from jitney.testing.sim_model import SimModel, write_sim_model
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.arena import Arena
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict

__all__ = ["fuzz_frames", "fuzz_messages"]

MODEL: Final = "echo"
MAX_ROWS: Final = 8
AT_ONCE: Final = 50
UNKNOWN, INTERNAL = 2, 13
POLITE_RATE: Final = 20.0
TIMEOUT: Final = 10.0
HANG: Final = 1.0
QUIET: Final = 20.0
CONNECT_TIMEOUT: Final = 5.0
GREETED_SHARE: Final = 0.9


class Tally:
    """A ``loadgen.connection.Ledger``: counts ends by code, and how long the longest took."""

    def __init__(self) -> None:
        self.codes: collections.Counter[int] = collections.Counter()
        self.slowest = 0.0
        self.open: dict[int, tuple[float, str, bytes]] = {}
        self.suspects: list[str] = []
        self.room = asyncio.Semaphore(AT_ONCE)

    def ended(self, number: int, at: float, code: int, reason: bytes, body: bytes) -> None:  # noqa: ARG002  # the protocol's
        """Count an end."""
        began, path, message = self.open.pop(number)
        self.codes[code] += 1
        self.slowest = max(self.slowest, at - began)
        if code in (UNKNOWN, INTERNAL, LOST, RESET_BY_SERVER) and len(self.suspects) < 20:
            method = path.rpartition("/")[2]
            self.suspects.append(f"{method} {message[:200].hex()}: {code} {body[:200]!r}")
        self.room.release()


async def fuzz_messages(
    arena: Arena, verdict: Verdict, *, count: int, seed: int = 1, infer_share: float = 0.7
) -> None:
    """Send wounded requests of every unary RPC; most of them are of ModelInfer."""
    server = await _server(arena)
    polite, polite_numbers, running = _polite(arena, server)
    tally, rng = Tally(), random.Random(seed)  # noqa: S311  # not a secret
    before = server.resources()
    connection = OpenConnection(tally)
    await connection.connect(server.address)
    sources = {path: mutations(corpus, 2 * count, seed) for path, corpus in _corpora().items()}
    others = [path for path in sources if path != INFER]
    began = time.monotonic()
    for number in range(count):
        path = INFER if rng.random() < infer_share else rng.choice(others)
        message = next(sources[path])
        await tally.room.acquire()
        tally.open[number] = (time.monotonic(), path, message)
        connection.send(number, template(path, server.address, message))
        connection.flush()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT):
            for _ in range(AT_ONCE):
                await tally.room.acquire()
    seconds = time.monotonic() - began
    connection.close()
    polite_numbers.over = True
    await running
    verdict.exactly("without an end", count - sum(tally.codes.values()), 0)
    verdict.exactly("ended INTERNAL", tally.codes[INTERNAL], 0)
    verdict.exactly("ended UNKNOWN", tally.codes[UNKNOWN], 0)
    verdict.exactly(
        "connections or calls reset", tally.codes[LOST] + tally.codes[RESET_BY_SERVER], 0
    )
    verdict.at_most("slowest call", tally.slowest, HANG, "s")
    for suspect in tally.suspects:
        verdict.note(suspect)
    _judge(verdict, server, polite)
    verdict.tell("messages", count)
    verdict.tell("rate", count / seconds, "messages/s")
    verdict.tell(
        "memory more than before", (server.resources().rss - before.rss) / (1 << 20), "MiB"
    )
    verdict.facts |= {"codes": {str(code): n for code, n in sorted(tally.codes.items())}}


async def fuzz_frames(
    arena: Arena, verdict: Verdict, *, count: int, rate: float, seed: int = 1
) -> None:
    """Open connections and send wounded HTTP/2: a greeting, headers, a message.

    :param rate: connections per second; as many as can be are a flood, which is another matter.
    """
    server = await _server(arena)
    polite, polite_numbers, running = _polite(arena, server)
    before = server.resources()
    (message, *_) = _corpora()[INFER]
    headers = template(INFER, server.address, b"").headers
    hello = greeting()
    block = HeaderWriter().block(headers)
    whole = [
        frame(HEADERS, END_HEADERS, 1, block) + _on_stream(data_frame(message), 1),
        b"".join(
            frame(HEADERS, END_HEADERS, stream, block) + _on_stream(data_frame(message), stream)
            for stream in (1, 3, 5)
        ),
    ]
    began = time.monotonic()
    rng = random.Random(seed)  # noqa: S311  # not a secret
    wounded = mutations(whole, count, seed)
    gate = asyncio.Semaphore(AT_ONCE)

    async def send(_: int) -> None:
        async with gate:
            # Mostly behind a good greeting: without one nothing is read.
            data = (hello if rng.random() < GREETED_SHARE else b"") + next(wounded)
            with contextlib.suppress(OSError, TimeoutError):
                await _send_raw(server.port, data)

    await open_loop(send, rate, float("inf"), numbers=iter(range(count)))
    seconds = time.monotonic() - began
    polite_numbers.over = True
    await running
    _judge(verdict, server, polite)
    left = await arena.until(
        lambda: server.resources().descriptors <= before.descriptors + 2, QUIET
    )
    verdict.at_most("descriptors back to before after", left, QUIET, "s")
    verdict.tell("connections", count)
    verdict.tell("rate", count / seconds, "connections/s")
    verdict.tell(
        "memory more than before", (server.resources().rss - before.rss) / (1 << 20), "MiB"
    )


async def _send_raw(port: int, data: bytes) -> None:
    async with asyncio.timeout(CONNECT_TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            await writer.drain()
            await reader.read(1 << 14)
        finally:
            writer.transport.abort()


def _on_stream(data: bytes, stream: int) -> bytes:
    return data[:5] + stream.to_bytes(4, "big") + data[9:]


async def _server(arena: Arena) -> SubjectServer:
    repository = arena.repository(FaultyModel(beta=0.001), max_rows=MAX_ROWS)
    write_sim_model(repository, MODEL, SimModel(1e-5, 1e-4), max_rows=MAX_ROWS)
    return await arena.server(repository)


def _polite(arena: Arena, server: SubjectServer) -> tuple[History, Endless, asyncio.Task[int]]:
    history, numbers = History(), Endless(arena.numbers)
    caller = arena.plain(server, history, timeout=TIMEOUT, connections=1)
    loop = open_loop(caller, POLITE_RATE, float("inf"), numbers=numbers)
    return history, numbers, asyncio.ensure_future(loop)


def _judge(verdict: Verdict, server: SubjectServer, polite: History) -> None:
    verdict.ends(polite)
    verdict.exactly("failed calls of others", polite.invoked - polite.codes[OK], 0)
    verdict.at_most("p99 of others", percentile(polite.latencies(), 99), HANG, "s")
    verdict.facts |= {"others": dict(polite.codes), "reasons": dict(polite.reasons)}
    page = server.page()
    verdict.exactly("still in flight", page.total("jitney_inflight_requests"), 0)
    verdict.exactly("workers that died of it", page.total("jitney_worker_restarts_total"), 0)
    verdict.exactly("server running", server.running, 1)


def _corpora() -> dict[str, list[bytes]]:
    """Return good messages of every unary RPC, by path."""
    infer = pb.ModelInferRequest(model_name=MODEL, id="abc")
    infer.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    infer.raw_input_contents.append(bytes(32))
    named = pb.ModelInferRequest()
    named.CopyFrom(infer)
    named.outputs.add(name="y")
    named.parameters["priority"].uint64_param = 1
    typed = pb.ModelInferRequest(model_name=MODEL)
    x = typed.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    x.contents.fp32_contents.extend([1, 2, 3, 4])
    messages: dict[str, list[bytes]] = {}
    for name, method in pb.METHODS.items():
        if method.client_streaming:
            continue
        messages[method.path] = [one.SerializeToString() for one in _good(name, method.request)]
    messages[INFER] = [one.SerializeToString() for one in (infer, named, typed)]
    return messages


def _good(name: str, kind: object) -> Iterator[pb.ModelInferRequest]:
    """Yield messages of a kind with the fields set that it has."""
    message = kind()  # type: ignore[operator]  # a message's class
    fields = {field.name: field for field in message.DESCRIPTOR.fields}
    for field in ("name", "model_name"):
        if field in fields:
            setattr(message, field, MODEL)
    if "version" in fields:
        message.version = "1"
    if "settings" in fields and name == "TraceSetting":
        message.settings["trace_level"].value.append("OFF")
    for field in ("offset", "byte_size"):
        if field in fields:
            setattr(message, field, 4)
    if "key" in fields:
        message.key = "/segment"
    yield message
