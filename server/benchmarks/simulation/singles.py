"""Part ``optimum``: one device and one model, against the best of all schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.simulation.arrivals import traffic
from benchmarks.simulation.bounds import bisect_rate, clairvoyant, staggered
from benchmarks.simulation.goodput import goodput
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Load
from benchmarks.simulation.optimum import feasible
from benchmarks.simulation.policies import (
    DEFERRED,
    EAGER,
    JITNEY,
    LOOK_AHEAD,
    NEXUS,
    POLICIES,
    REFERENCE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["jobs", "single", "text"]

NAMES: Final = (EAGER, LOOK_AHEAD, DEFERRED, NEXUS, REFERENCE, JITNEY)
TARGETS: Final = (0.99, 0.9)
HIGHEST: Final = 1.3
"""Times the clairvoyant bound, which holds for 99 %: where the search begins."""


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting and target."""
    return [
        Job(single, (setting, seed, target), cost=20 * setting.count)
        for setting in settings
        for seed in setting.seeds
        for target in TARGETS
    ]


def single(setting: Setting, seed: int, target: float) -> Record:
    """Measure the exact optimum and the policies, for a share ``target`` of answers in time.

    The optimum is charged with every request, the policies with all but the first 5 %.
    """
    times = traffic(setting, seed).times
    misses = int((1 - target) * setting.count + 1e-9)
    highest = HIGHEST * clairvoyant(setting, seed)

    def fits(rate: float) -> bool:
        arrivals = [time / rate for time in times]
        return feasible(arrivals, setting.line, setting.slo, misses)

    load = Load(setting, seed)
    return {
        "setting": setting.name,
        "seed": seed,
        "target": target,
        "exact": bisect_rate(fits, highest, setting.steps + 1),
        "staggered": staggered(setting),
        "clairvoyant": clairvoyant(setting, seed),
        "goodput": {
            name: goodput(POLICIES[name], load, highest, setting.steps + 1, target)
            for name in NAMES
        },
    }


def text(records: Sequence[Record], settings: Sequence[Setting]) -> str:
    """Return the table of goodputs over the exact optimum."""
    published = {setting.name: setting.reference for setting in settings}
    rows = []
    for record in records:
        exact, target = record["exact"], record["target"]
        row = [record["setting"], f"{target:.0%}", f"{exact:,.0f}"]
        row += [f"{record[bound]:,.0f}" for bound in ("staggered", "clairvoyant")]
        row += [figure(record["goodput"][name] / exact) for name in NAMES]
        rows.append([*row, figure(published[record["setting"]] if target == 0.99 else None, 2)])
    titles = ("setting", "target", "exact /s", "staggered", "clairvoyant", *NAMES, "published")
    return grid(titles, rows)
