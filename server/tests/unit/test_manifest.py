"""model.toml: what it may say, and how it agrees with a packed signature."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import ConfigError, ModelError
from jitney.repository.manifest import (
    BatchingManifest,
    ModelManifest,
    RuntimeManifest,
    VersionPolicy,
    resolve_signature,
)
from jitney.repository.manifest_reader import parse_manifest, read_manifest
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

FULL = """
description = "handwritten digits"
max_batch_size = 16
[batching]
enabled = true
required = true
max_queue_delay_ms = 2.5
max_queue_size = 64
default_slo_ms = 200
default_timeout_ms = 150.5
default_priority = 1
mode = "efficiency"
split_large_requests = false
[runtime]
optimise = "frozen"
[versions]
policy = [3, 1]
[[input]]
name = "image"
datatype = "FP32"
shape = ["N", 1, 8, 8]
[[output]]
name = "logits"
datatype = "FP32"
shape = ["N", 10]
"""
IMAGE = TensorSpec("image", DataType.FP32, ("N", 1, 8, 8))
LOGITS = TensorSpec("logits", DataType.FP32, ("N", 10))


def refusal(text: str) -> str:
    """Return the text with which a model.toml is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_manifest(text)
    return str(caught.value)


def disagreement(manifest: ModelManifest, packed: Signature | None) -> str:
    """Return the text with which two descriptions are refused."""
    with pytest.raises(ConfigError) as caught:
        resolve_signature(manifest, packed)
    return str(caught.value)


def test_an_empty_file_is_the_default() -> None:
    """Every key may be left out."""
    assert ModelManifest() == parse_manifest("")


def test_a_full_file_is_read() -> None:
    """Every key arrives where it belongs."""
    expected = ModelManifest(
        description="handwritten digits",
        max_batch_size=16,
        batching=BatchingManifest(
            enabled=True,
            required=True,
            max_queue_delay_ms=2.5,
            max_queue_size=64,
            default_slo_ms=200.0,
            default_timeout_ms=150.5,
            default_priority=1,
            mode="efficiency",
            split_large_requests=False,
        ),
        runtime=RuntimeManifest("frozen"),
        versions=VersionPolicy("specific", numbers=(1, 3)),
        inputs=(IMAGE,),
        outputs=(LOGITS,),
    )
    assert expected == parse_manifest(FULL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", VersionPolicy("latest", 1)),
        ('[versions]\npolicy = "latest"\ncount = 3', VersionPolicy("latest", 3)),
        ("[versions]\ncount = 2", VersionPolicy("latest", 2)),
        ('[versions]\npolicy = "all"', VersionPolicy("all")),
        ("[versions]\npolicy = [2, 0, 2]", VersionPolicy("specific", numbers=(0, 2))),
    ],
)
def test_version_policies(text: str, expected: VersionPolicy) -> None:
    """The latest, all, or those that are listed."""
    assert expected == parse_manifest(text).versions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_batch = 3", "model.toml: max_batch: unknown key; known are description, max_batch"),
        ("max_batch_size = -1", "model.toml: max_batch_size: expected a whole number from 0 to"),
        ("max_batch_size = true", "model.toml: max_batch_size: expected a whole number from 0"),
        ("description = 3", "model.toml: description: expected a text, got 3"),
        ("batching = 3", "model.toml: batching: expected a table, [batching], got 3"),
        ("[batching]\nenable = true", "model.toml: batching.enable: unknown key; known are"),
        ("[batching]\nenabled = 1", "model.toml: batching.enabled: expected true or false, got 1"),
        (
            "[batching]\nenabled = false\nrequired = true",
            "model.toml: batching: required = true contradicts enabled = false",
        ),
        ("[batching]\nmax_queue_delay_ms = nan", "model.toml: batching.max_queue_delay_ms:"),
        ("[batching]\nmax_queue_size = 0", "model.toml: batching.max_queue_size: expected"),
        ("[batching]\ndefault_slo_ms = -1", "model.toml: batching.default_slo_ms: expected a num"),
        ("[batching]\ndefault_timeout_ms = '1'", "model.toml: batching.default_timeout_ms: exp"),
        (
            "[batching]\ndefault_priority = 0",
            "model.toml: batching.default_priority: expected a whole number from 1 to 3, got 0",
        ),
        (
            "[batching]\nmode = 'fast'",
            "model.toml: batching.mode: expected one of latency, efficiency, got 'fast'",
        ),
        ("[batching]\nsplit_large_requests = 1", "model.toml: batching.split_large_requests:"),
        ("[runtime]\noptimise = []", "model.toml: runtime.optimise: expected one of auto, opt"),
        ("[runtime]\noptimize = 'off'", "model.toml: runtime.optimize: unknown key; known are"),
        ("[versions]\npolicy = 'newest'", "model.toml: versions.policy: expected"),
        ("[versions]\npolicy = [-1]", "model.toml: versions.policy: expected"),
        ("[versions]\npolicy = [true]", "model.toml: versions.policy: expected"),
        ("[versions]\npolicy = []", "model.toml: versions.policy: expected"),
        ("[versions]\npolicy = 'all'\ncount = 1", "model.toml: versions.count: expected no count"),
        ("input = 3", "model.toml: input: expected a list of tables, got 3"),
        ("[[input]]\nname = 'x'\ndatatype = 'F'\nshape = []", "model.toml: input[0].datatype:"),
        ("[[output]]\nname = ''", "model.toml: output[0].name: expected a text of 1 to"),
        ("= 3", "model.toml: not TOML: "),
        ("x = " + "[" * 100_000, "model.toml: not TOML: "),
        ("x = " + "9" * 10_000, "model.toml: not TOML: "),
    ],
)
def test_what_is_wrong_is_named_with_its_path(text: str, expected: str) -> None:
    """The text begins with the file and the key."""
    assert refusal(text).startswith(expected)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but ConfigError comes out of a text, whatever it is."""
    with suppress(ConfigError):
        parse_manifest(text)


def test_a_file_must_be_utf8(tmp_path: Path) -> None:
    """Bytes that are no text are refused with their position."""
    (tmp_path / "model.toml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match=r"^model\.toml: not UTF-8 text \(at byte 2\)$"):
        read_manifest(tmp_path / "model.toml")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """No more is read than a manifest can have."""
    with (tmp_path / "model.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="larger than 16 MiB"):
        read_manifest(tmp_path / "model.toml")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """A pipe in the place of the file does not stop the server."""
    os.mkfifo(tmp_path / "model.toml")
    with pytest.raises(ModelError, match=r"^model\.toml: not a regular file$"):
        read_manifest(tmp_path / "model.toml")


def test_no_description_at_all_is_none() -> None:
    """Without tables and without a packed signature there is none."""
    assert resolve_signature(ModelManifest(), None) is None


def test_either_description_suffices() -> None:
    """The tables of model.toml and a packed signature are worth the same."""
    signature = Signature((IMAGE,), (LOGITS,), "x")
    assert signature == resolve_signature(ModelManifest(), signature)
    written = ModelManifest(description="x", inputs=(IMAGE,), outputs=(LOGITS,))
    assert signature == resolve_signature(written, None)


def test_one_side_alone_needs_the_other() -> None:
    """The text says which tables to write."""
    expected = "model.toml: output: missing; write a [[output]] table for each output as well"
    assert expected == disagreement(ModelManifest(inputs=(IMAGE,)), None)


def test_one_side_alone_completes_a_packed_signature() -> None:
    """What model.toml leaves out comes from the model file."""
    labelled = TensorSpec("logits", DataType.FP32, (-1, 10), labels=("a",) * 10)
    packed = Signature(
        (TensorSpec("x", DataType.FP32, ("M", 3)),),
        (TensorSpec("logits", DataType.FP32, (-1, 10)),),
    )
    expected = Signature(packed.inputs, (labelled,))
    assert expected == resolve_signature(ModelManifest(outputs=(labelled,)), packed)


def test_bounds_labels_and_names_of_model_toml_win_and_the_packed_order_stays() -> None:
    """model.toml adds to a packed signature what it knows more."""
    ids = TensorSpec("ids", DataType.INT64, ("N", -1), low=0, high=9)
    mask = TensorSpec("mask", DataType.INT64, ("N", "L"))
    out = TensorSpec("out", DataType.FP32, ("N", 2))
    manifest = ModelManifest(
        inputs=(
            TensorSpec("mask", DataType.INT64, ("N", -1)),
            TensorSpec("ids", DataType.INT64, ("N", "L"), high=5),
        )
    )
    expected = (TensorSpec("ids", DataType.INT64, ("N", "L"), low=0, high=5), mask)

    resolved = resolve_signature(manifest, Signature((ids, mask), (out,)))

    assert resolved is not None
    assert expected == resolved.inputs


@pytest.mark.parametrize(
    ("given_spec", "expected"),
    [
        (
            TensorSpec("picture", DataType.FP32, ("N", 1, 8, 8)),
            (
                "model.toml: input: describes picture, but the model file was packed with image; "
                "correct it or leave the tables out"
            ),
        ),
        (
            TensorSpec("image", DataType.FP16, ("N", 1, 8, 8)),
            "model.toml: input 'image': datatype FP16, but the model file was packed with FP32",
        ),
        (
            TensorSpec("image", DataType.FP32, ("N", 1, 8, 9)),
            (
                "model.toml: input 'image': shape ['N', 1, 8, 9], but the model file was packed "
                "with ['N', 1, 8, 8]"
            ),
        ),
        (
            TensorSpec("image", DataType.FP32, ("N", 1, 8)),
            (
                "model.toml: input 'image': shape ['N', 1, 8], but the model file was packed "
                "with ['N', 1, 8, 8]"
            ),
        ),
        (
            TensorSpec("image", DataType.FP32, (-1, 1, 8, 8)),
            (
                "model.toml: input 'image': shape [-1, 1, 8, 8], but the model file was packed "
                "with ['N', 1, 8, 8]"
            ),
        ),
    ],
)
def test_a_difference_is_named(given_spec: TensorSpec, expected: str) -> None:
    """Where both describe a tensor, they must agree."""
    packed = Signature((IMAGE,), (LOGITS,))
    assert expected == disagreement(ModelManifest(inputs=(given_spec,)), packed)


def test_what_a_signature_must_hold_is_said_with_the_file() -> None:
    """A broken invariant of the tables names model.toml."""
    flat = TensorSpec("flat", DataType.FP32, (10,))
    text = disagreement(ModelManifest(inputs=(IMAGE,), outputs=(flat,)), None)
    assert text.startswith("model.toml: either every input and output starts with")
