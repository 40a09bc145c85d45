"""What a server writes to its standard error: records, one per line, whoever they come from."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from live_server import launch, wait_until
from tiny_models import Tensor, write_model
from torch import nn

from jitney_client import JitneyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from live_server import LiveServer

    Start = Callable[..., LiveServer]

ROW = {"x": np.ones((1, 4), np.float32)}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Chatty(nn.Module):
    """Its input; says so on every row, with what looks like a record."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102  # torch's name for it
        print("hello\x1b[2J", x.shape)  # noqa: T201  # it is about that
        return x


class Flood(nn.Module):
    """Its input, after a thousand lines."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102  # torch's name for it
        for i in range(1000):
            print("line", i, "of far too many to be read by anybody")  # noqa: T201  # likewise
        return x


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    """Return a repository of models that print."""
    root = tmp_path / "chatty"
    for name, module in (("chatty", Chatty()), ("flood", Flood())):
        tensors = [Tensor(side, "FP32", '["N", 4]') for side in ("x", "y")]
        write_model(root, name, module, tensors[:1], tensors[1:])
    return root


def records(live: LiveServer) -> list[dict[str, Any]]:
    """Return what was logged; every line must be a record."""
    return [json.loads(line) for line in live.log.read_text().splitlines()]


def test_every_line_is_an_object_with_time_level_logger_and_message(
    start: Start, few: Path
) -> None:
    """Also those about a worker that died, and its last words. None were left out."""
    live = start(few)
    with pytest.raises(JitneyError):
        live.client.infer("crash", {"x": np.full((1, 4), 2e6, np.float32)})
    wait_until(lambda: "a new one in" in live.log.read_text(), "the worker's end is logged")
    assert 0 == live.metric("jitney_log_records_dropped_total", reason="full")
    assert 0 == live.stop()
    logged = records(live)

    assert [] == [r for r in logged if not {"time", "level", "logger", "message"} <= set(r)]
    assert [] == [r for r in logged if not TIME.fullmatch(r["time"])]
    assert [] == [m for r in logged for m in (r["message"],) if m.startswith("{")]


def test_what_models_print_is_logged_with_the_device(start: Start, chatty: Path) -> None:
    """Nothing in it reaches a terminal as it was."""
    live = start(chatty, "--model-scan=warn")
    for _ in range(3):
        live.client.infer("chatty", ROW)
    assert 0 == live.stop()
    said = [r for r in records(live) if r["message"].startswith("hello")]

    assert said
    assert ("hello\x1b[2J [1, 4]", "cpu", "INFO") == (
        said[0]["message"],
        said[0]["device"],
        said[0]["level"],
    )
    assert "\x1b" not in live.log.read_text()


def test_a_model_that_prints_without_end_fills_no_disk_and_is_answered(
    start: Start, chatty: Path
) -> None:
    """How much was left out is said."""
    live = start(chatty, "--model-scan=warn")
    live.client.infer("flood", ROW)
    live.client.infer("flood", ROW)
    assert 0 == live.stop()
    logged = records(live)
    left_out = sum(r.get("left_out", 0) for r in logged)

    assert len(live.log.read_bytes()) < 1_000_000
    assert left_out > 1000


def test_text_is_for_who_asks(start: Start, chatty: Path) -> None:
    """With the fields behind the message."""
    live = start(chatty, "--model-scan=warn", "--log-format=text")
    live.client.infer("chatty", ROW)
    assert 0 == live.stop()

    assert re.search(
        r"^\d{4}-\d\d-\d\d [\d:,]+ INFO jitney\.\S+: hello\\x1b\[2J \[1, 4\] device=cpu$",
        live.log.read_text(),
        re.MULTILINE,
    )


def test_the_reason_why_a_server_ends_is_logged(tmp_path: Path) -> None:
    """As a record, for programs, besides the line for who started it."""
    command = launch("serve", f"--model-repository={tmp_path / 'nowhere'}", "--device=cpu")
    _, errors = command.communicate(timeout=30)
    first, *_ = errors.splitlines()

    assert ("CRITICAL", "jitney.serving") == tuple(
        json.loads(first)[key] for key in ("level", "logger")
    )
    assert "nowhere" in json.loads(first)["message"]
