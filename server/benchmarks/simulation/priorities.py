"""Part ``priorities``: three classes in one overload, and who asks for nothing but to be served."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import staggered
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Caller, Load
from benchmarks.simulation.policies import JITNEY, POLICIES
from benchmarks.simulation.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["classes", "jobs", "patient", "text"]

HIGH, NORMAL, LOW = range(3)
MIX: Final = (0.1, 0.6, 0.3)
"""Shares of the classes, high first."""
STARVED: Final = ("S1", "S2", "S3")
"""Settings of the case of starvation, which takes long where there are many requests a second."""
LOADS: Final = (0.8, 1.25, 2.0, 5.0)
PATIENT: Final = 0.02
"""Requests without a deadline, of the lowest class, over the capacity."""
SECONDS: Final = 6.0
"""How long that case lasts, for traces of the usual length: the guard acts within seconds."""
USUAL: Final = 20_000
SETTLED: Final = 0.2


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting, load and case, with the first of the seeds."""
    return [
        Job(function, (setting, setting.seeds[0], times), cost=setting.count)
        for function in (classes, patient)
        for setting in settings
        if function is classes or setting.name in STARVED
        for times in LOADS
    ]


def classes(setting: Setting, seed: int, times: float) -> Record:
    """Measure the share of each class that is answered in time."""
    callers = [Caller(setting.slo, priority) for priority in range(len(MIX))]
    return _measure(setting, seed, times, "classes", callers, MIX)


def patient(setting: Setting, seed: int, times: float) -> Record:
    """Measure what becomes of low requests without a deadline among high ones with one.

    Those that still waited when the last request came count as refused, under ``UNSERVED``.
    """
    callers = [Caller(setting.slo, HIGH), Caller(math.inf, LOW)]
    seconds = SECONDS * min(1.0, setting.count / USUAL)
    longer = replace(setting, count=int(seconds * times * staggered(setting)))
    return _measure(longer, seed, times, "patient", callers, (times - PATIENT, PATIENT))


def _measure(
    setting: Setting,
    seed: int,
    times: float,
    case: str,
    callers: Sequence[Caller],
    mix: Sequence[float],
) -> Record:
    random = Random(300 + seed)  # noqa: S311  # a simulation
    lots = random.choices(callers, mix, k=setting.count)
    load = Load(setting, seed, who=lots.__getitem__)
    rate = times * staggered(setting)
    end = load.moment(1.0, rate)
    tally = Tally(load.moment(SETTLED, rate), end, lambda entry: entry.priority, closes=end)
    load.simulate(POLICIES[JITNEY](load), rate, tally)
    groups = {priority: tally.groups[priority] for priority in (HIGH, NORMAL, LOW)}
    return {
        "setting": setting.name,
        "seed": seed,
        "case": case,
        "load": times,
        "share": [group.share for group in groups.values()],
        "p99": [group.percentile(99) / setting.slo for group in groups.values()],
        "longest": [max(group.latencies, default=0.0) for group in groups.values()],
        "refusals": [dict(group.refusals) for group in groups.values()],
        "total": [group.total for group in groups.values()],
        "answers": tally.all.share * times,
    }


def text(records: Sequence[Record]) -> str:
    """Return the table."""
    rows = [
        [
            record["case"],
            record["setting"],
            f"{record['load']:g}x",
            *(
                figure(share if total else None)
                for share, total in zip(record["share"], record["total"], strict=True)
            ),
            figure(record["p99"][HIGH], 2),
            f"{1e3 * record['longest'][LOW]:.0f}",
            figure(record["answers"], 2),
        ]
        for record in records
    ]
    shares = ("high in time", "normal", "low")
    rest = ("high p99/SLO", "low longest ms", "all answers")
    return grid(("case", "setting", "load", *shares, *rest), rows)
