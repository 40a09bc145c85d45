"""jitney import-triton: what it writes, what it tells, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jitney.cli import main
from jitney.repository.scan import scan_model

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
platform: "pytorch_libtorch"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 8, 8 ] }
output { name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }
instance_group { count: 2 }
"""
BAD = 'backend: "python" input { name: "x" data_type: TYPE_FP32 dims: 1 allow_ragged_batch: true }'
WRITTEN = """\
# Written by jitney import-triton from config.pbtxt.
# config.pbtxt: instance_group[0].count is ignored: one copy on each device runs one batch at a \
time; the next is staged meanwhile
# config.pbtxt: input[0].format is shown to clients only where config.pbtxt is what is served: \
model.toml has no key for it

max_batch_size = 8

[[input]]
name = "x"
datatype = "FP32"
shape = ["N", 3, 8, 8]

[[output]]
name = "y"
datatype = "FP32"
shape = ["N", 2]
labels_file = "labels.txt"
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a repository of two models with a config.pbtxt, and one without."""
    for name, text in (("good", GOOD), ("bad", BAD)):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(text, encoding="utf-8")
        (tmp_path / "models" / name / "1" / "model.pt").touch()
    (tmp_path / "models" / "good" / "labels.txt").write_text("no\nyes\n", encoding="utf-8")
    (tmp_path / "models" / "plain").mkdir()
    return tmp_path / "models"


def test_each_model_gets_a_file_or_the_reasons_why_not(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that has no equivalent is listed, and the exit code tells that a model fails."""
    assert 1 == main(["import-triton", str(models)])

    expected = f"""\
bad: cannot be served
  ! input[0].allow_ragged_batch is not supported by jitney: leave it out and let -1 in dims vary; \
requests of equal shapes share a batch, so have clients pad to a few lengths
  ! backend: 'python' is not supported by jitney: save the model as TorchScript, and write \
platform: 'pytorch_libtorch'
good: {models / "good" / "model.toml"} written
  - instance_group[0].count is ignored: one copy on each device runs one batch at a time; the next \
is staged meanwhile
  - input[0].format is shown to clients only where config.pbtxt is what is served: model.toml has \
no key for it
plain: left alone, there is no config.pbtxt in it
1 of 2 models can be served, if their files are what config.pbtxt says
"""
    assert expected == capsys.readouterr().out
    assert WRITTEN == (models / "good" / "model.toml").read_text(encoding="utf-8")
    assert not (models / "bad" / "model.toml").exists()
    assert not (models / "plain" / "model.toml").exists()


def test_what_is_written_means_the_same(models: Path) -> None:
    """A server that finds the new file serves the model as it did before."""
    before = scan_model([models], "good")
    main(["import-triton", str(models)])
    after = scan_model([models], "good")

    assert before is not None
    assert before.manifest is not None
    assert after is not None
    assert after.manifest is not None
    assert (before.manifest.max_batch_size, before.manifest.inputs, before.manifest.outputs) == (
        after.manifest.max_batch_size,
        after.manifest.inputs,
        after.manifest.outputs,
    )
    assert before.versions == after.versions


def test_a_dry_run_writes_nothing(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It only tells."""
    (models / "bad" / "config.pbtxt").unlink()
    assert 0 == main(["import-triton", str(models), "--dry-run"])
    assert "good: can be served\n" in capsys.readouterr().out
    assert not (models / "good" / "model.toml").exists()


def test_files_can_go_elsewhere(models: Path, tmp_path: Path) -> None:
    """Under another folder there is the same tree, with nothing but the new files."""
    main(["import-triton", str(models), "-o", str(tmp_path / "out")])
    found = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert [tmp_path / "out" / "good" / "model.toml"] == found
    assert not (models / "good" / "model.toml").exists()


def test_a_file_that_is_there_is_kept(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may have been written by hand; --force replaces it."""
    target = models / "good" / "model.toml"
    target.write_text("max_batch_size = 3\n", encoding="utf-8")

    main(["import-triton", str(models)])

    assert "is there already and is kept (--force writes it anew)" in capsys.readouterr().out
    assert "max_batch_size = 3\n" == target.read_text(encoding="utf-8")
    main(["import-triton", str(models), "--force"])
    assert WRITTEN == target.read_text(encoding="utf-8")


def test_a_link_in_the_place_of_the_file_is_replaced(models: Path, tmp_path: Path) -> None:
    """What it leads to is somebody else's."""
    other = tmp_path / "other"
    other.write_text("mine", encoding="utf-8")
    (models / "good" / "model.toml").symlink_to(other)
    main(["import-triton", str(models), "--force"])
    assert "mine" == other.read_text(encoding="utf-8")


def test_what_a_configuration_says_moves_no_cursor(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters of a file are shown as escapes, and cannot end a comment."""
    text = 'parameters { key: "a\\033[2J\\nb = 1" }'
    (models / "good" / "config.pbtxt").write_text(GOOD + text, encoding="utf-8")
    main(["import-triton", str(models)])
    assert r'parameters["a\x1b[2J\nb = 1"] is ignored' in capsys.readouterr().out
    written = (models / "good" / "model.toml").read_text(encoding="utf-8")
    assert r'# config.pbtxt: parameters["a\x1b[2J\nb = 1"] is ignored' in written


def test_what_is_no_repository_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there is a mistake in the command line; an empty one has no models."""
    assert 2 == main(["import-triton", str(tmp_path / "none")])
    assert 1 == main(["import-triton", str(tmp_path)])
    error = capsys.readouterr().err
    assert "none: cannot be listed (No such file or directory)" in error
    assert "there is no model with a config.pbtxt in it" in error
