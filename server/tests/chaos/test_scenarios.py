"""Every scenario in short, against real server processes, and the controls of its detectors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# What is run here is run at length by `make chaos`, `make soak` and `make fuzz`; it is no part of
# the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chaos.__main__ import control, perform
from chaos.catalogue import SCENARIOS

SHORT = {scenario.name: scenario for scenario in SCENARIOS if scenario.short is not None}
CONTROLLED = ("right_answers", "metrics_truth", "soak", "rapid_reset")
"""Those whose detectors could be blind without anybody noticing: what finds wrong answers, wrong
counts, leaks, and callers that suffer."""


@pytest.mark.parametrize("name", SHORT)
def test_a_scenario_reaches_its_goals(name: str) -> None:
    """Done to a real server for a moment, each fault leaves every figure within its goal."""
    scenario = SHORT[name]
    assert scenario.short is not None

    verdict = perform(scenario, scenario.short)

    assert ([], []) == ([str(figure) for figure in verdict.missed], verdict.notes)


@pytest.mark.parametrize("name", [name for name in CONTROLLED if name in SHORT])
def test_a_detector_finds_what_it_looks_for(name: str) -> None:
    """With the defence off, or a defect put in, the same scenario misses its goal."""
    scenario = SHORT[name]
    assert scenario.short is not None

    assert [] == control(scenario, scenario.short).missed
