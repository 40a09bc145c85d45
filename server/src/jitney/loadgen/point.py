"""What one run of load came to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from jitney.loadgen.outcome import LAG_SHARE

__all__ = ["QUANTILES", "Point"]

QUANTILES: Final = (0, 1, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9, 99.99, 100)


@dataclass(frozen=True, slots=True)
class Point:
    """One run. ``load`` is the rate of an open loop or the concurrency of a closed one.

    ``calls`` are the figures of ``Outcome.to_json``, ``callers`` the same by caller where there are
    several, ``server`` those of ``Figures.to_json``, None where the server has none. ``wrong``
    counts wrong answers, of which ``example`` is one, ``unchecked`` answers that were not looked
    at. ``quantiles`` are latencies in ms at ``QUANTILES``. ``fairness`` is Jain's index between
    tenants, None where there are not several.
    """

    load: float
    closed: bool
    seed: int
    calls: dict[str, Any]
    callers: dict[str, dict[str, Any]]
    server: dict[str, Any] | None
    proven: bool
    wrong: int
    example: str
    unchecked: int
    texts: dict[str, str]
    quantiles: list[float]
    generator_busy: float
    fairness: float | None = None

    @property
    def met(self) -> bool:
        """Whether 99 % were in time, as far as this run proves it."""
        return self.proven and not self.wrong

    @property
    def valid(self) -> bool:
        """Whether the generator kept up."""
        return bool(self.calls["valid"])

    @property
    def fault(self) -> str:
        """Why the figures are worth nothing; empty when they are worth something."""
        if self.wrong:
            return f"void: {self.wrong} wrong answers ({self.example})"
        if not self.valid:
            lag = self.calls["send_lag_p99_ms"]
            return (
                f"invalid: the generator lagged, p99 {lag:.2f} ms (over {LAG_SHARE:.0%} of the SLO)"
            )
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {**dataclasses.asdict(self), "met": self.met, "fault": self.fault}
