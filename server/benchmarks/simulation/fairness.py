"""Part ``fairness``: a noisy tenant, and what it does to a quiet one."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import staggered
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Caller, Load
from benchmarks.simulation.policies import JITNEY, POLICIES, REFERENCE
from benchmarks.simulation.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["jobs", "neighbours", "text"]

NOISY, QUIET = "noisy", "quiet"
CASES: Final = {"20:1 at 2.1x": (2.0, 0.1), "20 shares : 1 share": (10.0, 0.5)}
"""Offered loads of the noisy and the quiet tenant, over the staggered capacity.

In the second the quiet one asks for all of its half, and the noisy one for 20 times its half.
"""
LONGER: Final = 4
"""Times as many requests: the quiet tenant has few of them."""
SETTLED: Final = 0.2
"""The first requests that are not counted: who asks for how much has to be seen first."""
NAMES: Final = (REFERENCE, JITNEY)


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting, seed, policy and case."""
    return [
        Job(neighbours, (setting, seed, name, case), 8 * setting.count, name)
        for setting in settings
        for case in CASES
        for seed in setting.seeds
        for name in NAMES
    ]


def neighbours(setting: Setting, seed: int, name: str, case: str) -> Record:
    """Measure the quiet tenant beside the noisy one, and alone: the very same requests of its."""
    noisy, quiet = CASES[case]
    longer = replace(setting, count=LONGER * setting.count)
    random = Random(200 + seed)  # noqa: S311  # a simulation
    is_quiet = [random.random() < quiet / (noisy + quiet) for _ in range(longer.count)]
    quiet_caller, noisy_caller = Caller(setting.slo, 1, QUIET), Caller(setting.slo, 1, NOISY)
    rate = (noisy + quiet) * staggered(setting)

    def measure(other: Caller | None) -> Tally:
        load = Load(longer, seed, who=lambda i: quiet_caller if is_quiet[i] else other)
        tally = Tally(load.moment(SETTLED, rate), group=lambda entry: entry.tenant)
        load.simulate(POLICIES[name](load), rate, tally)
        return tally

    alone, together = measure(None), measure(noisy_caller)
    mine, before = together.groups[QUIET], alone.groups[QUIET]
    return {
        "setting": setting.name,
        "seed": seed,
        "policy": name,
        "case": case,
        "quiet": mine.total,
        "share": mine.share,
        "share_alone": before.share,
        "p99": mine.percentile(99) / setting.slo,
        "p99_alone": before.percentile(99) / setting.slo,
        "refusals": dict(mine.refusals),
        "answers": together.all.share * (noisy + quiet),
        "wasted": together.wasted / together.busy,
    }


def text(records: Sequence[Record]) -> str:
    """Return the table."""
    rows = [
        [
            *(str(record[key]) for key in ("setting", "seed", "case", "policy")),
            figure(record["share"]),
            figure(record["share_alone"]),
            figure(record["share"] / record["share_alone"]),
            figure(record["p99"], 2),
            figure(record["p99_alone"], 2),
            figure(record["p99"] / record["p99_alone"], 2),
            figure(record["answers"], 2),
        ]
        for record in records
    ]
    quiet = ("in time", "alone", "ratio", "p99/SLO", "alone", "ratio", "all answers")
    return grid(("setting", "seed", "case", "policy", *quiet), rows)
