"""A server process that things are done to, seen from outside."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from benchmarks.process import ServerProcess

from chaos.page import read_page
from chaos.probe import ask
from chaos.resources import alive, children, resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from chaos.page import Page
    from chaos.resources import Resources

__all__ = ["SubjectServer"]

EXIT_TIMEOUT: Final = 60.0
REAP_TIMEOUT: Final = 10.0


class SubjectServer(ServerProcess):
    """``chaos.subject`` over a repository, on free ports; up when made.

    ``devices`` is how many of ``chaos.worker`` it has, 0 for the real ones of this machine.
    ``seconds_to_start`` is how long it took from exec to serving.
    """

    def __init__(
        self,
        repository: Path,
        folder: Path,
        flags: Sequence[str] = (),
        *,
        devices: int = 2,
        sabotage: str = "",
        read_only: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        :param folder: its own, for its log and the socket of its probe; short, as sockets' paths
            must be.
        :param read_only: whether it can write nowhere else.
        :param environment: variables that it has beside those of this process.
        """
        folder.mkdir(parents=True)
        self.log_file = folder / "log"
        self._probe = folder / "probe"
        program = ["-m", "chaos.subject", f"--chaos-devices={devices}"]
        program.append(f"--chaos-probe={self._probe}")
        if sabotage:
            program.append(f"--chaos-sabotage={sabotage}")
        if read_only:
            program.append(f"--chaos-read-only={folder}")
        began = time.monotonic()
        super().__init__(repository, self.log_file, flags, program, environment)
        self.seconds_to_start = time.monotonic() - began

    @property
    def port(self) -> int:
        """The port that it serves on."""
        return int(self.address.rpartition(":")[2])

    def census(self) -> dict[str, int]:
        """Return the counts of live objects inside (``probe.open_probe``)."""
        return ask(self._probe, "census")

    def types(self) -> dict[str, int]:
        """Return how many objects there are inside, by the names of their types."""
        return ask(self._probe, "types")

    def page(self) -> Page:
        """Return its metrics page as it is now."""
        return read_page(self.metrics_url)

    def resources(self) -> Resources:
        """Return what its own process holds, without its workers."""
        return resources(self.pid)

    def workers(self) -> list[int]:
        """Return the process ids of its workers that run."""
        return children(self.pid)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its own process."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End its own process, and only that, at once."""
        self.send(signal.SIGKILL)
        self._process.wait(REAP_TIMEOUT)

    def exit_code(self, seconds: float = EXIT_TIMEOUT) -> int:
        """Wait for its end; return its exit code.

        :raises subprocess.TimeoutExpired: when it goes on.
        """
        return self._process.wait(seconds)

    def _end(self) -> None:
        # What a scenario stopped cannot end otherwise, nor what waits for a worker it stopped.
        for pid in (self.pid, *self.workers()):
            if alive(pid) and self.running:
                os.kill(pid, signal.SIGCONT)
        super()._end()
