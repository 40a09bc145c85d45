"""When load comes and whose it is: drawn beforehand, and the same for the same seed."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from jitney.errors import ConfigError
from jitney.loadgen import trace
from jitney.loadgen.arrivals import Process, replayed_times, unit_times
from jitney.loadgen.mix import Caller, callers
from jitney.loadgen.proof import calls_needed, passes
from jitney.loadgen.schedule import Arrivals, draw

if TYPE_CHECKING:
    from pathlib import Path

CALLS = [trace.Call(0.5, "", 1), trace.Call(1.5, "", 2)]


@pytest.mark.parametrize("process", Process)
def test_the_mean_rate_is_one(process: Process) -> None:
    """Twenty thousand calls take about twenty thousand mean gaps, in order."""
    times = unit_times(process, 20_000, 1, sojourn=100)

    assert sorted(times) == times
    assert pytest.approx(20_000, rel=0.1) == times[-1]


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gamma_has_the_burstiness_that_is_asked_for(cv: float) -> None:
    """The gaps' standard deviation over their mean is the CV."""
    times = unit_times(Process.GAMMA, 50_000, 3, cv=cv)
    gaps = [after - before for before, after in pairwise(times)]

    assert pytest.approx(cv, rel=0.1) == statistics.pstdev(gaps) / statistics.fmean(gaps)


def test_a_trace_is_repeated_at_mean_rate_one() -> None:
    """Gaps keep their proportions, and a call of two rows is two calls at once."""
    times = replayed_times(CALLS, 7, seed=1)

    assert 7 == len(times)
    gaps = {round(after - before, 6) for before, after in pairwise(times)}
    assert gaps <= {0.0, 0.75, 2.25}


def test_a_schedule_is_as_long_as_it_should_be() -> None:
    """Calls cover the seconds at about the rate, and none comes later."""
    plan = draw(Arrivals(), 500.0, 10.0, 1, [1.0])

    assert 10.0 > plan.at[-1] > 9.9
    assert pytest.approx(5000, rel=0.1) == len(plan.at)


def test_two_rates_differ_by_a_factor_in_time() -> None:
    """Twice the rate has the same calls at half the times."""
    slow = draw(Arrivals(), 100.0, 8.0, 5, [1.0, 1.0])
    fast = draw(Arrivals(), 200.0, 4.0, 5, [1.0, 1.0])

    assert pytest.approx([2 * at for at in fast.at]) == slow.at
    assert fast.kinds == slow.kinds


def test_kinds_come_by_their_weights() -> None:
    """Three quarters of the calls are of the kind with three quarters of the weight."""
    plan = draw(Arrivals(Process.GAMMA), 1000.0, 10.0, 2, [3.0, 1.0])

    assert pytest.approx(0.75, abs=0.03) == plan.kinds.count(0) / len(plan.kinds)


def test_arrivals_say_what_they_are() -> None:
    """Results name the process with its parameter, or the size of the trace."""
    kinds = [Arrivals(), Arrivals(Process.GAMMA, 2.5), Arrivals(Process.MMPP)]
    kinds.append(Arrivals(trace=CALLS))

    assert ["Poisson", "Gamma, CV 2.5", "MMPP, rates 1:4", "a trace of 3 calls"] == [
        kind.name for kind in kinds
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seconds\n0.5\n1\n", [(0.5, "", 1)]),
        ("seconds,rows\n0.5,3\n1,2\n", [(0.5, "", 2)]),
        ("\ufeffrows,seconds,model\n3,0.5,a\n2,1,b\n", [(0.5, "b", 2)]),
    ],
)
def test_the_columns_of_a_trace_are_known_by_name(
    tmp_path: Path, text: str, expected: list[tuple[float, str, int]]
) -> None:
    """Only the seconds have to be there."""
    file = tmp_path / "trace.csv"
    file.write_text(text)
    assert expected == trace.read(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line must name seconds, and may name model and rows"),
        ("when\n1\n", "first line must name seconds"),
        ("seconds,when\n1,2\n", "first line must name seconds"),
        ("rows\n1\n", "first line must name seconds"),
        ("seconds\n1\nsoon\n", "line 3: expected seconds"),
        ("seconds,model,rows\n1,a,1\n2,a\n", "line 3: expected seconds,model,rows"),
        ("seconds\n2\n1\n", "line 3: seconds must ascend"),
        ("seconds\n1\n", "two calls"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """The error names the line and what should be there."""
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        trace.read(file)


def test_callers_are_all_combinations() -> None:
    """Tenants and priorities are independent, and their shares add up to one."""
    found = callers("a=3,b=1", "1=1,3=1")

    assert [
        Caller("a", 1, 0.375),
        Caller("a", 3, 0.375),
        Caller("b", 1, 0.125),
        Caller("b", 3, 0.125),
    ] == found
    assert "a priority 1" == found[0].name
    assert [Caller("", 0, 1.0)] == callers("", "")
    assert "all" == callers("", "")[0].name


@pytest.mark.parametrize("text", ["a", "a=0", "a=1,a=2", "=1", "a=inf", "a=x"])
def test_what_is_no_share_is_refused(text: str) -> None:
    """Names without a weight, twice, or with one that means nothing, are told about."""
    with pytest.raises(ConfigError, match="--tenants"):
        callers(text, "")
    with pytest.raises(ConfigError, match="--priorities"):
        callers("", text)


def test_priorities_are_numbers() -> None:
    """A priority that is no number is refused."""
    with pytest.raises(ConfigError, match="1 the highest"):
        callers("", "high=1")


@pytest.mark.parametrize(
    ("misses", "total"), [(0, 459), (1, 662), (10, 2010), (100, 12_571), (1000, 107_569)]
)
def test_early_stopping_needs_as_many_calls_as_published(misses: int, total: int) -> None:
    """A rate is proven with MLPerf's least totals and not with one call less."""
    assert passes(total - misses, misses)
    assert not passes(total - misses - 1, misses)
    assert total == calls_needed(misses)


def test_no_number_of_calls_proves_a_share_below_the_target() -> None:
    """Two misses in a hundred are too many, however often, and so is nothing at all."""
    assert not passes(980_000, 20_000)
    assert not passes(0, 0)
