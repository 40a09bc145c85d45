"""A model that is broken or means harm is named with its reason, and the others are served."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from hostile_models import REASONS, write_hostile
from live_server import LiveServer, infer_request, launch, wait_until

from jitney_client import FailedPrecondition, ModelNotFound
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROW = np.zeros((1, 4), np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a repository of hostile models, and a folder outside of it."""
    root, outside = (tmp_path_factory.mktemp(name) for name in ("hostile", "outside"))
    write_hostile(root, outside)
    return root, outside


@pytest.fixture(scope="module")
def besieged(
    folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """Return a server of all of them, which looks for harm only where it happens."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    # The scan would keep some of them from the worker, which shall show that it can take them.
    with LiveServer(folders[0], log, "--model-scan=warn") as live:
        yield live


def reasons(server: LiveServer) -> dict[str, str]:
    """Return why each model is not served, by name."""
    return {m.name: m.reason for m in server.client.models() if m.state != "READY"}


def test_the_right_model_is_served(besieged: LiveServer) -> None:
    """Among two dozen that are not, the right model is ready and answers."""
    assert ["right"] == [m.name for m in besieged.client.models(ready=True)]
    assert besieged.client.model_ready("right")
    assert 1.0 == besieged.client.infer("right", ROW)["y"][0, 0]


def test_only_those_are_refused(besieged: LiveServer) -> None:
    """The index has every folder, and nothing that is not there."""
    assert set(REASONS) == set(reasons(besieged))


@pytest.mark.parametrize("name", REASONS)
def test_the_index_has_the_reason(
    besieged: LiveServer, folders: tuple[Path, Path], name: str
) -> None:
    """RepositoryIndex says UNAVAILABLE, what is wrong, and nothing about this machine's folders."""
    reason = reasons(besieged)[name]
    assert REASONS[name] in reason
    assert [] == [str(folder) for folder in folders if str(folder.parent) in reason]


@pytest.mark.parametrize("name", sorted(set(REASONS) - {"\\xfc", "m" * 129}))
def test_callers_are_told(besieged: LiveServer, name: str) -> None:
    """A request to it is FAILED_PRECONDITION with the reason; it is not ready, and no error."""
    assert not besieged.client.model_ready(name)
    with pytest.raises(FailedPrecondition) as caught:
        besieged.client.infer(name, {"x": ROW})
    text = str(caught.value)
    assert text.startswith(f"Request for unknown model: '{name}' ")
    assert REASONS[name] in text


def test_a_name_that_is_no_name_is_no_model(besieged: LiveServer) -> None:
    """A folder whose name is not ASCII cannot be asked for by it."""
    with pytest.raises(ModelNotFound):
        besieged.client.infer("ü", {"x": ROW})


def test_strict_readiness_counts_them(besieged: LiveServer) -> None:
    """A server that cannot serve all that it should is not ready."""
    assert not besieged.client.server_ready()


def test_the_banner_names_them(besieged: LiveServer) -> None:
    """Who started the server sees every model that is not served."""
    banner = besieged.output().partition("jitney is serving:")[2]
    for name in REASONS:
        line = next(line for line in banner.splitlines() if line.startswith(f"  {name} "))
        assert "not loaded: " in line or "UNAVAILABLE: " in line
    assert f"not ready: {len(REASONS)} not loaded, so health checks fail" in banner


def test_the_status_command_names_them(besieged: LiveServer) -> None:
    """``jitney status`` shows the reason of each, and ends well."""
    command = launch("status", "--address", besieged.address)
    output, errors = command.communicate(timeout=30)
    assert (0, "") == (command.returncode, errors)
    flat = " ".join(output.split())
    missing = [n for n, text in REASONS.items() if " ".join(text.split()) not in flat]
    assert [] == missing


def test_a_worker_that_died_of_a_file_was_replaced(besieged: LiveServer) -> None:
    """The file that ended its worker cost two restarts, and what was loaded before is back."""
    (device,) = besieged.client.status().devices
    assert ("up", 2) == (device.state, device.restarts)


def test_the_server_never_read_a_model_with_torch(besieged: LiveServer) -> None:
    """Hostile code ran in the worker, if anywhere: the server's process has no torch in it."""
    with open(f"/proc/{besieged.pid}/maps", encoding="ascii", errors="replace") as maps:  # noqa: PTH123
        assert "libtorch" not in maps.read()


def test_tolerant_readiness(folders: tuple[Path, Path], start: Any, tmp_path: Path) -> None:
    """With strict readiness off, one broken model does not keep the server from being ready."""
    root = tmp_path / "two"
    root.mkdir()
    for name in ("right", "text"):
        shutil.copytree(folders[0] / name, root / name)
    server = start(root, "--strict-readiness=false")
    assert (True, False) == (server.client.server_ready(), server.client.model_ready("text"))


def test_exit_on_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """With --exit-on-error a broken model ends the start, with its reason and a failure's code."""
    shutil.copytree(folders[0] / "text", tmp_path / "text")
    command = launch(
        "serve",
        f"--model-repository={tmp_path}",
        "--grpc-port=0",
        "--metrics-port=0",
        "--device=cpu",
        "--exit-on-error",
    )
    _, errors = command.communicate(timeout=30)
    assert 0 != command.returncode
    assert "--exit-on-error: text: not a model file" in errors


def test_a_file_that_changes_is_not_loaded_again(
    folders: tuple[Path, Path], start: Any, tmp_path: Path
) -> None:
    """A worker that is replaced gets the file that was served before, or none."""
    shutil.copytree(folders[0] / "right", tmp_path / "models" / "right")
    server = start(tmp_path / "models")
    file = tmp_path / "models" / "right" / "1" / "model.pt"
    file.write_bytes(file.read_bytes()[:-30] + bytes(30))
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: reasons(server).get("right", "").startswith("its file changed"), "refused")
    with pytest.raises(grpc.RpcError) as caught:
        server.call("ModelInfer", infer_request("right", x=ROW))
    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()
    assert pb.ModelReadyResponse(ready=False) == server.call(
        "ModelReady", pb.ModelReadyRequest(name="right")
    )
