"""Pictures of the results: PNG files, drawn from the records alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.simulation import fractions, overload
from benchmarks.simulation.policies import JITNEY, POLICIES, REFERENCE, SAVING, TUNED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.simulation.jobs import Record

__all__ = ["NoPlots", "draw_goodput", "draw_overload"]

COLUMNS: Final = 5
OURS: Final = "tab:red"
COLOURS: Final = {
    JITNEY: OURS,
    JITNEY + SAVING: "salmon",
    REFERENCE: "black",
    REFERENCE + SAVING: "grey",
    TUNED: "gold",
}
"""The others take their turn in the usual cycle, which here has no red."""
CYCLE: Final = ("C0", "C1", "C2", "C4", "C5", "C9")
DOTS_PER_INCH: Final = 110


class NoPlots(Exception):
    """Raised where the plotting library is not installed."""


def draw_goodput(records: Sequence[Record], file: Path) -> None:
    """Draw bars of every policy's fraction of the bound, by setting.

    :raises NoPlots: where matplotlib is not installed.
    """
    figure, _ = _subplots(1, 1, (13, 4.5))
    axes = figure.axes[0]
    found = fractions.fractions(records)
    names = [name for name in (*POLICIES, TUNED) if name != JITNEY and _has(records, name)]
    names += [JITNEY] if _has(records, JITNEY) else []
    width = 0.85 / len(names)
    for i, name in enumerate(names):
        left = [x - 0.425 + (i + 0.5) * width for x in range(len(found))]
        heights = [by_name[name] for by_name in found.values()]
        axes.bar(left, heights, width, label=name, color=_colour(name))
    axes.set_xticks(range(len(found)), list(found))
    axes.set_ylim(0, 1)
    axes.set_ylabel("goodput / clairvoyant bound")
    axes.set_title("Largest load with 99 % of all requests answered within their SLO (simulated)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=6, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08))
    figure.savefig(file, dpi=DOTS_PER_INCH, bbox_inches="tight")


def draw_overload(records: Sequence[Record], file: Path) -> None:
    """Draw the answers in time against the offered load, a panel for each setting.

    :raises NoPlots: where matplotlib is not installed.
    """
    settings = list(dict.fromkeys(record["setting"] for record in records))
    rows = -(-len(settings) // COLUMNS)
    figure, panels = _subplots(rows, COLUMNS, (3 * COLUMNS, 2.8 * rows))
    for i, (axes, setting) in enumerate(zip(panels, settings, strict=False)):
        for name in filter(partial(_has, records), overload.NAMES):
            answers = overload.averages(records, setting, name, "answers")
            ours = name == JITNEY
            axes.plot(
                overload.LOADS,
                answers,
                color=_colour(name),
                linewidth=2.5 if ours else 1.2,
                # On top and with gaps, for it is where ours is.
                linestyle="--" if name == REFERENCE else "-",
                zorder=4 if name == REFERENCE else 3 if ours else 2,
                marker=".",
                label=name,
            )
        axes.plot((0.5, 1, 10), (0.5, 1, 1), color="black", linewidth=0.8, linestyle=":", zorder=1)
        axes.set_xscale("log")
        axes.set_xticks((0.5, 1, 2, 3, 10), ("½", "1", "2", "3", "10"))
        axes.minorticks_off()
        axes.set_ylim(0, 1.7)
        axes.set_title(setting, fontsize="medium")
        axes.grid(alpha=0.3)
        if i % COLUMNS == 0:
            axes.set_ylabel("in time / capacity")
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.suptitle("Answers in time against offered load, both over the staggered capacity")
    figure.legend(handles, labels, ncols=len(labels), loc="lower center")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(file, dpi=DOTS_PER_INCH)


def _has(records: Sequence[Record], name: str) -> bool:
    return any(record["policy"] == name for record in records)


def _colour(name: str) -> str:
    others = [other for other in POLICIES if other not in COLOURS]
    return COLOURS.get(name) or CYCLE[others.index(name)]


def _subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    try:
        # Here and not above: the figures can be had without it, and it takes a second to import.
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        msg = "no plots: matplotlib is not installed (pip install 'jitney[plots]')"
        raise NoPlots(msg) from error
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    return figure, [axes for line in panels for axes in line]
