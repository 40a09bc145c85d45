"""The same policy, settings and arrivals in virtual time: what the real server is held against."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.simulation.bounds import staggered
from benchmarks.simulation.goodput import goodput
from benchmarks.simulation.load import Load
from benchmarks.simulation.policies import JITNEY, POLICIES
from benchmarks.simulation.tally import Tally

if TYPE_CHECKING:
    from benchmarks.simulation.settings import Setting

__all__ = ["VirtualRun", "simulated_goodput", "simulated_run"]

STEPS = 8


class VirtualRun(NamedTuple):
    """What the devices did, and what callers saw, of a run in virtual time."""

    share: float
    mean_rows: float
    utilisation: float
    p50_ms: float
    p99_ms: float


def simulated_goodput(setting: Setting, noise: float) -> float:
    """Return the policy's goodput in requests per second, the median over the setting's seeds."""
    bound = staggered(setting)
    return statistics.median(
        goodput(POLICIES[JITNEY], Load(setting, seed, jitter=noise), bound, STEPS)
        for seed in setting.seeds
    )


def simulated_run(setting: Setting, rate: float, seed: int, noise: float) -> VirtualRun:
    """Return what becomes of the setting's requests at one rate."""
    load = Load(setting, seed, jitter=noise)
    tally = Tally()
    simulation = load.simulate(POLICIES[JITNEY](load), rate, tally)
    seconds = load.count / rate
    busy = sum(device.busy for device in simulation.devices)
    return VirtualRun(
        tally.all.share,
        len(tally.all.latencies) / max(1, tally.batches),
        busy / (setting.devices * seconds),
        1e3 * tally.all.percentile(50),
        1e3 * tally.all.percentile(99),
    )
