"""What the policy promises beside goodput, in virtual time: neighbours, models, jitter, padding."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.simulation.bounds import clairvoyant, staggered
from benchmarks.simulation.conditions import CONDITIONS
from benchmarks.simulation.fairness import neighbours
from benchmarks.simulation.load import Caller, Load
from benchmarks.simulation.policies import JITNEY, POLICIES
from benchmarks.simulation.settings import SETTINGS
from benchmarks.simulation.tally import Tally

BY_NAME = {setting.name: setting for setting in SETTINGS}
NOISY = "20 shares : 1 share"


@pytest.mark.parametrize("name", ["S2", "S3"])
def test_a_tenant_within_its_share_is_left_in_peace(name: str) -> None:
    """Beside 20 times its load, in one queue and in eight, all but 1 % is in time, soon enough."""
    found = neighbours(BY_NAME[name], 1, JITNEY, NOISY)
    assert found["share"] >= 0.99 * found["share_alone"]
    assert found["p99"] <= 1.5 * found["p99_alone"]


@pytest.mark.parametrize("times", [1.25, 3.0])
def test_a_busy_model_does_not_starve_the_others(times: float) -> None:
    """Models that ask for a tenth of the devices get it, whatever another one asks for."""
    setting = replace(BY_NAME["S4"], count=40_000)
    load, rate = Load(setting, 1), times * staggered(setting)
    load.skew(busy=1 - 0.1 / times)
    busy = load.keys[0].model
    tally = Tally(load.moment(0.2, rate), group=lambda entry: entry.key.model == busy)
    load.simulate(POLICIES[JITNEY](load), rate, tally)
    assert tally.groups[False].share >= 0.99


def test_higher_classes_are_served_when_there_is_too_much() -> None:
    """At twice the capacity, the tenth of high priority is answered, and some of the others."""
    setting = BY_NAME["S2"]
    high, low = Caller(setting.slo, 0), Caller(setting.slo, 2)
    load = Load(setting, 1, who=lambda i: high if i % 10 == 0 else low)
    rate = 2 * staggered(setting)
    tally = Tally(load.moment(0.05, rate), group=lambda entry: entry.priority)
    load.simulate(POLICIES[JITNEY](load), rate, tally)
    assert tally.groups[0].share >= 0.98
    assert tally.groups[2].share > 0.3


def test_the_lowest_class_does_not_starve_beside_one_that_takes_everything() -> None:
    """High requests ask for nearly three times the devices; now and then a low one is answered."""
    setting = BY_NAME["S2"]
    high, low = Caller(setting.slo, 0), Caller(setting.slo, 2)
    load = Load(setting, 1, who=lambda i: low if i % 10 == 0 else high)
    rate = 3 * staggered(setting)
    tally = Tally(load.moment(0.05, rate), group=lambda entry: entry.priority)
    load.simulate(POLICIES[JITNEY](load), rate, tally)
    assert tally.groups[2].in_time >= 10


@pytest.mark.parametrize(("condition", "loss"), [("jitter 5 %", 0.10), ("padded as served", 0.03)])
def test_what_disturbs_costs_little(condition: str, loss: float) -> None:
    """Jitter of 5 % takes at most a tenth of the goodput, the server's buckets .03 of the bound."""
    setting = BY_NAME["S4"]
    bound = clairvoyant(setting, 1)
    plain = CONDITIONS["plain"](setting, 1, bound)["fraction"]
    assert CONDITIONS[condition](setting, 1, bound)["fraction"] >= plain - loss
