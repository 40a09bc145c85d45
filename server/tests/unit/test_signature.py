"""Signatures as they stand in files, which anybody may have written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from jitney.errors import ConfigError
from jitney.signature import Signature, TensorSpec

TENSOR: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": ["N", 4]}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1"])
@pytest.mark.parametrize("bound", ["low", "high"])
def test_bounds_are_finite_numbers(bound: str, value: object) -> None:
    """What JSON and TOML can spell beyond that is refused where it is read."""
    with pytest.raises(ConfigError, match=rf"input\[0\]\.{bound}: expected a finite number"):
        TensorSpec.from_json(TENSOR | {bound: value}, "input[0]")


def test_low_is_not_above_high() -> None:
    """There would be no value to make up."""
    with pytest.raises(ConfigError, match="low is 5, above high, which is 1"):
        TensorSpec.from_json(TENSOR | {"low": 5, "high": 1}, "input[0]")


@pytest.mark.parametrize("name", ["", "\ud800", "a\n", "\x1b[2J", "x" * 129])
def test_names_are_short_and_printable(name: str) -> None:
    """They are shown to operators and callers."""
    with pytest.raises(ConfigError, match=r"input\[0\]\.name: expected a text"):
        TensorSpec.from_json(TENSOR | {"name": name}, "input[0]")


@pytest.mark.parametrize(
    "change",
    [{"description": "\ud800"}, {"output": [TENSOR | {"labels": ["a", "\ud800"]}]}],
    ids=["description", "label"],
)
def test_half_characters_are_refused(change: dict[str, object]) -> None:
    """JSON can spell them, and nothing can be sent or printed with them."""
    table = {"format": 1, "input": [TENSOR], "output": [TENSOR | {"name": "y"}]} | change
    with pytest.raises(ConfigError):
        Signature.from_json(json.loads(json.dumps(table)))


def test_an_unknown_key_is_shown_escaped() -> None:
    """A hostile key cannot write to a terminal or break an encoding."""
    with pytest.raises(ConfigError) as caught:
        TensorSpec.from_json(TENSOR | {"\ud800\x1b": 1}, "input[0]")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("shape", "reshape"),
    [
        (["N", 1], []),
        (["N", 6], [2, 3]),
        (["N", 2, 3], [3, 2]),
        (["N", -1, 4], [-1, 2, 2]),
        (["N", 2, "L", 3], [2, 1, -1, 3]),
        ([16], [1, 16]),
    ],
)
def test_a_reshape_with_equal_elements_survives_json(
    shape: list[int | str], reshape: list[int]
) -> None:
    """Sizes that vary correspond in order."""
    spec = TensorSpec.from_json(TENSOR | {"shape": shape, "reshape": reshape}, "input[0]")

    assert (spec.reshape, spec.model_dims) == (tuple(reshape), tuple(reshape))
    assert TensorSpec.from_json(json.loads(json.dumps(spec.to_json())), "input[0]") == spec


@pytest.mark.parametrize(
    ("shape", "reshape"),
    [
        (["N", 6], [2, 2]),
        (["N", 6], [-1]),
        (["N", -1, 4], [-1, 3]),
        (["N", -1, 4], [4, -1]),
        (["N", "L"], ["L"]),
        (["N", 6], [6, 0]),
        (["N", 6], None),
    ],
)
def test_a_reshape_with_other_elements_is_refused(shape: list[int | str], reshape: object) -> None:
    """Also one that would fit some sizes only."""
    with pytest.raises(ConfigError, match=r"input\[0\]\.reshape"):
        TensorSpec.from_json(TENSOR | {"shape": shape, "reshape": reshape}, "input[0]")
