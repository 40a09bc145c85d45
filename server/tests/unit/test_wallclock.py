"""Tests of what judges the real server under open-loop load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.simulation.arrivals import Arrivals
from benchmarks.wallclock.overload import recovery
from benchmarks.wallclock.plan import Phase, phases, steady

from jitney.loadgen.seen import Seen

SLO = 0.2


def seen_of(*calls: tuple[float, float, float, int]) -> Seen:
    """Return what was seen of calls: scheduled, sent, ended, code."""
    at, sent, ended, code = (np.array(column) for column in zip(*calls, strict=True))
    zeros = np.zeros(len(at), np.uint8)
    return Seen(at, zeros, sent, ended, code, zeros, ("",), 0, 0.0)


def test_rates_scale_one_trace() -> None:
    """Twice the rate is the same moments in half the time."""
    slow, fast = (steady(Arrivals.POISSON, 50, rate, 3, 1) for rate in (10.0, 20.0))

    assert fast.at == pytest.approx([moment / 2 for moment in slow.at])
    assert fast.kinds == slow.kinds


def test_a_groups_calls_do_not_depend_on_the_others() -> None:
    """The calls of one tenant are the same alone and beside another one."""
    groups = ([0], [1])
    alone, beside = (phases([Phase(5.0, [rate, 20.0])], groups, 1) for rate in (0.0, 400.0))

    both = zip(beside.at, beside.kinds, strict=True)
    assert [at for at, kind in both if kind == 1] == alone.at
    assert len(beside.at) > 10 * len(alone.at)


def test_recovery_ends_where_windows_begin_to_be_normal() -> None:
    """Two slow windows after the load make a recovery as long as both, all slow ones none."""
    calls = [(t, t, t + (0.19 if t < 0.4 else 0.05), 0) for t in np.arange(0, 2.0, 0.01).tolist()]

    assert recovery(seen_of(*calls), SLO, 0.0, 2.0, normal=0.1) == pytest.approx(0.4)
    assert recovery(seen_of(*calls), SLO, 0.0, 2.0, normal=0.01) is None
