"""KServe's own client, unmodified, in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from live_server import LiveServer

PYTHON = Path(__file__).resolve().parents[3] / ".compat/venv-kserve/bin/python"
PROGRAM = Path(__file__).with_name("kserve_calls.py")
PATIENCE = 120.0
"""Seconds; most of them are spent on importing KServe."""
SUM, DIFFERENCE = [i + 1 for i in range(16)], [i - 1 for i in range(16)]


@pytest.fixture(scope="module")
def answers(server: LiveServer) -> dict[str, Any]:
    """Return what KServe's client got, by the names of the calls."""
    if not PYTHON.exists():
        pytest.skip("kserve is not installed: run `make compat`")
    # Not with what the tests' own interpreter was given: the environment is a different one.
    done = subprocess.run(
        [str(PYTHON), "-I", str(PROGRAM), server.address],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    # KServe writes its log to either stream.
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_health(answers: dict[str, Any]) -> None:
    """Server and model are live and ready."""
    assert [True] * 3 == [answers[name] for name in ("live", "ready", "model ready")]


def test_an_unknown_model(answers: dict[str, Any]) -> None:
    """It is not ready, and a request for it is refused with its name."""
    code, details = answers["infer unknown"]
    assert (False, "NOT_FOUND", True) == (
        answers["unknown model ready"],
        code,
        "'nobody'" in details,
    )


def test_raw_numbers(answers: dict[str, Any]) -> None:
    """INT32 as bytes; the id comes back."""
    assert ["7", "simple", {"OUTPUT0": SUM, "OUTPUT1": DIFFERENCE}] == answers["int32"]


def test_typed_numbers(answers: dict[str, Any]) -> None:
    """INT32 as values."""
    assert {"OUTPUT0": SUM, "OUTPUT1": DIFFERENCE} == answers["int32 typed"][2]


@pytest.mark.parametrize("form", ["fp32", "fp32 typed"])
def test_floats(answers: dict[str, Any], form: str) -> None:
    """FP32 in both forms."""
    assert {"OUTPUT__0": [4.5, -6.0]} == answers[form][2]


def test_raw_texts(answers: dict[str, Any]) -> None:
    """BYTES may be any bytes."""
    assert {"OUTPUT0": ["a", "", "\xff\x00"]} == answers["bytes"][2]


def test_typed_texts(answers: dict[str, Any]) -> None:
    """BYTES as values."""
    assert {"OUTPUT0": ["14"] * 16, "OUTPUT1": ["0"] * 16} == answers["bytes typed"][2]


def test_requested_outputs(answers: dict[str, Any]) -> None:
    """Only the output that was asked for."""
    assert {"OUTPUT1": DIFFERENCE} == answers["one output"][2]


@pytest.mark.parametrize("name", ["version", "parameters"])
def test_what_else_a_request_says(answers: dict[str, Any], name: str) -> None:
    """A version and parameters change nothing about the answer."""
    assert {"OUTPUT0": SUM, "OUTPUT1": DIFFERENCE} == answers[name][2]


def test_many_at_once(answers: dict[str, Any]) -> None:
    """Fifty calls at once are all answered."""
    assert 50 == answers["together"]
