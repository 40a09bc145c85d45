"""When requests come: unit-rate moments, to be scaled to any rate by dividing.

One trace of a seed serves all rates (common random numbers), so that two rates, or two policies,
differ by nothing but themselves.
"""

from __future__ import annotations

import enum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.loadgen import arrivals, trace

if TYPE_CHECKING:
    from benchmarks.simulation.settings import Setting

__all__ = ["SAMPLE", "Arrivals", "Traffic", "traffic", "unit_times"]

SAMPLE: Final = Path(__file__).with_name("sample_trace.csv")
"""Twenty seconds of bursty calls for three models: ``trace.sample`` made it."""


class Arrivals(enum.StrEnum):
    """The arrival processes."""

    POISSON = "Poisson"
    GAMMA = "Gamma CV 4"
    MMPP = "MMPP 1:4"
    REPLAYED = "replayed"
    """A trace file's, scaled."""


PROCESSES: Final = {
    Arrivals.POISSON: arrivals.Process.POISSON,
    Arrivals.GAMMA: arrivals.Process.GAMMA,
    Arrivals.MMPP: arrivals.Process.MMPP,
}


class Traffic(NamedTuple):
    """Requests of one row: when each comes, ascending, at a mean rate of 1, and for which model."""

    times: list[float]
    models: list[int]


def traffic(setting: Setting, seed: int) -> Traffic:
    """Return the requests of a setting.

    REPLAYED repeats the trace as often as it takes; the seed decides where it begins. Its models
    are taken as they come, the setting's in turn; where it names none they are drawn. A call of
    several rows counts as so many requests at once.

    :raises ValueError: when the file is no trace.
    """
    drawn = _models(setting.count, setting.models, seed)
    if setting.arrivals is not Arrivals.REPLAYED:
        return Traffic(unit_times(setting.arrivals, setting.count, seed), drawn)
    calls = trace.read(setting.trace)
    names = {name: i for i, name in enumerate(dict.fromkeys(call.model for call in calls))}
    mean = sum(call.gap for call in calls) / sum(call.rows for call in calls)
    result = Traffic([], [])
    now, index = 0.0, Random(seed).randrange(len(calls))  # noqa: S311  # a simulation
    while len(result.times) < setting.count:
        call = calls[index % len(calls)]
        now, index = now + call.gap / mean, index + 1
        for _ in range(min(call.rows, setting.count - len(result.times))):
            model = names[call.model] % setting.models if call.model else drawn[len(result.times)]
            result.times.append(now)
            result.models.append(model)
    return result


def unit_times(process: Arrivals, count: int, seed: int) -> list[float]:
    """Return ``count`` moments of mean rate 1, ascending; of any process but REPLAYED."""
    return arrivals.unit_times(PROCESSES[process], count, seed)


def _models(count: int, among: int, seed: int) -> list[int]:
    """Return which of ``among`` models each request is for, each as likely."""
    random = Random(100 + seed)  # noqa: S311  # a simulation
    return [random.randrange(among) for _ in range(count)]
