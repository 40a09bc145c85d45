"""What locust's users send, and whether they notice a wrong answer."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

# A folder of scripts, not an installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "loadtests"))

from scenarios import SCENARIOS, WrongAnswer, chosen, mix_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    Arrays = Mapping[str, np.ndarray[Any, Any]]


def adds(inputs: Arrays) -> Arrays:
    """Answer as the model simple does."""
    a, b = inputs["INPUT0"], inputs["INPUT1"]
    return {"OUTPUT0": a + b, "OUTPUT1": a - b}


def sums(inputs: Arrays) -> Arrays:
    """Answer with what tells inputs apart."""
    return {"y": np.array([sum(array.sum() for array in inputs.values())], np.float32)}


def test_sums_and_differences_are_checked_to_the_last_bit() -> None:
    """The right answer passes, one that is off by one in one place does not."""
    for case in SCENARIOS["simple"].make(adds):
        right = adds(case.inputs)
        case.check(right)
        for name in right:
            wrong = {**right, name: right[name] + (np.arange(16) == 5)}
            with pytest.raises(WrongAnswer, match=name):
                case.check(wrong)


@pytest.mark.parametrize("model", ["minilm", "resnet18"])
def test_answers_are_compared_with_those_before_the_load(model: str) -> None:
    """Another case's answer is noticed, and so is one of another shape, or of no number."""
    cases = SCENARIOS[model].make(sums)
    for case in cases:
        right = sums(case.inputs)
        case.check(right)
        case.check({"y": right["y"] * np.float32(1.0001)})
        for wrong in (right["y"] * 1.01, right["y"] + np.nan, right["y"][None]):
            with pytest.raises(WrongAnswer):
                case.check({"y": wrong})


def test_what_is_called_may_be_chosen() -> None:
    """Weights may be left out; without a mix every sample model has its own."""
    assert {"simple": 3, "digits": 1} == mix_of("simple=3, digits")
    assert set(SCENARIOS) == set(mix_of(""))
    assert {"digits"} == {chosen({"digits": 2}, Random(1)) for _ in range(5)}  # noqa: S311


@pytest.mark.parametrize("text", ["none=1", "simple=0", "simple=x", ","])
def test_what_is_no_mix_is_refused(text: str) -> None:
    """The error lists the models that there are."""
    with pytest.raises(ValueError, match="simple, digits, minilm, resnet18"):
        mix_of(text)
