"""Goodput through the real server, and how far it is from the same policy's in virtual time."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.wallclock.order import Kind
from benchmarks.wallclock.plan import steady
from benchmarks.wallclock.rig import model_name
from benchmarks.wallclock.scenes import describe
from benchmarks.wallclock.virtual import VirtualRun, simulated_goodput, simulated_run
from jitney.loadgen.outcome import Outcome
from jitney.loadgen.proof import TARGET, passes

if TYPE_CHECKING:
    from benchmarks.simulation.settings import Setting
    from benchmarks.wallclock.rig import Rig, Watched

__all__ = ["BAR", "Bracket", "Goodput", "Step", "kinds_of", "measure_goodput", "search"]

BAR: Final = 0.9
WARM_UP: Final = 0.05
"""The share of a run that is not counted, as in virtual time."""
WARM_UP_SLOS: Final = 2.0
"""What is not counted at least, in SLOs: queues that are still empty flatter every policy."""
STEPS: Final = 5
ATTEMPTS: Final = 3
"""Runs of a rate at which the generator may lag before the machine is taken to be too busy."""


class Bracket(NamedTuple):
    """Where a search begins, as shares of the simulated goodput, and how often it halves that."""

    low: float = 0.7
    high: float = 1.05
    steps: int = STEPS


BRACKET: Final = Bracket()


class Step(NamedTuple):
    """One rate: what became of the calls, and what the server's devices did.

    ``met`` tells whether 99 % were in time, ``proven`` whether MLPerf's early stopping rule accepts
    that at a confidence of 99 %. ``cpu_share`` is of one core, the server's processes together.
    """

    rate: float
    seed: int
    met: bool
    proven: bool
    mean_rows: float
    utilisation: float
    cpu_share: float
    calls: dict[str, Any]


@dataclasses.dataclass(slots=True)
class Goodput:
    """The search in a setting; rates in requests per second.

    ``rates`` are the goodputs of the seeds; ``virtual`` is the policy's in virtual time, and
    ``beside`` what that does at the rate reached, with the first seed's arrivals.
    """

    setting: Setting
    virtual: float
    rates: list[float]
    steps: list[Step]
    beside: VirtualRun
    reached: Step

    @property
    def rate(self) -> float:
        """The median over the seeds."""
        return statistics.median(self.rates)

    @property
    def ratio(self) -> float:
        """Real over simulated."""
        return self.rate / self.virtual

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "setting": describe(self.setting),
            "goodput": round(self.rate, 2),
            "goodputs": [round(rate, 2) for rate in self.rates],
            "simulated": round(self.virtual, 2),
            "ratio": round(self.ratio, 4),
            "bar": BAR,
            "simulated_at_this_rate": self.beside._asdict(),
            "steps": [step._asdict() for step in self.steps],
        }

    def to_text(self) -> str:
        """Return the table that a person reads."""
        least, most = min(self.rates), max(self.rates)
        title = (
            f"{self.setting.name}: goodput through gRPC {self.rate:,.0f}/s ({least:,.0f} to "
            f"{most:,.0f} over {len(self.rates)} seeds), simulated {self.virtual:,.0f}/s: "
            f"ratio {self.ratio:.3f} (bar {BAR:g})"
        )
        heading = (
            f"{'requests/s':>10} {'seed':>4} {'in SLO':>8} {'proven':>6} {'p50 ms':>8} "
            f"{'p99 ms':>8} {'rows':>6} {'busy':>6} {'server CPU':>10} {'lag p99 ms':>10}"
        )
        lines = [title, "", heading]
        for step in sorted(self.steps):
            calls = step.calls
            lines.append(
                f"{step.rate:>10,.0f} {step.seed:>4} {calls['share']:>8.2%} "
                f"{'yes' if step.proven else 'no':>6} {calls['p50_ms']:>8.1f} "
                f"{calls['p99_ms']:>8.1f} {step.mean_rows:>6.1f} {step.utilisation:>6.1%} "
                f"{step.cpu_share:>10.0%} {calls['send_lag_p99_ms']:>10.2f}"
            )
        v, step = self.beside, self.reached
        lines.append(
            f"at {step.rate:,.0f}/s, real and simulated: rows {step.mean_rows:.1f} and "
            f"{v.mean_rows:.1f}, devices busy {step.utilisation:.1%} and {v.utilisation:.1%}, "
            f"p50 {step.calls['p50_ms']:.1f} and {v.p50_ms:.1f} ms, p99 "
            f"{step.calls['p99_ms']:.1f} and {v.p99_ms:.1f} ms"
        )
        return "\n".join(lines)


def kinds_of(setting: Setting, tenant: str = "") -> list[Kind]:
    """Return the calls of a setting's models, each with the SLO as its deadline."""
    timeout = round(1e3 * setting.slo)
    return [Kind(model_name(i), tenant, timeout) for i in range(setting.models)]


def measure_goodput(rig: Rig, noise: float) -> Goodput:
    """Find the goodput of a rig's setting for each of its seeds."""
    setting = rig.setting
    virtual = simulated_goodput(setting, noise)
    steps: list[Step] = []
    rates = [search(rig, seed, virtual, steps) for seed in setting.seeds]
    first = [step for step in steps if step.seed == setting.seeds[0]]
    reached = max((s for s in first if s.met), default=min(first), key=lambda s: s.rate)
    beside = simulated_run(setting, reached.rate, reached.seed, noise)
    return Goodput(setting, virtual, rates, steps, beside, reached)


def search(
    rig: Rig, seed: int, around: float, steps: list[Step], bracket: Bracket = BRACKET
) -> float:
    """Bisect for the highest rate with 99 % in time, and note every step; 0 if there is none.

    :param around: the simulated goodput, in requests per second.
    """
    low, high = bracket.low * around, bracket.high * around
    lowest = try_rate(rig, low, seed)
    steps.append(lowest)
    if not lowest.met:
        low, high = 0.0, low
    for _ in range(bracket.steps):
        middle = (low + high) / 2
        step = try_rate(rig, middle, seed)
        steps.append(step)
        low, high = (middle, high) if step.met else (low, middle)
    return low


def try_rate(rig: Rig, rate: float, seed: int) -> Step:
    """Run a setting's calls at a rate; again, where the generator could not keep up."""
    setting = rig.setting
    plan = steady(setting.arrivals, setting.count, rate, setting.models, seed)
    begin = max(plan.at[int(WARM_UP * len(plan.at))], WARM_UP_SLOS * setting.slo)
    end = plan.at[-1]
    for _ in range(ATTEMPTS):
        watched = rig.run(plan, kinds_of(setting))
        outcome = Outcome.of(watched.seen, setting.slo, begin, end)
        if outcome.valid:
            break
    return _step(rig, rate, seed, outcome, watched, end)


def _step(
    rig: Rig, rate: float, seed: int, outcome: Outcome, watched: Watched, seconds: float
) -> Step:
    figures = watched.figures
    met = outcome.share >= TARGET and outcome.valid
    return Step(
        round(rate, 2),
        seed,
        met,
        met and passes(outcome.hits, outcome.count - outcome.hits),
        round(figures.rows / max(1, figures.batches), 2),
        round(figures.busy / (rig.setting.devices * seconds), 4),
        round(figures.cpu / seconds, 3),
        outcome.to_json(),
    )
