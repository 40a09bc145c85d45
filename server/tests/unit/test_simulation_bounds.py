from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.simulation import trace
from benchmarks.simulation.arrivals import SAMPLE, Arrivals, traffic, unit_times
from benchmarks.simulation.bounds import (
    bisect_rate,
    clairvoyant,
    half_slo_rows,
    staggered,
    staggered_rows,
    strict,
    windowed,
)
from benchmarks.simulation.line import Line
from benchmarks.simulation.optimum import fewest_misses
from benchmarks.simulation.settings import SETTINGS, SINGLE, Setting

BY_NAME = {setting.name: setting for setting in (*SETTINGS, *SINGLE)}
PUBLISHED = {
    "S1": (16, 5839, 5945),
    "S2": (7, 563, 586),
    "S3": (7, 4501, 4719),
    "S4": (46, 13_939, 14_486),
    "S5": (140, 35_000, 36_722),
    "S6": (300, 37_500, 40_799),
    "S7": (113, 16_992, 18_832),
    "M20N4": (63, 30_361, 33_794),
    "M1N32": (18, 23_974, 24_665),
}
"""b*, the staggered capacity and the clairvoyant bound, as the design's table has them."""


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_bounds_are_the_published_ones(name: str, expected: tuple[int, int, int]) -> None:
    """Arrivals, capacity and bound of every setting are those of the published figures."""
    setting = BY_NAME[name]
    bound = fmean(clairvoyant(setting, seed) for seed in setting.seeds)
    assert expected == (staggered_rows(setting), round(staggered(setting)), round(bound))


def test_only_bursts_tighten_the_windowed_bound() -> None:
    """Two-state arrivals are bounded by their bursts: 13.9 k/s instead of 18.8 k/s."""
    setting = BY_NAME["S7"]
    assert 13_911 == round(fmean(windowed(setting, seed) for seed in setting.seeds))


def test_dropping_requests_raises_the_bound_by_little() -> None:
    """Crediting 1 % of the requests instead of the work adds 1.7 % in S2."""
    setting = BY_NAME["S2"]
    ratio = strict(setting, 1) / clairvoyant(setting, 1)
    assert 1.018 == pytest.approx(ratio, abs=0.002)


def test_half_the_slo_is_nexus_batch() -> None:
    """b2 is the largest batch that takes half the SLO."""
    assert [7, 80, 230] == [half_slo_rows(BY_NAME[name]) for name in ("S1", "S4", "M20N4")]


def test_bisection_finds_a_threshold_from_below() -> None:
    """What is returned still fits, and is within one step of what does not."""
    found = bisect_rate(lambda rate: rate <= 300, 1000, 10)
    assert 300 - 1000 / 1024 < found <= 300


@pytest.mark.parametrize("process", [Arrivals.POISSON, Arrivals.GAMMA, Arrivals.MMPP])
def test_arrivals_have_a_mean_rate_of_one(process: Arrivals) -> None:
    """Every process is scaled by nothing but its rate; only Poisson's mean is exact to 2 %."""
    times = unit_times(process, 20_000, 1)
    within = {Arrivals.POISSON: 0.02, Arrivals.GAMMA: 0.1, Arrivals.MMPP: 0.3}
    assert 1 == pytest.approx(times[-1] / len(times), abs=within[process])
    assert all(before <= after for before, after in pairwise(times))


def test_gamma_gaps_vary_four_times_as_much() -> None:
    """The coefficient of variation of the gaps is 1 for Poisson and 4 for Gamma."""
    for process, expected in ((Arrivals.POISSON, 1.0), (Arrivals.GAMMA, 4.0)):
        gaps = [after - before for before, after in pairwise(unit_times(process, 20_000, 2))]
        assert expected == pytest.approx(pstdev(gaps) / fmean(gaps), rel=0.1)


def test_a_trace_is_replayed_at_a_rate_of_one() -> None:
    """The sample's models and rows become requests of one row, repeated as often as needed."""
    setting = BY_NAME["R3"]
    replayed = traffic(setting, 1)
    assert (setting.count, setting.count) == (len(replayed.times), len(replayed.models))
    assert 1 == pytest.approx(replayed.times[-1] / setting.count, abs=0.05)
    assert {0, 1, 2} == set(replayed.models)


def test_the_sample_trace_can_be_made_again() -> None:
    """The committed file is what its generator returns."""
    assert SAMPLE.read_text() == trace.sample(Random(1), 3000)  # noqa: S311  # a simulation


def test_the_optimum_is_that_of_trying_everything() -> None:
    """On small cases no choice of misses, order and batches beats the dynamic program."""
    line = Line(1.0, 2.0)
    for seed in range(60):
        random = Random(seed)  # noqa: S311  # a test
        times = sorted(random.uniform(0, 8) for _ in range(6))
        slo = random.uniform(2.5, 9)
        assert _fewest_by_force(times, line, slo) == fewest_misses(times, line, slo, 6), seed


def test_the_optimum_says_when_it_is_more_than_asked() -> None:
    """With more misses than are allowed the answer is one more than allowed."""
    assert 2 == fewest_misses([0.0, 0.0, 0.0], Line(1.0, 2.0), 1.0, 1)


@pytest.mark.parametrize(("name", "expected"), [("P25", 467), ("P20", 8086), ("G25", 28)])
def test_the_optimum_is_the_published_one(name: str, expected: int) -> None:
    """The largest rate with 1 % of misses is that of the design's table, to a part in 500."""
    setting = BY_NAME[name]
    times = traffic(setting, 1).times
    allowed = setting.count // 100

    def misses(rate: float) -> int:
        arrivals = [time / rate for time in times]
        return fewest_misses(arrivals, setting.line, setting.slo, allowed)

    step = max(1.0, expected / 500)
    assert allowed >= misses(expected - step)
    assert allowed < misses(expected + step)


def _fewest_by_force(times: list[float], line: Line, slo: float) -> int:
    """Try every next batch, contiguous or not, in any order; return the fewest misses."""

    def best(left: frozenset[int], free: float) -> int:
        fewest = len(left)
        members = sorted(left)
        for mask in range(1, 1 << len(members)):
            batch = [members[i] for i in range(len(members)) if mask >> i & 1]
            end = max(free, times[batch[-1]]) + line.seconds(len(batch))
            if end <= times[batch[0]] + slo:
                fewest = min(fewest, best(left - set(batch), end))
        return fewest

    return best(frozenset(range(len(times))), 0.0)


def test_settings_may_be_changed_for_a_quick_look() -> None:
    """A shorter trace is the beginning of the longer one, so seeds mean the same."""
    setting: Setting = BY_NAME["S7"]
    short = traffic(replace(setting, count=500), 1)
    assert traffic(setting, 1).times[:500] == short.times
