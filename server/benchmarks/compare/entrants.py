"""Those that take part: started peers with their callers, and the loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from benchmarks.compare.figures import Visit, visit_of, void_reason
from benchmarks.process import BenchmarkError, CallerProcess
from benchmarks.usage import tree_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.peers.loop import LoopProcess
    from benchmarks.peers.peer import RunningPeer
    from benchmarks.usage import Memory
    from benchmarks.workload import Workload

__all__ = ["KINDS", "Entrant", "LoopEntrant", "ServerEntrant", "callers_for", "connections_for"]

FRAME: Final = 16_384 - 5
"""The largest message that prepared HTTP/2 callers can send: one frame with gRPC's prefix."""
CONNECTIONS: Final = 4
KINDS: Final = {
    "h2": "prepared HTTP/2 callers",
    "aio": "grpc.aio callers, as a request does not fit one frame of the prepared ones",
}


class Entrant(Protocol):
    """One that is visited in every round."""

    title: str

    def visit(
        self, concurrency: int, seconds: float, others_cpu: Callable[[], float]
    ) -> tuple[Visit | None, str]:
        """Load it for some seconds; return the visit, or None and why there is none."""

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its processes so far."""

    def memory(self) -> Memory:
        """Return the memory of its processes."""


class ServerEntrant:
    """A peer's server and a process of callers of its own.

    Of its own, so that one server's broken connection is nobody else's; they are started again
    after a failure.
    """

    def __init__(self, running: RunningPeer, workload: Workload, folder: Path) -> None:
        self.title = running.peer.title
        self._running = running
        self._log = folder / "callers.log"
        self._kind = callers_for(workload, http=running.peer.dialect.http)
        self._file = workload.write(folder / "workload")
        self._callers: CallerProcess | None = None

    def visit(
        self, concurrency: int, seconds: float, others_cpu: Callable[[], float]
    ) -> tuple[Visit | None, str]:
        """Call it in a closed loop."""
        try:
            return self._visit(concurrency, seconds, others_cpu)
        except BenchmarkError as error:  # the callers ended, as they do where nobody listens
            self.close()
            return None, self._running.ended() or str(error).splitlines()[-1]

    def cpu_seconds(self) -> float:
        """Return those of its server, callers left out."""
        return self._running.cpu_seconds()

    def memory(self) -> Memory:
        """Return that of its server."""
        return self._running.memory()

    def close(self) -> None:
        """End the callers."""
        if self._callers is not None:
            self._callers.__exit__(None, None, None)
            self._callers = None

    def _visit(
        self, concurrency: int, seconds: float, others_cpu: Callable[[], float]
    ) -> tuple[Visit | None, str]:
        if self._callers is None:
            self._callers = CallerProcess(self._log, self._kind)
        before, others = self._running.cpu_seconds(), others_cpu()
        seen = self._callers.play(
            self._running.address,
            self._file,
            concurrency=concurrency,
            connections=connections_for(self._kind, concurrency),
            seconds=seconds,
        )
        spent, disturbed = self._running.cpu_seconds() - before, others_cpu() - others
        reason = void_reason(seen)
        if reason:
            self.close()
            return None, reason
        return visit_of(seen, spent, disturbed), ""


class LoopEntrant:
    """The loop in one form, at its best batch size; takes no calls, so concurrency is nothing."""

    def __init__(self, loop: LoopProcess, form: str, largest: int) -> None:
        self.title = f"PyTorch loop, {form}"
        self._loop = loop
        self._form = form
        self.batch = loop.best_batch(form, largest)

    def visit(
        self,
        concurrency: int,  # noqa: ARG002  # nobody calls it
        seconds: float,
        others_cpu: Callable[[], float],
    ) -> tuple[Visit | None, str]:
        """Run batches."""
        others = others_cpu()
        began = time.perf_counter()
        try:
            seen: dict[str, Any] = self._loop.run(self._form, self.batch, seconds)
        except BenchmarkError as error:
            return None, str(error)
        # The others are read from outside, in the time that passed there.
        disturbed = (others_cpu() - others) * seen["seconds"] / (time.perf_counter() - began)
        spent = seen["cpu_seconds"]
        return visit_of({**seen, "cpu_seconds": 0.0}, spent, disturbed), ""

    def cpu_seconds(self) -> float:
        """Return those of its process."""
        return self._loop.cpu_seconds()

    def memory(self) -> Memory:
        """Return that of its process."""
        return tree_memory(self._loop.pid)


def callers_for(workload: Workload, *, http: bool) -> str:
    """Return the kind of callers: every gRPC peer gets the same ones for a model."""
    if http:
        return "h1"
    return "h2" if max(map(len, workload.requests)) <= FRAME else "aio"


def connections_for(kind: str, concurrency: int) -> int:
    """Return the number of connections: HTTP/1.1 carries one call at a time on each."""
    return concurrency if kind == "h1" else min(CONNECTIONS, concurrency)
