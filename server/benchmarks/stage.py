"""What the benchmarks have in common: a scratch folder, processes, and how long to measure."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks.process import CallerProcess, EchoProcess, ServerProcess
from benchmarks.workload import INFER, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from benchmarks.comparison import Effort

__all__ = ["Stage"]

CALL_TIMEOUT = 30.0


class Stage(contextlib.ExitStack):
    """Starts processes and writes files for one benchmark, and ends them with its block."""

    def __init__(self, folder: Path, effort: Effort) -> None:
        super().__init__()
        self.folder = folder
        self.effort = effort
        self._made = 0

    def __enter__(self) -> Self:
        """Return the stage."""
        super().__enter__()
        return self

    def server(self, repository: Path, *flags: str) -> ServerProcess:
        """Start a server over ``repository``."""
        return self.enter_context(ServerProcess(repository, self._file("server.log"), flags))

    def echo(self, server: ServerProcess, workload: Workload, loop: str = "uvloop") -> EchoProcess:
        """Start an echo that answers as ``server`` answers the first request."""
        reply = self._file("reply")
        reply.write_bytes(self.answer(server, workload))
        return self.enter_context(EchoProcess(reply, self._file("echo.log"), loop))

    def callers(self, kind: str) -> CallerProcess:
        """Start callers of a kind, ``aio`` or ``h2``."""
        return self.enter_context(CallerProcess(self._file("callers.log"), kind))

    def write(self, workload: Workload) -> Path:
        """Write a workload where callers find it."""
        return workload.write(self._file("workload"))

    def answer(self, server: ServerProcess, workload: Workload) -> bytes:
        """Return the server's reply to the first request of a workload."""
        options: Sequence[tuple[str, Any]] = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            reply: bytes = channel.unary_unary(INFER)(workload.requests[0], timeout=CALL_TIMEOUT)
        return reply

    def _file(self, name: str) -> Path:
        self._made += 1
        return self.folder / f"{self._made:02}-{name}"
