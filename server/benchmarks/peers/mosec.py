"""Mosec: batching in Rust in front of Python workers, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.dialects import PLAIN
from benchmarks.peers.environment import PROGRAMS, Environment
from benchmarks.peers.peer import HOST, Launch, Peer, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.exhibits import Show

__all__ = ["Mosec"]

ENVIRONMENT: Final = Environment("mosec")


class Mosec(Peer):
    """One worker; bodies are tensors and nothing else."""

    name = "mosec"
    title = "Mosec (HTTP)"
    setup = "one worker, its shortest wait (1 ms); bodies are the tensors' bytes, without names"
    dialect = PLAIN

    def missing(self) -> str:
        """Return that it is not installed."""
        return ENVIRONMENT.missing("mosec")

    def version(self) -> str:
        """Return that of the package."""
        return ENVIRONMENT.version("mosec")

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write the task."""
        task = show.write_task(folder / "task.json")
        port = free_port()
        command = [
            *(ENVIRONMENT.binary("python"), str(PROGRAMS / "mosec_server.py")),
            *("--address", HOST, "--port", str(port), "--log-level", "warning"),
            # A path of its own: what it makes in the temporary folder is named at random.
            *("--path", str(folder / "sockets"), "--timeout", "60000"),
        ]
        environment = {"PYTHONPATH": ENVIRONMENT.paths(), "JITNEY_COMPARE_TASK": str(task)}
        return Launch(command, f"{HOST}:{port}", environment, folder)
