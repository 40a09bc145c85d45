"""The processes of a benchmark: the server, the echo and the callers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.usage import tree_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

__all__ = [
    "BenchmarkError",
    "CallerProcess",
    "ChildProcess",
    "EchoProcess",
    "Round",
    "ServerProcess",
]

SERVER_FOLDER: Final = Path(__file__).resolve().parents[1]
SERVE: Final = "from jitney.cli import main; raise SystemExit(main())"
UP: Final = "stop     Ctrl-C"
STOP_TIMEOUT: Final = 15.0
LOG_TAIL: Final = 20


class BenchmarkError(Exception):
    """A benchmark cannot go on; the text says why."""


class Round(NamedTuple):
    """What callers saw in one round; ``cpu_ms`` and ``rate`` are per request and per second.

    ``caller_busy`` is the CPU seconds of the callers' process per second: near 1, the callers
    rather than the server may be what limits the rate.
    """

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    caller_busy: float


class ChildProcess:
    """A child process that lasts as long as a ``with`` block."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        :param environment: variables that it has beside those of this process.
        """
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(  # our own modules
                [sys.executable, *command],
                cwd=SERVER_FOLDER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        assert self._process.stdin is not None  # PIPE
        assert self._process.stdout is not None  # PIPE
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the process and all below it so far."""
        return tree_seconds(self.pid)

    def line(self) -> str:
        """Return the next line that it prints.

        :raises BenchmarkError: when it ended instead.
        """
        line = self._stdout.readline()
        if not line:
            self._process.wait(STOP_TIMEOUT)
            tail = "\n".join(self._log.read_text().splitlines()[-LOG_TAIL:])
            msg = f"{type(self).__name__} ended ({self._process.returncode}):\n{tail}"
            raise BenchmarkError(msg)
        return line.rstrip("\n")

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        self._stdin.write(line + "\n")
        self._stdin.flush()

    def __enter__(self) -> Self:
        """Return the process."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let it end, and kill it where it does not."""
        self._stdin.close()
        try:
            self._end()
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._stdout.close()

    def _end(self) -> None:
        """Ask the process to end; the end of its standard input is enough for most."""


class ServerProcess(ChildProcess):
    """``jitney serve`` over a repository, on free ports; up when made.

    ``program`` is another one that takes its flags and says what it says.
    """

    def __init__(
        self,
        repository: Path,
        log: Path,
        flags: Sequence[str] = (),
        program: Sequence[str] = ("-c", SERVE, "serve"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        repositories = ["--model-repository", str(repository), "--exit-on-error"]
        ports = ["--grpc-port", "0", "--metrics-port", "0"]
        command = [*program, *repositories, *ports, "--log-level", "warning", *flags]
        super().__init__(command, log, environment)
        try:
            banner = self._until_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.address = _found(r"^gRPC +(\S+)", banner)
        self.metrics_url = _found(r"^metrics +(\S+)", banner)
        # What it still says must not fill the pipe and stop it.
        threading.Thread(target=self._stdout.read, daemon=True).start()

    def _until_up(self) -> str:
        lines = []
        while (line := self.line()) != UP:
            lines.append(line)
        return "\n".join(lines)

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


class EchoProcess(ChildProcess):
    """``benchmarks.echo`` with one reply; up when made."""

    def __init__(self, reply: Path, log: Path, loop: str = "uvloop") -> None:
        super().__init__(["-m", "benchmarks.echo", str(reply), "--loop", loop], log)
        self.address = f"127.0.0.1:{self.line()}"


class CallerProcess(ChildProcess):
    """``benchmarks.caller``: closed-loop callers that run one round at a time."""

    def __init__(self, log: Path, kind: str = "aio") -> None:
        super().__init__(["-m", "benchmarks.caller", "--kind", kind], log)

    def play(self, address: str, workload: Path, **shape: float) -> dict[str, Any]:
        """Call ``address`` for a round and return what ``benchmarks.caller`` saw, right or not.

        :param shape: ``concurrency``, ``connections``, ``seconds``.
        :raises BenchmarkError: when the callers ended.
        """
        self.tell(json.dumps({"address": address, "workload": str(workload), **shape}))
        seen: dict[str, Any] = json.loads(self.line())
        return seen

    def run(self, server: ChildProcess, address: str, workload: Path, **shape: float) -> Round:
        """Call ``address`` for a round and return what was seen.

        :param server: whose CPU time is counted.
        :param shape: ``concurrency``, ``connections``, ``seconds``.
        :raises BenchmarkError: when a call failed or was answered wrongly.
        """
        before = server.cpu_seconds()
        seen = self.play(address, workload, **shape)
        spent = server.cpu_seconds() - before
        if seen["wrong"] or seen["failed"] or not seen["requests"]:
            msg = (
                f"{seen['wrong']} wrong and {seen['failed']} failed of {seen['requests']} calls: "
                f"{seen['example'] or 'nothing was answered'}"
            )
            raise BenchmarkError(msg)
        return Round(
            seen["requests"],
            seen["requests"] / seen["seconds"],
            seen["p50_ms"],
            seen["p99_ms"],
            1000 * spent / seen["requests"],
            seen["cpu_seconds"] / seen["seconds"],
        )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        msg = f"the server did not say {pattern!r}"
        raise BenchmarkError(msg)
    return match.group(1)
