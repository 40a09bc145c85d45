"""A tenant that asks for twenty times its share, and one that asks for its own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.wallclock.goodput import kinds_of
from benchmarks.wallclock.plan import Phase, phases
from benchmarks.wallclock.scenes import describe
from jitney.loadgen.outcome import Outcome

if TYPE_CHECKING:
    from benchmarks.simulation.settings import Setting
    from benchmarks.wallclock.rig import Rig

__all__ = ["Neighbours", "measure_neighbours"]

GREEDY: Final = 20.0
SHARE: Final = 0.5
"""Of the peak: what each of two tenants may have."""
SECONDS: Final = 15.0
"""In SLOs."""
SETTLES: Final = 2.0
"""In SLOs: the beginning, which is not counted: an overload is noticed within one."""
GOODPUT_BAR: Final = 0.99
P99_BAR: Final = 1.5


class _Side(NamedTuple):
    """The modest tenant's calls, alone or beside the greedy one."""

    share: float
    rate: float
    p99_ms: float
    calls: dict[str, Any]


@dataclasses.dataclass(slots=True)
class Neighbours:
    """The modest tenant alone and beside the greedy one, whose calls are ``greedy``."""

    setting: Setting
    peak: float
    alone: _Side
    beside: _Side
    greedy: _Side

    @property
    def kept(self) -> float:
        """What the modest tenant keeps of its answers in time."""
        return self.beside.rate / self.alone.rate

    @property
    def slower(self) -> float:
        """Its p99 beside the greedy one over that alone."""
        return self.beside.p99_ms / self.alone.p99_ms

    @property
    def missed(self) -> bool:
        """Whether a bar was missed."""
        return self.kept < GOODPUT_BAR or self.slower > P99_BAR

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "setting": describe(self.setting),
            "peak": round(self.peak, 2),
            "kept": round(self.kept, 4),
            "kept_bar": GOODPUT_BAR,
            "p99_ratio": round(self.slower, 4),
            "p99_bar": P99_BAR,
            **{side: getattr(self, side)._asdict() for side in ("alone", "beside", "greedy")},
        }

    def to_text(self) -> str:
        """Return what a person reads."""
        title = (
            f"{self.setting.name}: B at 1x its share keeps {self.kept:.3f} of its goodput beside "
            f"A at {GREEDY:g}x (bar {GOODPUT_BAR}); its p99 is {self.slower:.2f} times as long "
            f"(bar {P99_BAR})"
        )
        lines = [title]
        for name, side in (
            ("B alone", self.alone),
            ("B beside A", self.beside),
            ("A", self.greedy),
        ):
            ends = ", ".join(f"{n} {end}" for end, n in side.calls["ends"].items())
            lines.append(
                f"  {name:<10} {side.share:>8.2%} in SLO, {side.rate:>7,.0f}/s, "
                f"p99 {side.p99_ms:.1f} ms; {ends}"
            )
        return "\n".join(lines)


def measure_neighbours(rig: Rig, peak: float, seed: int = 1) -> Neighbours:
    """Run B alone, then beside A; both call every model of the setting.

    :param peak: about the goodput of the rig's setting, in requests per second.
    """
    setting, models = rig.setting, rig.setting.models
    kinds = [*kinds_of(setting, "a"), *kinds_of(setting, "b")]
    groups = [range(models), range(models, 2 * models)]
    b = set(groups[1])

    def run(greedy: float) -> list[Outcome]:
        seconds = SECONDS * setting.slo
        rates = [greedy * SHARE * peak, SHARE * peak]
        watched = rig.run(phases([Phase(seconds, rates)], groups, seed), kinds)
        begin = SETTLES * setting.slo
        return [
            Outcome.of(watched.seen, setting.slo, begin, seconds, chosen)
            for chosen in (set(groups[0]), b)
        ]

    _, alone = run(0.0)
    greedy, beside = run(GREEDY)
    return Neighbours(setting, peak, *map(_side, (alone, beside, greedy)))


def _side(outcome: Outcome) -> _Side:
    calls = outcome.to_json()
    return _Side(outcome.share, outcome.rate, calls["p99_ms"], calls)
