"""What is found out of a version before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_loader import model_bytes

from jitney.config import BatchingSettings
from jitney.errors import ConfigError, ModelError
from jitney.repository.manifest import ModelManifest
from jitney.repository.manifest_reader import parse_manifest
from jitney.repository.preparing import Candidate, Preparer, from_path
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.text import parse_config
from jitney.types import ModelRef

if TYPE_CHECKING:
    from pathlib import Path

SLOT = 1 << 12
TENSORS = """
max_batch_size: {rows}
input {{ name: "x" data_type: TYPE_FP32 dims: {x} }}
output {{ name: "y" data_type: TYPE_FP32 dims: {y} }}
"""
TOML = """
[[input]]
name = "x"
datatype = "FP32"
shape = ["N", 4]
[[output]]
name = "y"
datatype = "FP32"
shape = ["N", 4]
"""
WARMED = TENSORS.format(rows=4, x=4, y=4) + (
    'model_warmup { name: "short" batch_size: 1 '
    'inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 input_data_file: "x.bin" } } }'
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a TorchScript file that nobody packed."""
    path = tmp_path / "model.pt"
    path.write_bytes(model_bytes())
    return path


def preparer() -> Preparer:
    """Return that of a server with small buffers."""
    return Preparer(BatchingSettings(), SLOT, ["cpu"], [].append, lambda: 0.0)


def prepared(file: Path, config: str) -> Candidate:
    """Prepare a version by its config.pbtxt."""
    manifest, _ = manifest_of(parse_config(config), "m")
    return preparer().prepare(ModelRef("m", 1), from_path(file), manifest)


@pytest.mark.parametrize(("x", "y", "what"), [(2000, 4, "inputs"), (4, 2000, "outputs")])
def test_a_row_that_no_buffer_takes_is_refused(file: Path, x: int, y: int, what: str) -> None:
    """It would be ready and refuse every request; the text names the flag and its value."""
    expected = (
        f"its {what} have 8000 bytes a row, and a batch buffer has 4096; start the server with "
        "--slot-bytes 32064"
    )
    with pytest.raises(ModelError, match=f"^{expected}$"):
        prepared(file, TENSORS.format(rows=4, x=x, y=y))


def test_batches_that_no_buffer_takes_are_warned_about(file: Path) -> None:
    """Smaller ones are served; what varies is not known, and what fits needs no word."""
    found = prepared(file, TENSORS.format(rows=8, x=200, y=4))
    (warning,) = found.warnings
    expected = "8 rows of its inputs do not fit into a batch buffer; --slot-bytes 6464 makes room "
    assert f"{expected}for them" == warning
    assert (5, 5) == (found.handle.limits.max_batch_size, found.spec.options.max_batch_size)
    for fitting in (TENSORS.format(rows=8, x=-1, y=-1), TENSORS.format(rows=5, x=200, y=4)):
        assert () == prepared(file, fitting).warnings


def test_a_sample_may_be_larger_than_a_buffer_but_not_than_a_batch(file: Path) -> None:
    """It is run in parts; more rows than the operator allows is a mistake of the operator."""
    sample = (
        'model_warmup {{ name: "long" batch_size: {rows} '
        'inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: 200 zero_data: true }} }} }}'
    )
    tensors = TENSORS.format(rows=8, x=200, y=4)
    (long,) = prepared(file, tensors + sample.format(rows=8)).spec.options.warmup
    assert 8 == long.rows
    with pytest.raises(ConfigError, match="9 rows are more"):
        prepared(file, tensors + sample.format(rows=9))
    table = '[[warmup]]\nname = "long"\nrows = 33\ninputs = { x = { from = "zero", shape = [4] } }'
    packed = parse_manifest(f"{table}\n{TOML}", lambda _: b"")
    with pytest.raises(ModelError, match="'long': 33 rows, and a batch of this model may have 32"):
        preparer().prepare(ModelRef("m", 1), from_path(file), packed)


def test_a_missing_warm_up_file_is_named_with_its_sample(file: Path) -> None:
    """It lies in a folder of its own, which who looks for it has to know."""

    def missing(name: str) -> bytes:
        msg = f"{name}: there is no such file"
        raise ModelError(msg)

    manifest, _ = manifest_of(parse_config(WARMED), "m")
    expected = "^warm-up sample 'short': warmup/x.bin: there is no such file$"
    with pytest.raises(ModelError, match=expected):
        preparer().prepare(ModelRef("m", 1), from_path(file), manifest, missing)


def test_a_file_that_nothing_describes_is_answered_with_what_to_write(file: Path) -> None:
    """A config.pbtxt that is there may be completed, too."""
    with pytest.raises(ModelError, match=r"\(jitney pack\), or put a model.toml into its folder"):
        preparer().prepare(ModelRef("m", 1), from_path(file), ModelManifest())
    with pytest.raises(ModelError, match=r"or add input and output to config\.pbtxt, or put a"):
        prepared(file, 'backend: "pytorch"')
