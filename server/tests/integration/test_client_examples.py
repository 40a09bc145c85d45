"""The examples of the Python client run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import make_ca, make_pair
from live_server import LiveServer
from sequence_models import Control, SumByRow, write_sequence_model
from tiny_models import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "clients/python/examples"
ADDRESS = "127.0.0.1:8001"
PROGRAM = re.compile(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
PRINTED = {
    "infer": """\
<InferResult simple/1 OUTPUT0: int32[1, 16], OUTPUT1: int32[1, 16]>
sum: [1 2 3 4] by version 1
['OUTPUT1'] example-1 took some time: True
refused: inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'
refused: Request for unknown model: 'simpel' is not found
""",
    "asynchronous": "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n",
    "many": """\
row 50: inference input 'INPUT0' data-type is 'FP64', but model 'simple' expects 'INT32'
total: 20049
""",
    "stream": "5050\nreply 3\nreply 1\nreply 2\n",
    "shared_memory": "8388608 True\n",
    "sequence": "3.0\n30.0\n",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with the models that the examples call."""
    folder = tmp_path_factory.mktemp("samples")
    build = [sys.executable, ROOT / "models" / "build.py", "simple", f"--repository={folder}"]
    subprocess.run(build, check=True, capture_output=True)
    shutil.copytree(EXAMPLES / "models", folder, dirs_exist_ok=True)
    controls = [Control("start", "BOOL"), Control("ready", "BOOL")]
    write_sequence_model(folder, "sum", SumByRow(MAX_ROWS), "FP32", controls)
    return folder


@pytest.fixture(scope="module")
def live(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server of them."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with LiveServer(samples, log, "--allow-client-shm=true") as server:
        yield server


def run(*command: object) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "" == done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_it_should(live: LiveServer, name: str) -> None:
    """Each program runs against a server of the models that it names."""
    assert PRINTED[name] == run(EXAMPLES / f"{name}.py", live.address)


def test_the_encrypted_example(
    samples: Path, start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """It runs against a server that asks for a certificate."""
    ca = make_ca(tmp_path, "ca")
    pair, own = make_pair(tmp_path, "server", ca), make_pair(tmp_path, "caller", ca)
    shutil.copytree(samples / "simple", tmp_path / "models/simple")
    flags = (
        f"--tls-certificate={pair.certificate}",
        f"--tls-key={pair.key}",
        f"--tls-client-ca={ca.certificate}",
    )
    address = start(tmp_path / "models", *flags).address
    expected = "[2 2 2]\n"
    assert expected == run(EXAMPLES / "tls.py", address, ca.certificate, own.certificate, own.key)


def test_every_example_is_run() -> None:
    """None is forgotten."""
    assert {*PRINTED, "tls"} == {path.stem for path in EXAMPLES.glob("*.py")}


def test_the_programs_of_the_readme(live: LiveServer) -> None:
    """What clients/README.md shows of the Python client runs, and prints what it says."""
    text = (ROOT / "clients/README.md").read_text(encoding="utf-8")
    found = re.findall(
        r"^```python\n(.*?)^```\n+```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert found
    for program, printed in found:
        assert printed == run("-c", program.replace(ADDRESS, live.address))
