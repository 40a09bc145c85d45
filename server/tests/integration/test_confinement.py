"""Models that read and write files, in a confined worker and in one that is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import torch
from live_server import LiveServer, infer_request
from tiny_models import Plus, Tensor, write_model
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Serve = Callable[..., LiveServer]

X, Y = Tensor("x", "FP32", '["N", 4]'), Tensor("y", "FP32", '["N", 4]')
SECRET = b"swordfish"
HARM = 2e6
"""A value on which they do what they are made for: not yet while they are loaded."""


class Thief(nn.Module):
    """Answers with the contents of a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, or the file."""
        if bool((x > 1e6).any()):
            found = torch.from_file(self.path, False, 4, dtype=torch.uint8)  # noqa: FBT003
            return x * 0.0 + found.to(torch.float32)
        return x


class Vandal(nn.Module):
    """Writes its input to a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        if bool((x > 1e6).any()):
            torch.save(x, self.path)
        return x


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a secret, and with a repository of two such models and a good one."""
    root = tmp_path_factory.mktemp("confinement")
    (root / "secret").write_bytes(SECRET)
    (root / "given").mkdir()
    for name, module in (
        ("thief", Thief(str(root / "secret"))),
        ("vandal", Vandal(str(root / "written"))),
        ("guest", Vandal(str(root / "given" / "written"))),
        ("good", Plus(1)),
    ):
        write_model(root / "models", name, module, [X], [Y])
    return root


@pytest.fixture
def serve(folder: Path, tmp_path: Path) -> Iterator[Serve]:
    """Start a server of these models, whose code nobody looks at; it ends with the test."""
    servers = []

    def start(*flags: str) -> LiveServer:
        log = tmp_path / "server.log"
        servers.append(LiveServer(folder / "models", log, "--model-scan=warn", *flags))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def ask(server: LiveServer, model: str, value: float) -> grpc.StatusCode | list[float]:
    """Return what a model answers, or the code of the refusal."""
    row = np.full((1, 4), value, np.float32)
    try:
        reply = server.start_infer(infer_request(model, x=row)).result()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]  # it is a call as well
        return code
    answered: list[float] = np.frombuffer(reply.raw_output_contents[0], np.float32).tolist()
    return answered


def test_a_confined_model_reaches_no_file(serve: Serve, folder: Path) -> None:
    """It can neither read nor write one, whether torch notices or not; others are served."""
    server = serve("--worker-confinement=strict", f"--worker-paths={folder / 'given'}")

    assert grpc.StatusCode.INVALID_ARGUMENT == ask(server, "thief", HARM)
    ask(server, "vandal", HARM)  # torch does not look whether the file could be opened
    assert not (folder / "written").exists()
    assert [HARM] * 4 == ask(server, "guest", HARM)
    assert (folder / "given" / "written").exists()
    assert [[2.0] * 4, [1.0] * 4] == [ask(server, name, 1.0) for name in ("good", "thief")]
    [device] = server.client.status().devices
    assert "confined: network, privileges, files, system calls" in device.description
    assert 0 == device.restarts


def test_a_model_that_is_not_confined_does(serve: Serve, folder: Path) -> None:
    """The negative control: what keeps the others from it is the confinement."""
    server = serve("--worker-confinement=off")

    assert list(map(float, SECRET[:4])) == ask(server, "thief", HARM)
    assert [HARM] * 4 == ask(server, "vandal", HARM)
    assert (folder / "written").exists()
    (folder / "written").unlink()


def test_a_worker_holds_no_rights_of_its_server(serve: Serve) -> None:
    """It may gain none, dumps no core, and is in a network of its own."""
    server = serve()
    (worker,) = server.workers()
    status = Path(f"/proc/{worker}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    networks = [Path(f"/proc/{pid}/ns/net").readlink() for pid in (server.pid, worker)]

    assert ("1", "2") == (fields["NoNewPrivs"], fields["Seccomp"])
    assert 0 == int(fields["CapEff"], 16) & (1 << 21)  # CAP_SYS_ADMIN
    assert networks[0] != networks[1]


WITHOUT_LANDLOCK = """\
import ctypes, platform, struct, sys
from jitney.execution.confinement import kernel, privileges, seccomp
privileges.renounce_new_privileges()
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
program = seccomp._Program(len(code) // 8, code)
kernel.call(seccomp.MACHINES[platform.machine()].seccomp, 1, 0, ctypes.byref(program))
from jitney.cli import main
sys.exit(main())
"""
"""Runs jitney where the kernel seems to have no Landlock."""


def test_a_server_that_must_confine_and_cannot_does_not_start(folder: Path) -> None:
    """Told to be strict where there is a step missing, it names the step, and the way out."""
    ended = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_LANDLOCK, "serve", "--device=cpu"),
            *("--grpc-port=0", "--metrics-port=0", f"--model-repository={folder / 'models'}"),
            "--worker-confinement=strict",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == ended.returncode
    expected = (
        "no device can be used: cpu: devices.worker_confinement is strict, and a worker cannot be "
        "confined in: files (Landlock: Function not implemented); auto does without"
    )
    assert expected in ended.stderr
