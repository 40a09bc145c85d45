"""The callers of a benchmark: a closed loop, in a process of its own.

    python -m benchmarks.caller [--kind aio|h2|h1]

Reads a round per line of standard input and writes what it saw, both JSON; ends with its input.
``aio`` are callers of grpc.aio, what a Python user has. ``h2`` are ours (``benchmarks.http2``),
about a tenth of the work per call: with them the server is what limits the rate even where it
shares two cores with its callers. ``h1`` are the same for HTTP/1.1 (``benchmarks.http1``).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import uvloop

from benchmarks.dialects import DIALECTS
from benchmarks.http1 import Http1Connection
from benchmarks.http2 import Http2Connection
from benchmarks.workload import Checker, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE: Final = 30.0
"""Seconds that the last calls of a round may take."""


@dataclass
class Tally:
    """What one round saw; latencies in seconds."""

    checker: Checker
    until: float
    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: int = 0
    example: str = ""
    ended: float = 0.0

    def answered(self, which: int, began: float, reply: bytes) -> None:
        """Count a reply."""
        now = time.perf_counter()
        self.latencies.append(now - began)
        self.ended = now
        if not self.checker.is_right(which, reply):
            self.wrong += 1
            self.example = self.example or f"request {which} was answered {reply[:80]!r}"

    def lost(self, why: str) -> None:
        """Count a call that failed, and end the round."""
        self.failed += 1
        self.example = self.example or why
        self.ended = time.perf_counter()
        self.until = 0.0


class Callers(Protocol):
    """Some connections to one address."""

    async def run(self, workload: Workload, concurrency: int, tally: Tally) -> None:
        """Keep ``concurrency`` calls going until ``tally.until``."""


class AioCallers:
    """Callers that use grpc.aio, bytes in and bytes out."""

    def __init__(self, address: str, connections: int, target: str) -> None:
        # A pool of its own per channel, or channels of equal options share one connection.
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
        ]
        self._calls = [
            grpc.aio.insecure_channel(address, options=options).unary_unary(target)
            for _ in range(connections)
        ]

    async def run(self, workload: Workload, concurrency: int, tally: Tally) -> None:
        """Keep ``concurrency`` calls going until ``tally.until``."""
        requests, calls = workload.requests, self._calls

        async def caller(place: int) -> None:
            call = calls[place % len(calls)]
            which = place % len(requests)
            while (began := time.perf_counter()) < tally.until:
                try:
                    reply = await call(requests[which])
                except grpc.aio.AioRpcError as error:
                    tally.lost(f"{error.code().name}: {error.details()}")
                    return
                tally.answered(which, began, reply)

        await asyncio.gather(*map(caller, range(concurrency)))


class Http2Callers:
    """Callers that write HTTP/2 frames made beforehand."""

    def __init__(self, address: str, connections: int, target: str) -> None:
        self._connections = [Http2Connection(address, target) for _ in range(connections)]

    async def run(self, workload: Workload, concurrency: int, tally: Tally) -> None:
        """Keep ``concurrency`` calls going until ``tally.until``."""
        shares = len(self._connections)
        await asyncio.gather(
            *(
                connection.run(workload.requests, range(first, concurrency, shares), tally)
                for first, connection in enumerate(self._connections)
            )
        )


class Http1Callers:
    """Callers of HTTP/1.1: a connection for each, since one carries one call at a time."""

    def __init__(self, address: str, connections: int, target: str) -> None:
        self._connections = [Http1Connection(address, target) for _ in range(connections)]

    async def run(self, workload: Workload, concurrency: int, tally: Tally) -> None:
        """Keep a call going on each connection until ``tally.until``.

        :raises ValueError: when there are not as many connections as there are to be calls.
        """
        if concurrency != len(self._connections):
            msg = f"{concurrency} calls need as many connections, not {len(self._connections)}"
            raise ValueError(msg)
        await asyncio.gather(
            *(
                connection.run(workload.requests, place, tally)
                for place, connection in enumerate(self._connections)
            )
        )


KINDS: Final[dict[str, Callable[[str, int, str], Callers]]] = {
    "aio": AioCallers,
    "h2": Http2Callers,
    "h1": Http1Callers,
}


async def run_round(callers: Callers, workload: Workload, concurrency: int, seconds: float) -> Any:  # noqa: ANN401  # JSON
    """Run one round; return what it saw, ready for JSON."""
    began, cpu = time.perf_counter(), time.process_time()
    tally = Tally(workload.checker(), began + seconds)
    try:
        await asyncio.wait_for(callers.run(workload, concurrency, tally), seconds + GRACE)
    except TimeoutError:
        tally.lost(f"calls hung for {GRACE:g} s")
    latencies = sorted(tally.latencies) or [0.0]
    return {
        "requests": len(tally.latencies),
        "seconds": tally.ended - began,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)],
        "wrong": tally.wrong,
        "failed": tally.failed,
        "example": tally.example,
        "cpu_seconds": time.process_time() - cpu,
    }


async def play_rounds(make: Callable[[str, int, str], Callers]) -> None:
    """Run the rounds that standard input asks for.

    The loop runs between them as well: servers ping idle connections, and close those that do not
    answer.
    """
    callers: dict[tuple[str, int, str], Callers] = {}
    workloads: dict[str, Workload] = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order: dict[str, Any] = json.loads(line)
        path = order["workload"]
        if path not in workloads:
            workloads[path] = Workload.read(Path(path))
        target = DIALECTS[workloads[path].dialect].target
        key = order["address"], order["connections"], target
        if key not in callers:
            callers[key] = make(*key)
        seen = await run_round(
            callers[key], workloads[path], order["concurrency"], order["seconds"]
        )
        print(json.dumps(seen), flush=True)


def main() -> None:
    """Run the callers."""
    parser = argparse.ArgumentParser(description="Call a server in a closed loop.")
    parser.add_argument("--kind", choices=tuple(KINDS), default="aio")
    make = KINDS[parser.parse_args().kind]
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play_rounds(make))


if __name__ == "__main__":
    main()
