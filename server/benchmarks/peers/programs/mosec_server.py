"""A Mosec server of one worker, which runs the bodies of a batch as one batch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torchscript
from mosec import Server, Worker

SHORTEST_WAIT_MS = 1
"""Mosec's own least: 0 would mean the default, 10 ms."""


class Model(Worker):
    """Bodies in, bodies out: its own (de)serialisation, JSON, is left out."""

    def __init__(self) -> None:
        self._program = torchscript.Program.of_environment()

    def deserialize(self, data: bytes) -> bytes:
        """Return the body as it is."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Return the answer as it is."""
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        """Run a batch."""
        return self._program.run_bodies(data)


if __name__ == "__main__":
    task = json.loads(Path(os.environ[torchscript.TASK]).read_text())
    server = Server()
    server.append_worker(
        Model, num=1, max_batch_size=task["max_batch"], max_wait_time=SHORTEST_WAIT_MS
    )
    server.run()
