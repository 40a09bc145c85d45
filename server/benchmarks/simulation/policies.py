"""The policies that are compared, by the names that tables give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.simulation.baselines import Baseline, Deferred, Fixed, LookAhead, Nexus
from benchmarks.simulation.bounds import half_slo_rows, staggered_rows
from benchmarks.simulation.reference import Reference
from jitney.latency_profile import LatencyProfile
from jitney.scheduling.batch import Mode
from jitney.scheduling.policy import Policy, PolicySettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.simulation.load import Load
    from jitney.testing.simulation import Decider

    Make = Callable[[Load], Decider]

__all__ = [
    "DEFERRED",
    "EAGER",
    "JITNEY",
    "LOOK_AHEAD",
    "NEXUS",
    "POLICIES",
    "REFERENCE",
    "SAVING",
    "TUNED",
    "fixed_choices",
    "mode_of",
]

EAGER: Final = "eager"
LOOK_AHEAD: Final = "look-ahead"
DEFERRED: Final = "deferred"
NEXUS: Final = "Nexus b*"
REFERENCE: Final = "reference"
JITNEY: Final = "jitney"
SAVING: Final = ", efficiency"
"""At the end of a name: in the mode that frees devices."""
TUNED: Final = "tuned"
"""The best of ``fixed_choices``: an oracle's, chosen on the very load that is measured."""
DELAYS: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
"""Shares of the SLO."""


def jitney(load: Load) -> Policy:
    """Return the server's policy as it is after the warm-up sweeps of all models.

    Where nothing disturbs execution times the policy knows that too, so that what is compared is
    the deciding; otherwise it has its usual margins and learns the rest.
    """
    policy = Policy(PolicySettings() if load.jitter else PolicySettings(least_spread=0.0))
    sizes = load.ladder or (1, load.keys[0].max_rows)
    profile = LatencyProfile(
        sizes,
        tuple(load.setting.line.seconds(size) for size in sizes),
        (load.jitter,) * len(sizes),
        padded=bool(load.ladder),
    )
    for device in load.devices:
        policy.device_up(device)
        for key in load.keys:
            policy.model_ready(device, key.model, profile)
    return policy


def _eager(load: Load) -> Baseline:
    return Baseline(Fixed(load.setting.line), load.devices)


def _fixed(load: Load) -> Baseline:
    return Baseline(Fixed(load.setting.line, 32, 0.2 * load.setting.slo), load.devices)


def _look_ahead(load: Load) -> Baseline:
    return Baseline(LookAhead(load.setting.line), load.devices)


def _deferred(load: Load) -> Baseline:
    return Baseline(Deferred(load.setting.line), load.devices)


def _nexus_half(load: Load) -> Baseline:
    return Baseline(Nexus(load.setting.line, half_slo_rows(load.setting)), load.devices)


def _nexus_staggered(load: Load) -> Baseline:
    return Baseline(Nexus(load.setting.line, staggered_rows(load.setting)), load.devices)


def _reference(load: Load) -> Reference:
    setting = load.setting
    return Reference(
        setting.line,
        load.devices,
        setting.slo,
        staggered_rows(setting),
        defers=load.mode is Mode.EFFICIENCY,
    )


def fixed_choices(load: Load) -> list[Make]:
    """Return the grid that ``tuned`` is the best of."""
    half, best = half_slo_rows(load.setting), staggered_rows(load.setting)
    rows = sorted({half, best, (half + best) // 2, 2 * best})
    return [_fixed_at(row, delay) for row in rows for delay in DELAYS]


def _fixed_at(rows: int, delay: float) -> Make:
    def make(load: Load) -> Baseline:
        return Baseline(Fixed(load.setting.line, rows, delay * load.setting.slo), load.devices)

    return make


def mode_of(name: str) -> Mode:
    """Return the mode in which a policy of this name runs."""
    return Mode.EFFICIENCY if name.endswith(SAVING) else Mode.LATENCY


POLICIES: Final[dict[str, Make]] = {
    EAGER: _eager,
    "fixed 32, .2 SLO": _fixed,
    LOOK_AHEAD: _look_ahead,
    DEFERRED: _deferred,
    "Nexus b2": _nexus_half,
    NEXUS: _nexus_staggered,
    REFERENCE: _reference,
    REFERENCE + SAVING: _reference,
    JITNEY: jitney,
    JITNEY + SAVING: jitney,
}
"""All but TUNED, which is many; the mode is the load's."""
