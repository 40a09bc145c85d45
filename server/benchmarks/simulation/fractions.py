"""Part ``goodput``: every policy's goodput as a fraction of the clairvoyant bound."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import clairvoyant, staggered, windowed
from benchmarks.simulation.goodput import best_goodput, goodput
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Load
from benchmarks.simulation.policies import (
    JITNEY,
    POLICIES,
    TUNED,
    fixed_choices,
    mode_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["NAMES", "fraction", "fractions", "jobs", "text"]

NAMES: Final = (*POLICIES, TUNED)
"""All policies, ours last but for the oracle."""


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting, seed and policy."""
    return [
        Job(fraction, (setting, seed, name), _cost(setting, name), name)
        for setting in settings
        for seed in setting.seeds
        for name in NAMES
    ]


def fraction(setting: Setting, seed: int, name: str) -> Record:
    """Measure one policy in one setting with one seed."""
    load = Load(setting, seed, mode=mode_of(name))
    bound = clairvoyant(setting, seed)
    if name == TUNED:
        rate = best_goodput(fixed_choices(load), load, bound, setting.steps)
    else:
        rate = goodput(POLICIES[name], load, bound, setting.steps)
    return {
        "setting": setting.name,
        "seed": seed,
        "policy": name,
        "goodput": rate,
        "clairvoyant": bound,
        "windowed": windowed(setting, seed),
        "staggered": staggered(setting),
    }


def fractions(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Return, by setting and policy, the goodput over the bound, both averaged over the seeds."""
    result: dict[str, dict[str, float]] = {}
    for setting in dict.fromkeys(record["setting"] for record in records):
        for name in dict.fromkeys(record["policy"] for record in records):
            some = [r for r in records if r["setting"] == setting and r["policy"] == name]
            bound = fmean(r["clairvoyant"] for r in some)
            result.setdefault(setting, {})[name] = fmean(r["goodput"] for r in some) / bound
    return result


def text(records: Sequence[Record], settings: Sequence[Setting]) -> str:
    """Return the table, with the published figure, and by how much ours is better."""
    found = fractions(records)
    names = dict.fromkeys(record["policy"] for record in records)
    rows = []
    for setting in settings:
        some = [r for r in records if r["setting"] == setting.name]
        bound = fmean(r["clairvoyant"] for r in some)
        row = [setting.name, f"{staggered(setting):,.0f}", f"{bound:,.0f}"]
        row += [f"{fmean(r['windowed'] for r in some):,.0f}"]
        row += [figure(found[setting.name][name]) for name in names]
        rows.append([*row, figure(setting.reference), _difference(setting, found[setting.name])])
    titles = (
        "setting",
        "staggered /s",
        "clairvoyant /s",
        "windowed /s",
        *names,
        "published",
        "difference",
    )
    return grid(titles, rows)


def _difference(setting: Setting, found: dict[str, float]) -> str:
    if setting.reference is None or JITNEY not in found:
        return ""
    return f"{found[JITNEY] - setting.reference:+.3f}"


def _cost(setting: Setting, name: str) -> float:
    ours = 4.0 if name.startswith(JITNEY) else 1.0
    return setting.count * (3.0 if name == TUNED else ours) * (1 + setting.models / 4)
