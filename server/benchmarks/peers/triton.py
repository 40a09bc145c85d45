"""NVIDIA's Triton Inference Server, with its Python backend: the wheel of pytriton carries it.

Its C++ backend of PyTorch is in no wheel; what that would reach is not known here.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.dialects import OIP
from benchmarks.peers.environment import PROGRAMS, Environment
from benchmarks.peers.peer import HOST, Launch, Peer, free_port

if TYPE_CHECKING:
    from benchmarks.peers.exhibits import Exhibit, Show, Slot

__all__ = ["Triton"]

ENVIRONMENT: Final = Environment("triton")
SERVER: Final = "pytriton/tritonserver"
STUB: Final = "triton_python_backend_stub"


class Triton(Peer):
    """``tritonserver`` with one instance of a Python model that runs a batch as one."""

    name = "triton"
    title = "Triton 2.51, Python backend"
    setup = (
        "dynamic batching without delay, one instance; the model concatenates the requests of an "
        "execute() and runs the frozen program once"
    )
    dialect = OIP

    def missing(self) -> str:
        """Return that the wheel is not installed, or Python's library not there."""
        if reason := ENVIRONMENT.missing(SERVER):
            return reason
        if not _stub().exists():
            return f"its Python backend is not built for {sys.version_info[:2]}"
        if not _python_library().exists():
            return f"its Python backend needs {_python_library()}"
        return ""

    def version(self) -> str:
        """Return that of the wheel; the server in it is 2.51."""
        return f"2.51 (nvidia-pytriton {ENVIRONMENT.version('nvidia_pytriton')})"

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write its repository, and a folder of backends with the stub for this Python."""
        exhibit = show.exhibit
        model = folder / "repository" / exhibit.name
        (model / "1").mkdir(parents=True)
        shutil.copyfile(PROGRAMS / "triton_model.py", model / "1" / "model.py")
        (model / "config.pbtxt").write_text(_config(exhibit))
        task = show.write_task(folder / "task.json")
        backend = folder / "backends" / "python"
        backend.mkdir(parents=True)
        for file in (ENVIRONMENT.packages / SERVER / "backends" / "python").glob("*.*"):
            (backend / file.name).symlink_to(file)
        (backend / STUB).symlink_to(_stub())
        grpc, http, metrics = (free_port() for _ in range(3))
        command = [
            *(str(ENVIRONMENT.packages / SERVER / "bin" / "tritonserver"), "--log-info", "false"),
            *("--model-repository", str(model.parent), "--backend-directory", str(backend.parent)),
            *("--grpc-address", HOST, "--grpc-port", str(grpc)),
            *("--http-address", HOST, "--http-port", str(http)),
            *("--metrics-address", HOST, "--metrics-port", str(metrics)),
        ]
        libraries = [ENVIRONMENT.packages / "nvidia_pytriton.libs", _python_library().parent]
        environment = {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "PYTHONPATH": ENVIRONMENT.paths(),
            "JITNEY_COMPARE_TASK": str(task),
        }
        return Launch(command, f"{HOST}:{grpc}", environment, folder)


def _stub() -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ENVIRONMENT.packages / SERVER / "python_backend_stubs" / version / STUB


def _python_library() -> Path:
    """Return the library of this Python, which the stub is linked with."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    return Path(sysconfig.get_config_var("LIBDIR")) / name


def _config(exhibit: Exhibit) -> str:
    lines = [
        f'name: "{exhibit.name}"',
        'backend: "python"',
        f"max_batch_size: {exhibit.max_batch}",
        "dynamic_batching { max_queue_delay_microseconds: 0 }",
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
    ]
    lines += [f"input [ {_tensor(slot)} ]" for slot in exhibit.inputs]
    lines += [f"output [ {_tensor(slot)} ]" for slot in exhibit.outputs]
    return "\n".join(lines) + "\n"


def _tensor(slot: Slot) -> str:
    dims = ", ".join(map(str, slot.shape))
    return f'{{ name: "{slot.name}" data_type: TYPE_{slot.datatype} dims: [ {dims} ] }}'
