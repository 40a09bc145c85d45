"""locust's users against a server, as ``make loadtest`` runs them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from live_server import LiveServer

ROOT = Path(__file__).resolve().parents[3]
LOCUST = ROOT / ".compat" / "venv-locust" / "bin" / "locust"
PATIENCE = 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LOCUST.exists(), reason="locust is not installed: make loadtest"),
]


def locust(address: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Let two users call a server for two seconds."""
    command = [LOCUST, "-f", ROOT / "loadtests" / "locustfile.py", "--host", address, "--headless"]
    command += ["--users", "2", "--spawn-rate", "2", "--run-time", "2s", "--json", *flags]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT
    )


def test_users_call_and_check(server: LiveServer) -> None:
    """Calls of one model are answered, rightly and counted, and the exit code is 0."""
    done = locust(server.address, "--mix", "simple")

    (calls,) = json.loads(done.stdout)
    assert (0, "simple", 0) == (done.returncode, calls["name"], calls["num_failures"])
    assert calls["num_requests"] > 0


def test_failures_end_with_an_exit_code(server: LiveServer) -> None:
    """Deadlines that nobody can keep are failures, told without their numbers."""
    done = locust(server.address, "--mix", "simple", "--timeout-ms", "0.001")

    assert 1 == done.returncode
    assert "Deadline" in done.stderr + done.stdout


def test_nothing_to_test_is_said(server: LiveServer) -> None:
    """A model that is not there ends the run at once."""
    done = locust(server.address, "--mix", "minilm")

    assert 1 == done.returncode
    assert "nothing to test: Request for unknown model: 'minilm' is not found" in done.stderr
