"""Tests of what is made of LoadGen's verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.mlperf import agreement, read_summary

SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Completed samples per second    : 196.68
Result is : VALID
  Min duration satisfied : Yes
99.00 percentile latency (ns)   : 12466337

No warnings encountered during test.
"""


def test_a_summary_is_read_by_its_keys() -> None:
    """Every line with a colon between blanks is a key and its value; headings are none."""
    expected = {
        "SUT name": "PySUT",
        "Completed samples per second": "196.68",
        "Result is": "VALID",
        "Min duration satisfied": "Yes",
        "99.00 percentile latency (ns)": "12466337",
    }
    assert expected == read_summary(SUMMARY)


@pytest.mark.parametrize(
    ("result", "met", "agree"),
    [("VALID", True, True), ("INVALID", False, True), ("VALID", False, False)],
)
def test_two_verdicts_agree_or_not(result: str, met: bool, agree: bool) -> None:  # noqa: FBT001  # columns of the table
    """Valid and met are the same word in two programs."""
    found = agreement({"result": result, "void": ""}, {"met": met, "fault": ""})
    assert agree is found


@pytest.mark.parametrize(("void", "fault"), [("1 wrong answer", ""), ("", "invalid: it lagged")])
def test_a_run_that_says_nothing_agrees_with_nothing(void: str, fault: str) -> None:
    """Where a run is void or invalid, there is no verdict."""
    assert agreement({"result": "VALID", "void": void}, {"met": True, "fault": fault}) is None
