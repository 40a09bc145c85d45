"""Which devices are used, and that asking never does harm."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from jitney.errors import ConfigError
from jitney.execution import discovery
from jitney.execution.discovery import choose_devices, cores, count_cuda_devices

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("setting", "count", "expected"),
    [
        ("auto", 0, ["cpu"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cpu", 2, ["cpu"]),
        ("cuda", 1, ["cuda:0"]),
        ("cuda:1", 2, ["cuda:1"]),
    ],
)
def test_devices_are_chosen(setting: str, count: int, expected: list[str]) -> None:
    """Auto takes every CUDA device, else the CPU; the rest is taken at its word."""
    assert expected == choose_devices(setting, lambda: count)


@pytest.mark.parametrize(
    ("setting", "count", "text"),
    [
        (
            "cuda",
            0,
            "--device cuda: no CUDA device was found; --device auto falls back to the CPU",
        ),
        (
            "cuda:0,cuda:2",
            2,
            "--device cuda:0,cuda:2: there is no cuda:2, 2 CUDA devices were found",
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(setting: str, count: int, text: str) -> None:
    """The text says what was asked for and what was found."""
    with pytest.raises(ConfigError) as caught:
        choose_devices(setting, lambda: count)

    assert text == str(caught.value)


def test_the_cpu_is_chosen_without_asking_for_others() -> None:
    """Counting CUDA devices takes seconds, so nobody is asked when the answer does not matter."""

    def never() -> int:
        raise AssertionError

    assert ["cpu"] == choose_devices("cpu", never)


def test_nobody_is_asked_where_there_is_no_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a sign of an NVIDIA driver the count is 0 and no process is started."""
    monkeypatch.setattr(discovery, "SIGNS", (str(tmp_path / "none"),))
    monkeypatch.setattr(discovery, "ASK", "raise SystemExit(1)")

    assert 0 == count_cuda_devices(os.environ)


@pytest.mark.parametrize(
    ("program", "count"),
    [
        ("print(3)", 3),
        ("print('[]')", 0),
        ("print('no JSON')", 0),
        ("raise SystemExit(1)", 0),
        ("import signal; signal.pause()", 0),
    ],
)
def test_a_strange_answer_is_no_device(
    monkeypatch: pytest.MonkeyPatch, program: str, count: int
) -> None:
    """Whatever becomes of the process that is asked, the server starts."""
    monkeypatch.setattr(discovery, "SIGNS", (sys.executable,))
    monkeypatch.setattr(discovery, "ASK", program)
    monkeypatch.setattr(discovery, "ASK_TIMEOUT", 60 if count else 0.5)

    assert count == count_cuda_devices(os.environ)


def test_an_interpreter_that_is_missing_is_no_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even that nothing can be started is survived."""
    monkeypatch.setattr(discovery, "SIGNS", (sys.executable,))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))

    assert 0 == count_cuda_devices(os.environ)


def test_cores_are_those_of_this_process() -> None:
    """What the process may use counts, not what the machine has."""
    assert len(os.sched_getaffinity(0)) == cores()
