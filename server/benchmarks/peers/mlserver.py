"""Seldon's MLServer: the same protocol as ours, in Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from benchmarks.dialects import OIP
from benchmarks.peers.environment import Environment
from benchmarks.peers.peer import HOST, Launch, Peer, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.exhibits import Show

__all__ = ["MLServer"]

ENVIRONMENT: Final = Environment("mlserver")
BATCH_SECONDS: Final = 0.001
LARGEST_MESSAGE: Final = 64 << 20


class MLServer(Peer):
    """A custom runtime, batched adaptively, in the server's own process."""

    name = "mlserver"
    title = "MLServer"
    setup = (
        "custom runtime, adaptive batching within 1 ms, no parallel workers, no access log, "
        "no metrics"
    )
    dialect = OIP

    def missing(self) -> str:
        """Return that it is not installed."""
        return ENVIRONMENT.missing("mlserver")

    def version(self) -> str:
        """Return that of the package."""
        return ENVIRONMENT.version("mlserver")

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write its settings and those of the model."""
        exhibit = show.exhibit
        task = show.write_task(folder / "task.json")
        grpc, http = free_port(), free_port()
        settings = {
            "debug": False,
            "host": HOST,
            "grpc_port": grpc,
            "http_port": http,
            "grpc_max_message_length": LARGEST_MESSAGE,
            "metrics_endpoint": None,
            # Its workers are processes behind queues, one hop more for a single model.
            "parallel_workers": 0,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        model = {
            "name": exhibit.name,
            "implementation": "mlserver_runtime.Runtime",
            "max_batch_size": exhibit.max_batch,
            "max_batch_time": BATCH_SECONDS,
        }
        (folder / "model-settings.json").write_text(json.dumps(model))
        environment = {"PYTHONPATH": ENVIRONMENT.paths(), "JITNEY_COMPARE_TASK": str(task)}
        command = [ENVIRONMENT.binary("mlserver"), "start", str(folder)]
        return Launch(command, f"{HOST}:{grpc}", environment, folder)
