"""Our own server."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import jitney
from benchmarks.dialects import OIP
from benchmarks.peers.peer import HOST, Launch, Peer, free_port
from benchmarks.process import SERVE

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.exhibits import Show

__all__ = ["Jitney"]


class Jitney(Peer):
    """``jitney serve`` over one model."""

    name = "jitney"
    title = "jitney"
    setup = "defaults; max_batch_size of the model"
    dialect = OIP

    def missing(self) -> str:
        """Return nothing: it is what is measured."""
        return ""

    def version(self) -> str:
        """Return its version."""
        return jitney.__version__

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write a repository of one model."""
        model = folder / "repository" / show.exhibit.name
        (model / "1").mkdir(parents=True)
        shutil.copyfile(show.file, model / "1" / "model.pt")
        (model / "model.toml").write_text(f"max_batch_size = {show.exhibit.max_batch}\n")
        port = free_port()
        command = [
            *(sys.executable, "-c", SERVE, "serve", "--exit-on-error"),
            *("--model-repository", str(model.parent), "--log-level", "warning"),
            *("--grpc-port", str(port), "--metrics-port", "0"),
        ]
        return Launch(command, f"{HOST}:{port}")
