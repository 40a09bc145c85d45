"""The overload curve as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.wallclock.overload import Overload

__all__ = ["plot_overload"]


def plot_overload(overload: Overload, path: Path) -> None:
    """Draw answers in time and the p99 of what was accepted against the load."""
    # Only whoever asks for pictures needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    factors = [point.factor for point in overload.points]
    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(factors, [point.of_peak for point in overload.points], "o-")
    top.axhline(1.0, linestyle=":", color="grey")
    top.set_ylim(bottom=0)
    top.set_ylabel("answers in SLO / peak goodput")
    top.set_title(f"{overload.setting.name}, through gRPC, {overload.peak:,.0f}/s at peak")
    slo_ms = 1e3 * overload.setting.slo
    bottom.plot(factors, [point.p99_ms for point in overload.points], "o-", label="p99 of answers")
    bottom.axhline(slo_ms, linestyle=":", color="grey", label="SLO")
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("ms")
    bottom.set_xlabel("offered load / peak goodput")
    bottom.set_xscale("log")
    bottom.set_xticks(factors, [f"{factor:g}" for factor in factors])
    bottom.minorticks_off()
    bottom.legend()
    figure.savefig(path, dpi=120)
