"""What the server tells a worker about a model, as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runtime_models import X4

from jitney.errors import ConfigError
from jitney.load_options import LoadOptions


def test_options_survive_json() -> None:
    """Every field comes back as it was."""
    options = LoadOptions(
        *("m", 3, X4, 16),
        batching_required=True,
        optimise="frozen",
        warmup_runs=4,
        sweep_seconds=1.5,
        default_slo_seconds=0.2,
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
