"""Part ``conditions``: what jitter, padding and mixed SLOs cost, as ratios to their absence."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import clairvoyant
from benchmarks.simulation.goodput import WARM_UP, goodput
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Caller, Load
from benchmarks.simulation.policies import JITNEY, POLICIES
from benchmarks.simulation.tally import Tally
from jitney.runtime import buckets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["CONDITIONS", "condition", "jobs", "ladder", "text"]

PLAIN: Final = "plain"
JITTERED: Final = "jitter 5 %"
JITTER: Final = 0.05
FINE_TO: Final = 8
RATIO: Final = 1.125
LARGEST: Final = 512
"""Rows of the largest batch of the server's ladder."""
LONG: Final = 4
"""Times the SLO: that of half the callers where SLOs are mixed."""
RIDING: Final = 0.2
"""The share of requests without a deadline, where some ride along."""
STEPS: Final = 9
"""Of the search: differences of a hundredth are looked for, and there are many searches."""
BELOW: Final = 0.9
"""Of the plain goodput, at which they ride along."""


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting, seed and condition."""
    return [
        Job(condition, (setting, seed, name), cost=4 * setting.count * (1 + setting.models / 4))
        for setting in settings
        for seed in setting.seeds
        for name in CONDITIONS
    ]


def condition(setting: Setting, seed: int, name: str) -> Record:
    """Measure our policy under a condition."""
    bound = clairvoyant(setting, seed)
    figures = CONDITIONS[name](setting, seed, bound)
    return {"setting": setting.name, "seed": seed, "condition": name} | figures


def ladder(setting: Setting) -> tuple[int, ...]:
    """Return every size to 8 and then each an eighth larger, to what fits into the SLO."""
    sizes = [1]
    while sizes[-1] < setting.line.rows_within(setting.slo):
        last = sizes[-1]
        sizes.append(last + 1 if last < FINE_TO else max(last + 1, round(last * RATIO)))
    return tuple(sizes)


def _server_ladder(setting: Setting) -> tuple[int, ...]:
    """Return what a server's worker would run where it pads: the usual sizes, and the refined."""
    sizes = buckets.ladder(LARGEST)
    seconds = [setting.line.seconds(size) for size in sizes]
    return tuple(sorted({*sizes, *buckets.refine(sizes, seconds, setting.slo)}))


def _measured(load: Load, bound: float) -> dict[str, float]:
    steps = min(STEPS, load.setting.steps)
    return {"fraction": goodput(POLICIES[JITNEY], load, bound, steps) / bound}


def _plain(setting: Setting, seed: int, bound: float) -> dict[str, float]:
    found = _measured(Load(setting, seed), bound)
    return found | _riding(setting, seed, BELOW * found["fraction"] * bound)


def _jitter(setting: Setting, seed: int, bound: float) -> dict[str, float]:
    return _measured(Load(setting, seed, jitter=JITTER), bound)


def _padded(setting: Setting, seed: int, bound: float) -> dict[str, float]:
    return _measured(Load(setting, seed, ladder=ladder(setting)), bound)


def _as_served(setting: Setting, seed: int, bound: float) -> dict[str, float]:
    return _measured(Load(setting, seed, ladder=_server_ladder(setting)), bound)


def _mixed(setting: Setting, seed: int, bound: float) -> dict[str, float]:
    """Give half the callers four times as long; over the bound of all that have not."""
    callers = [Caller(setting.slo), Caller(LONG * setting.slo)]
    lots = _lots(callers, (1, 1), setting, seed)
    return _measured(Load(setting, seed, who=lots), bound)


def _riding(setting: Setting, seed: int, rate: float) -> dict[str, float]:
    """Measure the share of the others in time where some have no deadline."""
    callers = [Caller(setting.slo), Caller(math.inf)]
    load = Load(setting, seed, who=_lots(callers, (1 - RIDING, RIDING), setting, seed))
    tally = Tally(load.moment(WARM_UP, rate), group=lambda entry: entry.deadline < math.inf)
    load.simulate(POLICIES[JITNEY](load), rate, tally)
    timed, riding = tally.groups[True], tally.groups[False]
    return {"share": timed.share, "riding_p99": riding.percentile(99) / setting.slo}


CONDITIONS: Final[dict[str, Callable[[Setting, int, float], dict[str, float]]]] = {
    PLAIN: _plain,
    JITTERED: _jitter,
    "padded, ratio 1.125": _padded,
    "padded as served": _as_served,
    "half with 4 SLO": _mixed,
}


def text(records: Sequence[Record], settings: Sequence[Setting]) -> str:
    """Return the tables: fractions of the plain bound, and the case of those without a SLO."""
    rows, riding = [], []
    for setting in settings:
        some = [r for r in records if r["setting"] == setting.name]
        found = {
            name: fmean(r["fraction"] for r in some if r["condition"] == name)
            for name in CONDITIONS
        }
        row = [setting.name, *map(figure, found.values())]
        rows.append([*row, figure(found[JITTERED] / found[PLAIN])])
        beside = [r for r in some if "share" in r]
        share, p99 = (fmean(r[key] for r in beside) for key in ("share", "riding_p99"))
        riding.append([setting.name, figure(share, 4), figure(p99, 2)])
    fractions = grid(("goodput / bound", *CONDITIONS, "jitter / plain"), rows)
    titles = (
        f"{RIDING:.0%} without SLO, at {BELOW:g} of goodput",
        "the others, in time",
        "without: p99 / SLO of the others",
    )
    return f"{fractions}\n\n{grid(titles, riding)}"


def _lots(
    callers: Sequence[Caller], weights: Sequence[float], setting: Setting, seed: int
) -> Callable[[int], Caller]:
    random = Random(300 + seed)  # noqa: S311  # a simulation
    return random.choices(callers, weights, k=setting.count).__getitem__
