"""Part ``overload``: what is still answered in time when far more is asked for than can be done."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import staggered
from benchmarks.simulation.goodput import WARM_UP
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Load
from benchmarks.simulation.policies import (
    EAGER,
    JITNEY,
    LOOK_AHEAD,
    NEXUS,
    POLICIES,
    REFERENCE,
)
from benchmarks.simulation.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["LOADS", "NAMES", "PUBLISHED", "averages", "jobs", "overloaded", "text"]

LOADS: Final = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 10.0)
"""Offered load over the staggered capacity."""
SETTLED: Final = 0.2
LONGER: Final = 4
"""At 10 times the load a trace takes but a few SLOs, so that the beginning weighs in its figures.
As long a trace again as so many, less the first fifth, shows what is kept up."""
PUBLISHED: Final = (1.0, 1.25, 2.0, 3.0, 10.0)
"""Where ``Setting.overload`` has figures."""
NAMES: Final = (EAGER, LOOK_AHEAD, NEXUS, REFERENCE, JITNEY)


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting, seed and policy."""
    return [
        Job(overloaded, (setting, seed, name), setting.count * (1 + setting.models / 4), name)
        for setting in settings
        for seed in setting.seeds
        for name in NAMES
    ]


def overloaded(setting: Setting, seed: int, name: str) -> Record:
    """Measure the answers in time at every load, and the p99 of what was answered.

    ``answers`` is the share of the requests that was answered in time, times the load; their rate
    over the staggered capacity. ``settled`` is that of the highest load in the long run.
    """
    load, capacity = Load(setting, seed), staggered(setting)

    def measure(load: Load, times: float, uncounted: float) -> Tally:
        rate = times * capacity
        tally = Tally(load.moment(uncounted, rate))
        load.simulate(POLICIES[name](load), rate, tally)
        return tally

    answers, p99, wasted = [], [], []
    for times in LOADS:
        tally = measure(load, times, WARM_UP)
        answers.append(tally.all.share * times)
        p99.append(tally.all.percentile(99) / setting.slo)
        wasted.append(tally.wasted / tally.busy)
    longer = Load(replace(setting, count=LONGER * setting.count), seed)
    settled = measure(longer, LOADS[-1], SETTLED).all.share * LOADS[-1]
    return {
        "setting": setting.name,
        "seed": seed,
        "policy": name,
        "loads": list(LOADS),
        "answers": answers,
        "p99": p99,
        "wasted": wasted,
        "settled": [settled],
    }


def averages(records: Sequence[Record], setting: str, name: str, key: str) -> list[float]:
    """Return a figure at every load, averaged over the seeds."""
    some = [r for r in records if r["setting"] == setting and r["policy"] == name]
    return [fmean(figures) for figures in zip(*(r[key] for r in some), strict=True)]


def text(records: Sequence[Record], settings: Sequence[Setting]) -> str:
    """Return the tables: all policies, then ours beside the published figures."""
    rows = []
    for setting in settings:
        for name in dict.fromkeys(record["policy"] for record in records):
            answers = averages(records, setting.name, name, "answers")
            p99 = averages(records, setting.name, name, "p99")
            wasted = max(averages(records, setting.name, name, "wasted"))
            answers += averages(records, setting.name, name, "settled")
            row = [setting.name, name, *(figure(value, 2) for value in answers)]
            rows.append([*row, figure(max(p99), 2), f"{wasted:.1%}"])
        if setting.overload:
            published = dict(zip(PUBLISHED, setting.overload, strict=True))
            cells = [figure(published.get(times), 2) for times in LOADS]
            rows.append([setting.name, "published", *cells, "", "", ""])
    titles = ["setting", "policy", *(f"{times:g}x" for times in LOADS), "10x long"]
    return grid([*titles, "p99/SLO", "wasted"], rows)
