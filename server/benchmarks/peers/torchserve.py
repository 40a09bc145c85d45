"""TorchServe, PyTorch's own server (no longer developed), over its gRPC."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from benchmarks.dialects import TORCHSERVE
from benchmarks.peers.environment import PROGRAMS, Environment
from benchmarks.peers.peer import HOST, Launch, Peer, free_port
from benchmarks.process import BenchmarkError

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.exhibits import Show

__all__ = ["TorchServe"]

ENVIRONMENT: Final = Environment("torchserve")
DELAY_MS: Final = 1
"""The shortest: 0 stands for its default, 100 ms."""
QUIET: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders><Console name="out"><PatternLayout pattern="%p %m%n"/></Console></Appenders>
  <Loggers><Root level="error"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""
"""It writes several lines for every request unless told otherwise."""


class TorchServe(Peer):
    """One worker behind its Java front end."""

    name = "torchserve"
    title = "TorchServe"
    setup = "one worker, its shortest wait (1 ms), nothing but errors logged; its own gRPC messages"
    dialect = TORCHSERVE

    def missing(self) -> str:
        """Return that it or Java is not installed."""
        if shutil.which("java") is None:
            return "it needs Java, which is not on the PATH"
        return ENVIRONMENT.missing("ts")

    def version(self) -> str:
        """Return that of the package."""
        return ENVIRONMENT.version("torchserve")

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write its configuration and the model's archive.

        :raises BenchmarkError: when the archiver fails.
        """
        exhibit = show.exhibit
        task = show.write_task(folder / "task.json")
        store = folder / "store"
        store.mkdir()
        environment = {
            "PYTHONPATH": ENVIRONMENT.paths(),
            "JITNEY_COMPARE_TASK": str(task),
            # It keeps its process id in the temporary folder and refuses to start a second time.
            "TMPDIR": str(folder),
            "TEMP": str(folder),
            "PATH": os.pathsep.join((str(ENVIRONMENT.folder / "bin"), os.environ["PATH"])),
        }
        _archive(exhibit.name, store, environment)
        model = {
            "defaultVersion": True,
            "marName": exhibit.name,
            "minWorkers": 1,
            "maxWorkers": 1,
            "batchSize": exhibit.max_batch,
            "maxBatchDelay": DELAY_MS,
            "responseTimeout": 120,
        }
        inference, management, metrics, grpc, grpc_management = (free_port() for _ in range(5))
        properties = {
            "inference_address": f"http://{HOST}:{inference}",
            "management_address": f"http://{HOST}:{management}",
            "metrics_address": f"http://{HOST}:{metrics}",
            "grpc_inference_address": HOST,
            "grpc_inference_port": grpc,
            "grpc_management_address": HOST,
            "grpc_management_port": grpc_management,
            "disable_system_metrics": "true",
            "disable_token_authorization": "true",
            "load_models": exhibit.name,
            "models": json.dumps({exhibit.name: {"1.0": model}}),
        }
        lines = [f"{key}={value}\n" for key, value in properties.items()]
        (folder / "config.properties").write_text("".join(lines))
        (folder / "log4j2.xml").write_text(QUIET)
        command = [
            *(ENVIRONMENT.binary("torchserve"), "--start", "--foreground", "--ncs"),
            *("--model-store", str(store), "--ts-config", str(folder / "config.properties")),
            *("--log-config", str(folder / "log4j2.xml"), "--disable-token-auth"),
        ]
        return Launch(command, f"{HOST}:{grpc}", environment, folder)


def _archive(name: str, store: Path, environment: dict[str, str]) -> None:
    command = [
        *(ENVIRONMENT.binary("torch-model-archiver"), "--model-name", name, "--version", "1.0"),
        *("--handler", str(PROGRAMS / "torchserve_handler.py"), "--export-path", str(store)),
        *("--archive-format", "no-archive"),
    ]
    done = subprocess.run(  # the peer's own program
        command, env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    if done.returncode:
        msg = f"torch-model-archiver failed: {done.stderr.strip().splitlines()[-1:]}"
        raise BenchmarkError(msg)
