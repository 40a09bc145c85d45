"""A profile as a picture: latency, throughput and memory over the batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jitney.cli.advice import ENOUGH, advise
from jitney.cli.failure import CommandError
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jitney.cli.advice import Advice
    from jitney.cli.sweep import Swept

__all__ = ["require_plots", "save_plot"]

FORMATS: Final = (".png", ".svg", ".pdf")
MIB: Final = 1 << 20
INCHES: Final = (7.5, 9.0)
DOTS_PER_INCH: Final = 120
QUIET: Final = "0.55"
"""A grey, of lines that help to read the others."""


def require_plots(file: Path) -> None:
    """Do nothing where a plot can be written; to be asked before minutes are spent on measuring.

    :raises CommandError: telling what to install, or what is wrong with the file's name.
    """
    if file.suffix not in FORMATS:
        msg = f"--plot {file}: expected a name that ends in {', '.join(FORMATS)}"
        raise CommandError(msg)
    if not file.absolute().parent.is_dir():
        msg = f"--plot {file}: there is no such folder"
        raise CommandError(msg)
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415  # optional
    except ModuleNotFoundError:
        msg = "--plot needs matplotlib: pip install 'jitney[plots]'"
        raise CommandError(msg) from None


def save_plot(swept: Sequence[Swept], advice: Advice, file: Path) -> None:
    """Write a picture of the curves of all versions; the marks are those of ``advice``.

    :raises ConfigError: when the file cannot be written.
    """
    # The object, not pyplot: that has a global state and looks for a screen.
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional

    figure = Figure(figsize=INCHES, layout="constrained")
    with_memory = any(one.report.peak_bytes for one in swept)
    panels = list(figure.subplots(3 if with_memory else 2, sharex=True, squeeze=False)[:, 0])
    for one in swept:
        _draw(panels, one, labelled=len(swept) > 1)
    _mark(panels, advice)
    first = swept[0]
    names = ", ".join(str(one.ref) for one in swept)
    figure.suptitle(f"{names} on {first.device} ({first.description})", fontsize="medium")
    for panel in panels:
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.set_ylim(0, 1.05 * panel.get_ylim()[1])
        panel.spines[["top", "right"]].set_visible(False)
    ticks = sorted({rows for one in swept for rows in one.report.latency.sizes})
    panels[-1].set_xscale("log", base=2)
    panels[-1].set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    panels[-1].tick_params(axis="x", labelrotation=90 if len(ticks) > 12 else 0)  # noqa: PLR2004  # what fits side by side
    panels[-1].set_xlabel("rows per batch")
    for panel in panels[:2]:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small", frameon=False)
    try:
        figure.savefig(file, dpi=DOTS_PER_INCH)
    except (OSError, ValueError) as error:  # ValueError: an ending that is no format
        msg = f"--plot {file}: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(msg) from None


def _draw(panels: Sequence[Any], one: Swept, *, labelled: bool) -> None:
    latency, rate, *memory = panels
    profile, version = one.report.latency, f"version {one.ref.version}"
    sizes = profile.sizes
    ms = [1e3 * seconds for seconds in profile.seconds]
    margins = [2 * spread * y for spread, y in zip(profile.spread, ms, strict=True)]
    (line,) = latency.plot(sizes, ms, "o-", markersize=4, label=version if labelled else "median")
    low, high = ([y + sign * d for y, d in zip(ms, margins, strict=True)] for sign in (-1, 1))
    latency.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if not labelled:
        fit = advise(profile)
        fitted = [1e3 * (fit.alpha * n + fit.beta) for n in sizes]
        text = f"{1e3 * fit.alpha:.4g} ms per row + {1e3 * fit.beta:.4g} ms"
        latency.plot(sizes, fitted, "--", color=QUIET, linewidth=1, label=text)
    latency.set_ylabel("latency, ms")
    rate.plot(sizes, [1e3 * n / y for n, y in zip(sizes, ms, strict=True)], "o-", markersize=4)
    rate.set_ylabel("throughput, rows/s")
    if memory and one.report.peak_bytes:
        memory[0].plot(sizes, [b / MIB for b in one.report.peak_bytes], "o-", markersize=4)
        memory[0].set_ylabel("memory at most, MiB")


def _mark(panels: Sequence[Any], advice: Advice) -> None:
    latency, rate = panels[:2]
    rate.axhline(ENOUGH * advice.throughput, color=QUIET, linestyle=":", linewidth=1)
    text = f"{advice.limit} rows: {100 * ENOUGH:.0f} % of the best"
    rate.axvline(advice.limit, color=QUIET, linestyle="--", linewidth=1, label=text)
    if advice.target:
        for panel in (latency, rate):
            text = f"{advice.target} rows for {1e3 * advice.slo:g} ms"
            panel.axvline(advice.target, color="tab:red", linestyle="-.", linewidth=1, label=text)
