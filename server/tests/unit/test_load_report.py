"""What a worker says about a load, as far as it is believed."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from model_versions import report

from jitney.errors import ModelError
from jitney.load_report import LoadReport


def table(**latency: object) -> dict[str, Any]:
    """Return the JSON form of a good report, but for what is given of its profile."""
    found: dict[str, Any] = json.loads(json.dumps(report().to_json()))
    found["latency"].update(latency)
    return found


def test_a_report_survives_its_json_form() -> None:
    """Nothing is lost on the way from a worker."""
    assert report() == LoadReport.from_json(table())


def test_buckets_are_the_sizes_that_were_measured() -> None:
    """There is one list of them."""
    assert (1, 2, 4, 8) == report().buckets == report().latency.sizes


@pytest.mark.parametrize(
    "latency",
    [
        {"sizes": []},
        {"sizes": [], "seconds": [], "spread": []},
        {"sizes": [0, 2, 4, 8]},
        {"sizes": [1, 2, 2, 8]},
        {"sizes": [8, 4, 2, 1]},
        {"sizes": [1, 2, 4, 1 << 40]},
        {"sizes": [1, 2, 4, 8.5]},
        {"sizes": "1248"},
        {"seconds": [0.001, 0.002, 0.003]},
        {"seconds": [0.001, 0.002, 0.003, 0.0]},
        {"seconds": [0.001, 0.002, 0.003, -1.0]},
        {"seconds": [0.001, 0.002, 0.003, math.nan]},
        {"seconds": [0.001, 0.002, 0.003, math.inf]},
        {"seconds": [0.001, 0.002, 0.003, "1"]},
        {"seconds": [0.001, 0.002, 0.003, True]},
        {"spread": [0.0, 0.0, 0.0, -0.1]},
        {"spread": [0.0, 0.0, 0.0, math.nan]},
        {"padded": 1},
        {"more": 1},
        {"sizes": list(range(1, 1000)), "seconds": [1.0] * 999, "spread": [0.0] * 999},
    ],
)
def test_profiles_that_a_scheduler_could_not_use_are_refused(latency: dict[str, object]) -> None:
    """Every number is finite and of its kind, and there are as many of each."""
    with pytest.raises(ModelError, match="malformed"):
        LoadReport.from_json(table(**latency))


@pytest.mark.parametrize("value", [None, [], {}, {"sizes": [1]}, 3])
def test_a_profile_is_an_object_with_its_keys(value: object) -> None:
    """Anything else in its place is refused."""
    found = table()
    found["latency"] = value
    with pytest.raises(ModelError, match="malformed"):
        LoadReport.from_json(found)


@pytest.mark.parametrize("key", sorted(report().to_json()))
def test_keys_are_neither_missing_nor_unknown(key: str) -> None:
    """A report without a key, or with one more, is refused."""
    short = copy.deepcopy(table())
    del short[key]
    for found in (short, table() | {f"{key}2": 1}):
        with pytest.raises(ModelError, match="other keys"):
            LoadReport.from_json(found)


@pytest.mark.parametrize("peaks", [[-1], ["1"], [1.5], [0] * 1000, 7])
def test_peaks_of_memory_are_counts(peaks: object) -> None:
    """Bytes are whole and not negative."""
    with pytest.raises(ModelError, match="malformed"):
        LoadReport.from_json(table() | {"peak_bytes": peaks})
