"""``jitney profile`` measures a model in a worker of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psutil
import pytest
from tiny_models import Same, Tensor, write_model

from jitney.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every size up to the limit that is asked for has a time, and no process is left."""
    monkeypatch.delenv("JITNEY_REPOSITORY_MODEL_REPOSITORY", raising=False)
    row = '["N", 4]'
    write_model(tmp_path, "same", Same(), [Tensor("x", "FP32", row)], [Tensor("y", "FP32", row)])
    file = tmp_path / "same" / "1" / "model.pt"

    flags = ("--device", "cpu", "--slo-ms", "1000", "--max-batch-size", "20", "--json")
    before = psutil.Process().children()
    code = main(["profile", str(file), *flags])

    output = capsys.readouterr()
    assert (0, before) == (code, psutil.Process().children())
    (found,) = json.loads(output.out)
    assert ("same", 1, "cpu", 20) == (
        *(found["model"], found["version"], found["device"]),
        found["max_batch_size"],
    )
    assert [1, 2, 4, 8, 12, 16, 20] == found["latency"]["sizes"]
    assert all(0 < seconds < 1 for seconds in found["latency"]["seconds"])
    assert all(peak > 0 for peak in found["peak_bytes"])
    assert 20 == found["advice"]["target"]
    assert "same/1: ready on cpu" in output.err


@pytest.mark.parametrize(
    ("model", "code", "text"),
    [
        ("other", 2, "there is no model 'other' in the repository; found are broken"),
        ("broken", 1, "broken cannot be loaded: "),
    ],
)
def test_what_cannot_be_measured_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    code: int,
    text: str,
) -> None:
    """The reasons are the server's."""
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.pt").write_bytes(b"no model")

    assert code == main(["profile", model, "--model-repository", str(tmp_path), "--device", "cpu"])
    assert text in capsys.readouterr().err
