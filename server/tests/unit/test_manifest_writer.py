"""Writing model.toml: whatever a manifest says is read back as it was."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_triton_effective import MANIFESTS
from test_triton_mapping import FULL, SEQUENCE, read_labels

from jitney.builtin import BuiltinSpec
from jitney.datatypes import DataType
from jitney.repository.manifest import (
    MAX_QUEUE_SIZE,
    BatchingManifest,
    LevelManifest,
    ModelManifest,
    RuntimeManifest,
    VersionPolicy,
    WarmupManifest,
)
from jitney.repository.manifest_reader import parse_manifest
from jitney.repository.manifest_writer import manifest_to_toml
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.text import parse_config
from jitney.sequence import Control, ControlKind, SequenceConfig, Strategy
from jitney.signature import TensorSpec

NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=9)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=9)
FILES = st.sampled_from(["a.pt", "net.bin", "ünïcode ' file"])
MILLISECONDS = st.integers(0, 60_000) | st.integers(0, 60_000_000).map(lambda us: us / 1000)
TIMES = st.none() | MILLISECONDS.map(float)
SIZES = st.none() | st.integers(1, MAX_QUEUE_SIZE)
SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)

LEVELS = st.builds(
    LevelManifest,
    max_queue_size=SIZES,
    default_timeout_ms=TIMES,
    on_timeout=st.sampled_from([None, "reject", "delay"]),
)
BATCHING = st.builds(
    BatchingManifest,
    enabled=st.just(value=True),
    required=st.booleans(),
    max_queue_delay_ms=TIMES,
    max_queue_size=SIZES,
    default_slo_ms=TIMES,
    default_timeout_ms=TIMES,
    default_priority=st.none() | st.integers(1, 5),
    mode=st.sampled_from([None, "latency", "efficiency"]),
    split_large_requests=st.none() | st.booleans(),
    buckets=st.lists(st.integers(1, 99)).map(tuple),
    priority_levels=st.just(5),
    on_timeout=st.sampled_from(["reject", "delay"]),
    levels=st.dictionaries(st.integers(1, 5), LEVELS, max_size=3),
)
VERSIONS = st.one_of(
    st.builds(VersionPolicy, count=st.integers(1, 9)),
    st.just(VersionPolicy("all")),
    st.lists(st.integers(0, 9), min_size=1, unique=True).map(
        lambda numbers: VersionPolicy("specific", numbers=tuple(sorted(numbers)))
    ),
)
CONTROLS = st.lists(
    st.builds(
        Control,
        NAMES,
        st.sampled_from([ControlKind.START, ControlKind.READY, ControlKind.END]),
        st.just(DataType.FP32),
        st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)),
    ),
    unique_by=(lambda control: control.name, lambda control: control.kind),
).map(tuple)
SEQUENCES = st.builds(
    SequenceConfig,
    st.sampled_from(Strategy),
    CONTROLS,
    max_idle=st.integers(1, 60_000_000).map(lambda us: us / 1000 / 1000),
    max_candidates=st.integers(0, 99),
)
SPECS = st.lists(
    st.builds(
        TensorSpec,
        NAMES,
        st.sampled_from(DataType),
        st.lists(st.integers(1, 9) | st.sampled_from([-1, "L"]), max_size=3).map(tuple),
        optional=st.booleans(),
        low=st.none() | st.floats(-9, 0) | st.integers(-9, 0),
        high=st.none() | st.floats(0, 9) | st.integers(0, 9),
        labels=st.lists(TEXTS, max_size=3).map(tuple),
    ),
    max_size=3,
).map(tuple)
WARMUPS = st.lists(
    st.builds(
        WarmupManifest,
        NAMES,
        st.integers(1, 9),
        st.integers(1, 9),
        st.dictionaries(TEXTS, st.tuples(st.sampled_from(["zero", "a.bin"]), SHAPES), max_size=3),
    ),
    max_size=2,
).map(tuple)
ANY_MANIFEST = st.builds(
    ModelManifest,
    description=TEXTS,
    max_batch_size=st.none() | st.integers(0, 99),
    batching=BATCHING,
    runtime=st.builds(
        RuntimeManifest,
        st.sampled_from(["auto", "optimised", "frozen", "off"]),
        st.booleans(),
        st.booleans(),
        FILES,
    ),
    versions=VERSIONS,
    inputs=st.none() | SPECS,
    outputs=st.none() | SPECS,
    builtin=st.none()
    | st.builds(BuiltinSpec, st.just("identity"), st.dictionaries(TEXTS, TEXTS, max_size=3)),
    sequence=st.none() | SEQUENCES,
    devices=st.lists(st.sampled_from(["cpu", "cuda", "cuda:7"]), unique=True).map(tuple),
    warmup=WARMUPS,
    config=st.just(b""),
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(ANY_MANIFEST)
def test_what_is_written_is_read_back(manifest: ModelManifest) -> None:
    """Nothing that a manifest says is lost in its file, whatever the texts in it are."""
    assert manifest == parse_manifest(manifest_to_toml(manifest))


def test_the_manifests_of_other_tests_are_read_back() -> None:
    """Those that stand for what operators write."""
    for manifest in MANIFESTS.values():
        assert manifest == parse_manifest(manifest_to_toml(manifest))


def test_what_config_pbtxt_says_can_be_said_in_toml() -> None:
    """The manifest of a Triton configuration has a file of its own."""
    for text in (FULL, SEQUENCE):
        manifest, _ = manifest_of(parse_config(text), "m", read_file=read_labels)
        expected = dataclasses.replace(manifest, config=b"")
        assert expected == parse_manifest(manifest_to_toml(manifest))


def test_nothing_said_is_nothing_written() -> None:
    """A default is not written."""
    assert "\n" == manifest_to_toml(ModelManifest())


def test_labels_can_stay_in_their_file() -> None:
    """Where an output's labels have a file, it is named instead of copied."""
    spec = TensorSpec("y", DataType.FP32, (2,), labels=("cat", "dog"))
    manifest = ModelManifest(outputs=(spec,))
    expected = (
        '[[output]]\nname = "y"\ndatatype = "FP32"\nshape = [2]\nlabels_file = "labels.txt"\n'
    )

    written = manifest_to_toml(manifest, {"y": "labels.txt"})

    assert expected == written
    assert manifest == parse_manifest(written, read_labels)


def test_a_file_looks_as_a_person_would_write_it() -> None:
    """Tables follow one another, each with what belongs to it."""
    manifest = ModelManifest(
        max_batch_size=8,
        batching=BatchingManifest(max_queue_delay_ms=2.5, levels={2: LevelManifest(5)}),
        sequence=SequenceConfig(
            Strategy.OLDEST, (Control("START", ControlKind.START, DataType.INT32),)
        ),
    )
    expected = """max_batch_size = 8

[batching]
max_queue_delay_ms = 2.5

[batching.levels.2]
max_queue_size = 5

[sequence]
strategy = "oldest"

[[sequence.control]]
name = "START"
kind = "start"
datatype = "INT32"
"""
    assert expected == manifest_to_toml(manifest)
