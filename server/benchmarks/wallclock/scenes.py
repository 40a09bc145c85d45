"""The settings of the wall clock: the one with a bar, and the same ten times slower."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.line import Line
from benchmarks.simulation.settings import Setting

if TYPE_CHECKING:
    from typing import Any

__all__ = ["QUICK", "describe", "eight_models", "slowed"]

QUICK: Final = Setting("W1", 1, 4, Line(1e-3, 20e-3), 0.2, count=35_000, seeds=(1, 2, 3))
"""4 devices, 1 ms per row and 20 ms per batch, an SLO of 200 ms: about 3,500 requests/s."""


def slowed(setting: Setting, factor: float) -> Setting:
    """Return a setting in which everything takes ``factor`` times as long.

    Decisions do not depend on the scale, but what the host can carry does: slowed tenfold, ten
    times the load of QUICK's peak is no more calls than QUICK's peak itself.
    """
    line = Line(setting.line.alpha * factor, setting.line.beta * factor)
    return dataclasses.replace(
        setting, name=f"{setting.name} x{factor:g}", line=line, slo=setting.slo * factor
    )


def eight_models(setting: Setting) -> Setting:
    """Return a setting with eight models, so eight queues, on its devices."""
    return dataclasses.replace(setting, name=f"{setting.name}, 8 models", models=8)


def describe(setting: Setting) -> dict[str, Any]:
    """Return a setting for the file of results; times in milliseconds."""
    return {
        "name": setting.name,
        "models": setting.models,
        "devices": setting.devices,
        "alpha_ms": round(1e3 * setting.line.alpha, 6),
        "beta_ms": round(1e3 * setting.line.beta, 6),
        "slo_ms": round(1e3 * setting.slo, 6),
        "arrivals": setting.arrivals.value,
    }
