"""What a peer is: something that starts a server of one model, and says how it is asked."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

import grpc
import psutil

from benchmarks.process import SERVER_FOLDER, BenchmarkError
from benchmarks.usage import Memory, descendants, tree_memory, tree_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from benchmarks.dialects import Dialect
    from benchmarks.peers.exhibits import Show

__all__ = ["Launch", "Peer", "RunningPeer", "free_port"]

HOST: Final = "127.0.0.1"
START_TIMEOUT: Final = 180.0
CALL_TIMEOUT: Final = 20.0
RETRY_SECONDS: Final = 0.25
STOP_TIMEOUT: Final = 15.0
LOG_TAIL: Final = 15
SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started; ``environment`` is put on top of ours."""

    command: Sequence[str]
    address: str
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


class Peer(ABC):
    """A server to compare with; one object starts one process per model.

    - ``name`` is what the command line calls it, ``title`` what tables do.
    - ``setup`` says in words how it is configured, wherever that is not its default.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    setup: ClassVar[str]
    dialect: ClassVar[Dialect]
    echoes: ClassVar[bool] = False
    """Whether every reply is the one to the first request, byte for byte."""

    @abstractmethod
    def missing(self) -> str:
        """Return what it lacks to be started; empty when nothing."""

    @abstractmethod
    def version(self) -> str:
        """Return the version of what is installed."""

    @abstractmethod
    def launch(self, show: Show, folder: Path) -> Launch:
        """Write what it needs into ``folder``, an empty one, and return how to start it."""


class RunningPeer:
    """A peer's process, with all below it, for as long as a ``with`` block lasts."""

    def __init__(self, peer: Peer, launch: Launch, log: Path) -> None:
        self.peer = peer
        self.address = launch.address
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # programs of ours, and peers' own
                list(launch.command),
                cwd=launch.folder or SERVER_FOLDER,
                env={**os.environ, **launch.environment},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the tree's root."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the process and all below it so far."""
        return tree_seconds(self.pid)

    def memory(self) -> Memory:
        """Return the memory of the process and all below it."""
        return tree_memory(self.pid)

    def ask(self, request: bytes) -> bytes:
        """Send one request and return its reply.

        :raises BenchmarkError: when there is none.
        """
        dialect = self.peer.dialect
        try:
            if dialect.http:
                return _post(self.address, dialect.target, request)
            options = [("grpc.max_receive_message_length", -1)]
            with grpc.insecure_channel(self.address, options) as channel:
                call = channel.unary_unary(dialect.target)
                reply: bytes = call(request, timeout=CALL_TIMEOUT)
                return reply
        except grpc.RpcError as error:
            msg = f"{error.code().name}: {error.details()[:SHOWN]}"
            raise BenchmarkError(msg) from error
        except (OSError, http.client.HTTPException) as error:
            msg = f"{type(error).__name__}: {error}"
            raise BenchmarkError(msg) from error

    def ended(self) -> str:
        """Return that the process has ended, and how; empty while it has not."""
        code = self._process.poll()
        return "" if code is None else f"it ended ({code}): {self.tail()}"

    def wait_until_ready(self, request: bytes) -> None:
        """Return when a request is answered, rightly or not.

        :raises BenchmarkError: when the process ended, or it took too long.
        """
        until = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.ask(request)
            except BenchmarkError as error:
                if ended := self.ended():
                    raise BenchmarkError(ended) from error
                if time.monotonic() > until:
                    msg = f"not ready after {START_TIMEOUT:g} s ({error}): {self.tail()}"
                    raise BenchmarkError(msg) from error
                time.sleep(RETRY_SECONDS)
            else:
                return

    def tail(self) -> str:
        """Return the last lines that it wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_TAIL:])

    def __enter__(self) -> Self:
        """Return the running peer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process, and what is left of its tree after a while.

        The tree is looked at beforehand: what is left may have become somebody else's child.
        """
        tree = []
        for pid in descendants(self.pid):
            try:
                tree.append(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # By process and start time, not by number alone, which may have been given away again.
        _, left = psutil.wait_procs([p for p in tree if p.pid != self.pid], timeout=2.0)
        for process in left:
            process.kill()


def free_port() -> int:
    """Return a port that nobody listens on; for servers that cannot say which one they took."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _post(address: str, target: str, body: bytes) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=CALL_TIMEOUT)
    try:
        connection.request("POST", target, body, {"Content-Type": "application/octet-stream"})
        response = connection.getresponse()
        reply = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        msg = f"HTTP {response.status}: {reply[:SHOWN]!r}"
        raise BenchmarkError(msg)
    return reply
