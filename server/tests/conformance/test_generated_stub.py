"""Stubs that the public generator makes of our protos, where nothing else of ours is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from live_server import LiveServer

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-stubs/bin/python"
PROGRAM = Path(__file__).with_name("stub_calls.py")
FILES = ("grpc_service.proto", "model_config.proto")
PATIENCE = 60.0
OUTPUTS = {"OUTPUT0": [i + 1 for i in range(16)], "OUTPUT1": [i - 1 for i in range(16)]}


def python(*arguments: str, **variables: str) -> str:
    """Run the clean environment's Python; return what it printed."""
    # What the tests' own interpreter was told to find must not be found there.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(PYTHON), *arguments],
        capture_output=True,
        env={**inherited, **variables},
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with freshly generated stubs."""
    if not PYTHON.exists():
        pytest.skip("grpcio-tools is not installed: run `make compat`")
    folder = tmp_path_factory.mktemp("stubs")
    target = [f"--{kind}={folder}" for kind in ("python_out", "grpc_python_out")]
    python("-m", "grpc_tools.protoc", "-I", str(ROOT / "protos"), *target, *FILES)
    return folder


@pytest.fixture(scope="module")
def answers(generated: Path, server: LiveServer) -> dict[str, Any]:
    """Return what a program that uses them got from the server."""
    printed = python(str(PROGRAM), server.address, PYTHONPATH=str(generated))
    found: dict[str, Any] = json.loads(printed)
    return found


def test_what_is_generated(generated: Path) -> None:
    """Two files of messages and one of the service; nothing else is needed."""
    expected = {
        "grpc_service_pb2.py",
        "grpc_service_pb2_grpc.py",
        "model_config_pb2.py",
        "model_config_pb2_grpc.py",
    }
    assert expected == {path.name for path in generated.iterdir() if path.is_file()}


def test_the_environment_is_clean() -> None:
    """Neither our package nor the public client is there."""
    program = "import importlib.util as u; print(*map(u.find_spec, {}))".format(
        ("jitney", "jitney_client", "tritonclient")
    )
    if not PYTHON.exists():
        pytest.skip("grpcio-tools is not installed: run `make compat`")
    assert "None None None" == python("-c", program).strip()


def test_every_rpc(answers: dict[str, Any]) -> None:
    """The stub has the twenty RPCs of the service."""
    assert 20 == len(answers["rpcs"])


def test_live(answers: dict[str, Any]) -> None:
    """The smallest call."""
    assert answers["live"]


def test_metadata(answers: dict[str, Any]) -> None:
    """The inputs as the model's config declares them."""
    assert [["INPUT0", "INT32", [-1, 16]], ["INPUT1", "INT32", [-1, 16]]] == answers["inputs"]


def test_config(answers: dict[str, Any]) -> None:
    """The messages of the second file are read as well."""
    assert ["pytorch_libtorch", 8, "TYPE_INT32"] == answers["config"]


@pytest.mark.parametrize("form", ["raw", "typed", "future"])
def test_infer(answers: dict[str, Any], form: str) -> None:
    """ModelInfer, in every form that a stub offers."""
    assert OUTPUTS == answers[form]


def test_stream(answers: dict[str, Any]) -> None:
    """ModelStreamInfer, in order."""
    assert [["a", OUTPUTS], ["b", OUTPUTS], ["c", OUTPUTS]] == answers["stream"]


def test_errors(answers: dict[str, Any]) -> None:
    """An error is a status."""
    assert "NOT_FOUND" == answers["unknown"]


def test_the_example_of_the_readme(generated: Path, server: LiveServer, tmp_path: Path) -> None:
    """What clients/README.md shows for callers without our client runs as it stands."""
    text = (ROOT / "clients/README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(import struct.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "plain.py"
    file.write_text(program.replace("127.0.0.1:8001", server.address), encoding="utf-8")
    expected = "OUTPUT0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n"
    assert expected == python(str(file), PYTHONPATH=str(generated))
