"""Ray Serve, over its gRPC proxy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jitney_client
from benchmarks.dialects import OIP
from benchmarks.peers.environment import PROGRAMS, Environment
from benchmarks.peers.peer import HOST, Launch, Peer, free_port

if TYPE_CHECKING:
    from benchmarks.peers.exhibits import Show

__all__ = ["RayServe"]

ENVIRONMENT: Final = Environment("rayserve")


class RayServe(Peer):
    """One replica with ``@serve.batch`` behind one proxy, Ray's own processes included."""

    name = "rayserve"
    title = "Ray Serve (gRPC)"
    setup = (
        "one replica, @serve.batch without a wait, 256 requests in flight, no dashboard, no access "
        "log; the replica reads and writes the protocol's messages"
    )
    dialect = OIP

    def missing(self) -> str:
        """Return that it is not installed."""
        return ENVIRONMENT.missing("ray/serve")

    def version(self) -> str:
        """Return that of the package."""
        return ENVIRONMENT.version("ray")

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write the task."""
        port, http = free_port(), free_port()
        task = show.write_task(folder / "task.json", grpc_port=port, http_port=http)
        stubs = str(Path(jitney_client.__file__).resolve().parents[1])
        environment = {
            "PYTHONPATH": os.pathsep.join((ENVIRONMENT.paths(), stubs)),
            "JITNEY_COMPARE_TASK": str(task),
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
        }
        command = [ENVIRONMENT.binary("python"), str(PROGRAMS / "ray_app.py")]
        return Launch(command, f"{HOST}:{port}", environment, folder)
