"""What the server tells a worker about a model, as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runtime_models import X4

from jitney.errors import ConfigError
from jitney.execution.wire import MAX_MESSAGE, Kind, write_note
from jitney.load_options import LoadOptions
from jitney.warmup_sample import MOST_DATA_BYTES, WarmupInput, WarmupSample

SAMPLE = WarmupSample(
    *("s", 2, 3),
    (
        WarmupInput("a", "zero", (4,)),
        WarmupInput("b", "random", ()),
        WarmupInput("x", "data", (4,), bytes(range(16))),
    ),
)


X = SAMPLE.to_json()["inputs"][2]


def test_options_survive_json() -> None:
    """Every field comes back as it was."""
    options = LoadOptions(
        *("m", 3, X4, 16),
        batching_required=True,
        optimise="frozen",
        warmup_runs=4,
        sweep_seconds=1.5,
        default_slo_seconds=0.2,
        inference_mode=False,
        cudnn=False,
        stateful=True,
        buckets=(3, 6),
        warmup=(SAMPLE, WarmupSample("empty")),
    )

    assert LoadOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"max_batch_size": 0}, "max_batch_size: expected a number of rows >= 1, got 0"),
        ({"max_batch_size": True}, "max_batch_size: expected int, got True"),
        ({"optimise": "fast"}, "optimise: expected one of auto, optimised, frozen, off"),
        ({"warmup_runs": 2}, "warmup_runs: expected at least 3, got 2"),
        ({"sweep_seconds": 0.0}, "sweep_seconds: expected a number above 0, got 0.0"),
        ({"sweep_seconds": float("nan")}, "sweep_seconds: expected a number above 0, got nan"),
        ({"default_slo_seconds": -0.5}, "default_slo_seconds: expected a number >= 0, got -0.5"),
        ({"default_slo_seconds": float("inf")}, "default_slo_seconds: expected a number >= 0"),
        ({"colour": 1}, "colour: unknown key"),
        ({"buckets": [0]}, r"buckets: expected at most 64 numbers of rows >= 1, got \[0\]"),
        ({"buckets": 3}, "buckets: expected a list of numbers of rows, got 3"),
        ({"buckets": [True]}, "buckets: expected a list of numbers of rows"),
        ({"warmup": 1}, "warmup: malformed"),
        ({"warmup": [{"name": "s"}]}, "warmup: malformed"),
        ({"warmup": [SAMPLE.to_json() | {"rows": 0}]}, "warmup 's': expected rows from 1"),
        ({"warmup": [SAMPLE.to_json() | {"count": 2000}]}, "expected count from 1 to 1000"),
        (
            {"warmup": [SAMPLE.to_json() | {"inputs": [X | {"data": "!"}]}]},
            "warmup: malformed",
        ),
        (
            {"warmup": [SAMPLE.to_json() | {"inputs": [X | {"source": "file"}]}]},
            "input 'x': expected one of zero, random, data, got 'file'",
        ),
        (
            {"warmup": [SAMPLE.to_json() | {"inputs": [X | {"shape": [-1]}]}]},
            r"input 'x': expected a shape of sizes >= 0, got \[-1\]",
        ),
        ({"warmup": [SAMPLE.to_json() | {"inputs": [X, X]}]}, "'s': 2 inputs; expected each once"),
        ({"name": None}, "name: expected str, got None"),
    ],
)
def test_wrong_options_are_refused_by_name(change: dict[str, Any], text: str) -> None:
    """The text starts with the key that is wrong."""
    table = LoadOptions("m", 1, X4, 8).to_json() | change

    with pytest.raises(ConfigError, match=text):
        LoadOptions.from_json(table)


def test_a_missing_option_is_named() -> None:
    """Options without default have to be there."""
    table = LoadOptions("m", 1, X4, 8).to_json()
    del table["version"]

    with pytest.raises(ConfigError, match="version: missing"):
        LoadOptions.from_json(table)


def test_more_warm_up_data_than_a_message_holds_is_refused_by_name() -> None:
    """The most that is allowed still fits into a control message, beside the signature."""
    whole = WarmupInput("x", "data", (4,), bytes(MOST_DATA_BYTES))
    one_more = WarmupInput("y", "data", (), b"1")

    fits = LoadOptions("m", 1, X4, 8, warmup=(WarmupSample("s", inputs=(whole,)),))
    assert len(write_note(Kind.LOAD, 1, fits.to_json())) < MAX_MESSAGE
    with pytest.raises(ConfigError, match="warmup 't': with the 1 bytes of its input 'y' the samp"):
        LoadOptions(
            *("m", 1, X4, 8),
            warmup=(WarmupSample("s", inputs=(whole,)), WarmupSample("t", inputs=(one_more,))),
        )
