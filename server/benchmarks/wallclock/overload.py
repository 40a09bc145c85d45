"""Far more calls than the devices can do, and what comes after; and whether deadlines are kept."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from benchmarks.wallclock.goodput import kinds_of
from benchmarks.wallclock.plan import Phase, phases
from benchmarks.wallclock.scenes import describe
from jitney.loadgen.outcome import LATE_BY, Outcome, percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.settings import Setting
    from benchmarks.wallclock.rig import Rig
    from jitney.loadgen.seen import Seen

__all__ = ["FACTORS", "Overload", "Point", "measure_overload", "recovery"]

FACTORS: Final = (0.5, 1.0, 1.25, 2.0, 3.0, 10.0)
BARS: Final = {3.0: 0.95, 10.0: 0.90}
"""Of peak goodput, at these factors."""
CALM: Final = 0.5
"""Of the peak, before and after."""
BEFORE, DURING, AFTER = 9.0, 12.0, 16.0
"""In SLOs: how long it is calm, overloaded, and calm again."""
SETTLES: Final = 1.0
"""In SLOs: the beginning of the overload, which is not counted."""
WINDOW: Final = 1.0
"""In SLOs: what one p99 of the recovery is taken over."""
NORMAL: Final = 1.25
"""Times the highest p99 of the calm windows before: what counts as normal again."""
STEADY: Final = 3
"""Normal windows in a row: one is not enough, and one that is not may be the host's doing."""
TOLERATED: Final = 0.98
"""The share in time below which a window is not normal; of a small one, 99 % would be all."""
RECOVERY_BAR: Final = 25.0
"""In SLOs: 5 s where the SLO is 200 ms; what is slowed tenfold recovers ten times as slowly."""
WASTE_BAR: Final = 0.01


class Point(NamedTuple):
    """One load: ``factor`` times the peak.

    ``of_peak`` are the answers in time over the peak goodput. ``recovery`` are the seconds from the
    end of the overload until the p99 was normal and stayed so, and ``recovery_slos`` the same in
    SLOs, None if that did not happen.
    ``late`` counts calls of the whole run that ended, however, more than 20 ms past their deadline;
    ``wasted`` is the share of device time for rows that were not answered in time. ``memory`` is
    the server's, in MiB: before, at most, after.
    """

    factor: float
    of_peak: float
    p99_ms: float
    calm_p99_ms: float
    recovery: float | None
    recovery_slos: float | None
    late: int
    wasted: float
    memory: tuple[float, float, float]
    cpu_share: float
    calls: dict[str, Any]
    bar: float | None

    @property
    def missed(self) -> bool:
        """Whether anything that was aimed at was missed."""
        return (
            (self.bar is not None and self.of_peak < self.bar)
            or self.recovery_slos is None
            or self.recovery_slos >= RECOVERY_BAR
            or self.wasted >= WASTE_BAR
            or self.late > 0
        )


@dataclasses.dataclass(slots=True)
class Overload:
    """The curve of one setting; ``peak`` in requests per second."""

    setting: Setting
    peak: float
    points: list[Point]

    @property
    def missed(self) -> bool:
        """Whether any point missed a bar, or the p99 of what was accepted the SLO."""
        slo_ms = 1e3 * self.setting.slo
        return any(point.missed or point.p99_ms > slo_ms for point in self.points)

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "setting": describe(self.setting),
            "peak": round(self.peak, 2),
            "late_means_ms": 1e3 * LATE_BY,
            "points": [point._asdict() for point in self.points],
        }

    def to_text(self) -> str:
        """Return the table that a person reads."""
        title = f"{self.setting.name}: peak {self.peak:,.0f}/s, SLO {1e3 * self.setting.slo:g} ms"
        heading = (
            f"{'load':>6} {'sent/s':>7} {'in SLO/s':>8} {'of peak':>8} {'p99 ms':>8} "
            f"{'calm p99':>8} {'recovery s':>17} {'late':>5} {'wasted':>7} "
            f"{'MiB before, most, after':>24} {'server CPU':>10} {'lag p99':>8}  ends"
        )
        lines = [title, "", heading]
        for p in self.points:
            calls = p.calls
            took = (p.recovery, p.recovery_slos)
            recovery = "never" if None in took else f"{took[0]:.2f} ({took[1]:.1f} SLO)"
            memory = ", ".join(f"{mib:.0f}" for mib in p.memory)
            ends = ", ".join(f"{n} {end}" for end, n in calls["ends"].items())
            lines.append(
                f"{p.factor:>5g}x {calls['sent'] / calls['seconds']:>7,.0f} {calls['rate']:>8,.0f} "
                f"{p.of_peak:>8.3f} {p.p99_ms:>8.1f} {p.calm_p99_ms:>8.1f} {recovery:>17} "
                f"{p.late:>5} {p.wasted:>7.2%} {memory:>24} {p.cpu_share:>10.0%} "
                f"{calls['send_lag_p99_ms']:>8.2f}  {ends}"
            )
        return "\n".join(lines)


def measure_overload(
    rig: Rig, peak: float, factors: Sequence[float] = FACTORS, seed: int = 1
) -> Overload:
    """Run each load between two calm times.

    :param peak: the goodput of the rig's setting, in requests per second.
    """
    points = [_point(rig, peak, factor, seed) for factor in factors]
    return Overload(rig.setting, peak, points)


def _point(rig: Rig, peak: float, factor: float, seed: int) -> Point:
    setting, slo = rig.setting, rig.setting.slo
    parts = [
        Phase(BEFORE * slo, [CALM * peak]),
        Phase(DURING * slo, [factor * peak]),
        Phase(AFTER * slo, [CALM * peak]),
    ]
    plan = phases(parts, [range(setting.models)], seed)
    watched = rig.run(plan, kinds_of(setting))
    begin, end = BEFORE * slo, (BEFORE + DURING) * slo
    calm = Outcome.of(watched.seen, slo, SETTLES * slo, begin)
    counted = Outcome.of(watched.seen, slo, begin + SETTLES * slo, end)
    whole = Outcome.of(watched.seen, slo, 0.0, float("inf"))
    calm_p99 = percentile(calm.latencies, 99)
    normal = NORMAL * max(window_p99s(watched.seen, slo, SETTLES * slo, begin))
    recovered = recovery(watched.seen, slo, end, end + AFTER * slo, normal)
    return Point(
        factor,
        round(counted.rate / peak, 4),
        round(1e3 * percentile(counted.latencies, 99), 3),
        round(1e3 * calm_p99, 3),
        recovered,
        None if recovered is None else round(recovered / slo, 3),
        whole.late(slo),
        round(1 - whole.hits / max(1.0, watched.figures.rows), 4),
        watched.memory,
        round(watched.figures.cpu / (end + AFTER * slo), 3),
        counted.to_json(),
        BARS.get(factor),
    )


def recovery(seen: Seen, slo: float, begin: float, end: float, normal: float) -> float | None:
    """Return how long after ``begin`` the first of several normal windows in a row begins.

    :param end: when calls were no longer sent; None is returned if it was not normal by then.
    :param normal: seconds: the highest p99 of a normal window.
    """
    in_a_row = 0
    for nth, p99 in enumerate(window_p99s(seen, slo, begin, end)):
        in_a_row = in_a_row + 1 if p99 <= normal else 0
        if in_a_row == STEADY:
            return round((nth + 1 - STEADY) * WINDOW * slo, 3)
    return None


def window_p99s(seen: Seen, slo: float, begin: float, end: float) -> list[float]:
    """Return the p99 latency of each window, infinite where too many calls were not in time."""
    window = WINDOW * slo
    found = []
    for start in np.arange(begin, end - window / 2, window).tolist():
        outcome = Outcome.of(seen, slo, start, start + window)
        kept = outcome.hits >= TOLERATED * outcome.count
        found.append(percentile(outcome.latencies, 99) if kept else float("inf"))
    return found
