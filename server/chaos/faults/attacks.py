"""Callers that mean harm, beside one that does not."""

from __future__ import annotations

import asyncio
import collections
import gzip
import json
import time
from typing import TYPE_CHECKING, Final

from benchmarks.workload import INFER

from chaos.faulty_model import FaultyModel
from chaos.history import OK, History
from chaos.load import Endless, open_loop
from chaos.resources import RssWatch
from chaos.verdict import percentile
from jitney.loadgen.connection import LOST, OpenConnection, Template, template
from jitney.testing.sim_model import SimModel, write_sim_model
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.arena import Arena
    from chaos.subject_server import SubjectServer
    from chaos.verdict import Verdict

__all__ = ["bombs", "floods", "rapid_resets", "slow_peers"]

MIB: Final = 1 << 20
POLITE: Final = FaultyModel(beta=0.01)
POLITE_RATE: Final = 50.0
TIMEOUT: Final = 10.0
MAX_ROWS: Final = 16
P99_GOAL: Final = 100.0
"""Milliseconds."""
BUDGETS: Final = {
    "--max-inflight-bytes": 64 * MIB,
    "--max-receiving-bytes": 32 * MIB,
    "--max-unread-bytes": 32 * MIB,
}
BUDGET: Final = sum(BUDGETS.values())
"""Bytes that requests, arriving messages and unread replies may take."""
SLOT_BYTES: Final = 8 * MIB
BOMB_BYTES: Final = 256 * MIB
EMPTIES: Final = 4 * MIB
"""Bytes of a message that holds nothing but empty parts, two bytes each."""
NESTED: Final = 10_000
BOMB_CALLERS: Final = 16
REFUSALS: Final = {3, 8}
"""INVALID_ARGUMENT and RESOURCE_EXHAUSTED."""
UNIMPLEMENTED: Final = 12
"""What a compressed message ends with where no compression is offered."""


async def rapid_resets(
    arena: Arena,
    verdict: Verdict,
    *,
    seconds: float,
    rate: float = 15_000.0,
    connections: int = 2,
    streams: int = 0,
    p99_goal: float = P99_GOAL,
) -> None:
    """Open and reset streams by the thousand beside a caller that is honest.

    :param p99_goal: milliseconds; of a second's calls it is the longest.
    :param streams: that one connection may have; 0 for the server's default. The control sets no
        limit that matters.
    """
    flags = [f"--max-concurrent-streams={streams}"] if streams else []
    server = await _server(arena, *flags)
    history, counts = await _beside(
        arena, server, seconds, "rapid_reset", f"--rate={rate}", f"--connections={connections}"
    )
    verdict.ends(history)
    verdict.exactly("failed calls of others", history.invoked - history.codes[OK], 0)
    verdict.at_most("p99 of others", 1e3 * percentile(history.latencies(), 99), p99_goal, "ms")
    verdict.tell("resets sent", counts["resets"] / seconds, "1/s")
    verdict.tell("connections that the attacker made anew", counts["connections"])
    verdict.facts |= {"others": dict(history.codes), "attacker": dict(counts)}


async def slow_peers(
    arena: Arena,
    verdict: Verdict,
    *,
    seconds: float,
    connections: int,
    rounds: int = 3,
    slower: float = 1.2,
) -> None:
    """Let callers send a byte per second, and others read nothing, beside one that is honest.

    :param slower: how many times longer the honest one's calls may take; in a second or two there
        are too few of them for a percentile to mean much.
    """
    server = await _server(arena)
    ratios, failed = [], 0
    flag = f"--connections={connections // 2}"
    with RssWatch(server.pid) as memory:
        for _ in range(rounds):
            alone = await _polite(arena, server, seconds)
            slow = asyncio.ensure_future(_beside(arena, server, seconds, "half_sent", flag))
            others, counts = await _beside(arena, server, seconds, "unread", flag)
            more, _ = await slow
            beside = others.latencies() + more.latencies()
            ratios.append(percentile(beside, 99) / percentile(alone.latencies(), 99))
            failed += sum(h.invoked - h.codes[OK] for h in (alone, others, more))
            verdict.facts["attackers"] = dict(counts)
    verdict.exactly("failed calls of others", failed, 0)
    ratio = percentile(ratios, 50)
    verdict.at_most("p99 of others over that when alone, median", ratio, slower)
    _note_memory(verdict, memory)
    left = await arena.until(lambda: not _calls(server), TIMEOUT)
    verdict.at_most("nothing held after", left, TIMEOUT, "s")


async def floods(
    arena: Arena, verdict: Verdict, *, seconds: float, connections: int = 8, rate: float = 4000.0
) -> None:
    """Send headers that never end, and far more metadata than is allowed.

    :param rate: frames of 8 KiB per second, in all. As fast as it goes, one core of the attacker
        and one of the server are busy with nothing else, and others wait for seconds.
    """
    server = await _server(arena)
    with RssWatch(server.pid) as memory:
        histories = []
        for way in ("endless_headers", "large_metadata"):
            history, counts = await _beside(
                arena, server, seconds / 2, way, f"--connections={connections}", f"--rate={rate}"
            )
            histories.append(history)
            verdict.facts[way] = dict(counts)
    failed = sum(history.invoked - history.codes[OK] for history in histories)
    verdict.exactly("failed calls of others", failed, 0)
    latencies = [seconds for history in histories for seconds in history.latencies()]
    verdict.tell("p99 of others", 1e3 * percentile(latencies, 99), "ms")
    _note_memory(verdict, memory)
    verdict.exactly("server running", server.running, 1)


async def bombs(arena: Arena, verdict: Verdict, *, seconds: float) -> None:
    """Send messages that are small on the wire and enormous when read."""
    server = await _server(arena)
    made = await asyncio.to_thread(_bombs)
    codes: collections.Counter[str] = collections.Counter()
    with RssWatch(server.pid) as memory:
        polite = asyncio.ensure_future(_polite(arena, server, seconds))
        ends = time.monotonic() + seconds
        throwers = [_throw(server, made, ends, codes, nth) for nth in range(BOMB_CALLERS)]
        await asyncio.gather(*throwers)
        history = await polite
    verdict.ends(history)
    verdict.exactly("failed calls of others", history.invoked - history.codes[OK], 0)
    _note_memory(verdict, memory)
    odd = {code: n for code, n in codes.items() if not code.endswith(":refused")}
    verdict.exactly("bombs that ended otherwise than refused", sum(odd.values()), 0)
    verdict.tell("bombs", codes.total())
    verdict.exactly("server running", server.running, 1)
    verdict.facts |= {"codes": dict(codes)}


def _note_memory(verdict: Verdict, memory: RssWatch) -> None:
    grown = (memory.peak - memory.first) / MIB
    verdict.at_most("peak memory more than before", grown, 2 * BUDGET / MIB, "MiB")
    verdict.tell("memory in the end", (memory.last - memory.first) / MIB, "MiB more")


class _Throw:
    """A ``loadgen.connection.Ledger`` of one call."""

    def __init__(self) -> None:
        self.ended_as: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def ended(self, number: int, at: float, code: int, reason: bytes, body: bytes) -> None:  # noqa: ARG002  # the protocol's
        """Note how it ended."""
        if not self.ended_as.done():
            self.ended_as.set_result(code)


async def _throw(
    server: SubjectServer,
    made: Sequence[tuple[str, Template]],
    ends: float,
    codes: collections.Counter[str],
    turn: int,
) -> None:
    while time.monotonic() < ends:
        name, bomb = made[turn % len(made)]
        turn += 1
        call = _Throw()
        connection = OpenConnection(call)
        await connection.connect(server.address)
        connection.send(0, bomb)
        connection.flush()
        try:
            async with asyncio.timeout(TIMEOUT):
                code = await call.ended_as
        except TimeoutError:
            code = LOST
        connection.close()
        refused = code in REFUSALS or (name == "compressed" and code == UNIMPLEMENTED)
        codes[f"{name}:refused" if refused else f"{name}:{code}"] += 1


def _bombs() -> list[tuple[str, Template]]:
    """Return what is thrown, by name."""
    request = pb.ModelInferRequest(model_name="faulty")
    empties = request.SerializeToString() + b"\x2a\x00" * (EMPTIES // 2)
    outputs = request.SerializeToString() + b"\x32\x00" * (EMPTIES // 2)
    nested = b""
    for _ in range(NESTED):
        nested = b"\x2a" + _length(len(nested)) + nested
    zeros = gzip.compress(bytes(BOMB_BYTES))
    packed = template(INFER, "bomb", zeros, (("grpc-encoding", "gzip"),))
    return [
        ("empty inputs", template(INFER, "bomb", empties)),
        ("empty outputs", template(INFER, "bomb", outputs)),
        ("nested", template(INFER, "bomb", nested)),
        ("compressed", packed._replace(payload=b"\1" + packed.payload[1:], small=b"")),
    ]


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


async def _server(arena: Arena, *flags: str) -> SubjectServer:
    repository = arena.repository(POLITE, max_rows=MAX_ROWS)
    write_sim_model(repository, "wide", SimModel(0.0, 1e-3), max_rows=4, width=1 << 14)
    budgets = [f"{flag}={size}" for flag, size in BUDGETS.items()]
    return await arena.server(repository, *budgets, f"--slot-bytes={SLOT_BYTES}", *flags)


async def _polite(arena: Arena, server: SubjectServer, seconds: float) -> History:
    history = History()
    caller = arena.plain(server, history, timeout=TIMEOUT, connections=1)
    await open_loop(caller, POLITE_RATE, seconds, numbers=arena.numbers)
    return history


async def _beside(
    arena: Arena, server: SubjectServer, seconds: float, way: str, *flags: str
) -> tuple[History, collections.Counter[str]]:
    """Attack for so many seconds; return how an honest caller fared, and the attacker's counts."""
    history = History()
    caller = arena.plain(server, history, timeout=TIMEOUT, connections=1)
    await caller(next(arena.numbers))
    attacker = await arena.process("chaos.attackers", way, server.address, str(seconds), *flags)
    await asyncio.to_thread(attacker.line)
    numbers = Endless(arena.numbers)
    running = asyncio.ensure_future(open_loop(caller, POLITE_RATE, float("inf"), numbers=numbers))
    counts = collections.Counter(json.loads(await asyncio.to_thread(attacker.line)))
    numbers.over = True
    await running
    return history, counts


def _calls(server: SubjectServer) -> float:
    page = server.page()
    return page.total("jitney_inflight_requests") + page.total("jitney_inflight_bytes")
