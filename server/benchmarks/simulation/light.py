"""Part ``light``: at 30 % load, how long an answer takes and how busy the devices are."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import staggered
from benchmarks.simulation.goodput import WARM_UP
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job
from benchmarks.simulation.load import Load
from benchmarks.simulation.policies import DEFERRED, JITNEY, POLICIES, REFERENCE, SAVING, mode_of
from benchmarks.simulation.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.jobs import Record
    from benchmarks.simulation.settings import Setting

__all__ = ["jobs", "lightly_loaded", "text"]

LOAD: Final = 0.3
"""Over the staggered capacity."""
NAMES: Final = (DEFERRED, REFERENCE, JITNEY, JITNEY + SAVING)


def jobs(settings: Sequence[Setting]) -> list[Job]:
    """Return a job for every setting and policy, with the first of the seeds."""
    return [
        Job(lightly_loaded, (setting, setting.seeds[0], name), setting.count, name)
        for setting in settings
        for name in NAMES
    ]


def lightly_loaded(setting: Setting, seed: int, name: str) -> Record:
    """Measure one policy."""
    load, rate = Load(setting, seed, mode=mode_of(name)), LOAD * staggered(setting)
    tally = Tally(load.moment(WARM_UP, rate))
    simulation = load.simulate(POLICIES[name](load), rate, tally)
    whole = tally.all
    return {
        "setting": setting.name,
        "policy": name,
        "share": whole.share,
        "p50": whole.percentile(50) / setting.slo,
        "p99": whole.percentile(99) / setting.slo,
        "utilisation": fmean(device.busy for device in simulation.devices) / simulation.now,
    }


def text(records: Sequence[Record]) -> str:
    """Return the table."""
    rows = [
        [
            record["setting"],
            record["policy"],
            *(figure(record[key], 2) for key in ("p50", "p99", "utilisation")),
            figure(record["share"], 4),
        ]
        for record in records
    ]
    return grid(("setting", "policy", "p50/SLO", "p99/SLO", "utilisation", "in time"), rows)
