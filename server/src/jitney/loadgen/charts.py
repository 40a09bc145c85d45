"""The plots of a report, as SVG text to be put into the page."""

from __future__ import annotations

import io
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    Figures = Sequence[Mapping[str, Any]]

__all__ = ["charts", "have_matplotlib"]

INCHES: Final = (6.6, 3.7)
PERCENTILES: Final = (("p50_ms", "p50"), ("p90_ms", "p90"), ("p99_ms", "p99"), ("max_ms", "max"))
STAGES: Final = (
    ("queue_ms", "waiting"),
    ("compute_input_ms", "inputs"),
    ("compute_infer_ms", "compute"),
    ("compute_output_ms", "outputs"),
)
QUIET: Final = "0.5"
"""A grey, of lines that help to read the others."""
MOST_CURVES: Final = 6
NINES: Final = (50, 90, 99, 99.9, 99.99)


def have_matplotlib() -> bool:
    """Return whether there can be plots."""
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415  # optional
    except ModuleNotFoundError:
        return False
    return True


def charts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return titles and SVG of what is worth showing; needs matplotlib.

    Runs whose answers were wrong or whose generator lagged are left out: their figures are no
    figures.
    """
    points = _sound(results["points"])
    overload = _sound(results["overload"])
    made: list[tuple[str, str]] = []
    if points:
        where = "calls at once" if points[0]["closed"] else "offered rate, calls/s"
        slo = results["setup"]["slo_ms"]
        every = sorted([*points, *overload], key=lambda point: point["load"])
        made.append(("Latency by load", _svg(lambda a: _latency(a, points, slo, where))))
        made.append(("Answers by load", _svg(lambda a: _goodput(a, points, where))))
        made.append(("Latency by percentile", _svg(lambda a: _tail(a, results, points))))
        seen = [point for point in every if point["server"]]
        if any(point["server"]["batches"] for point in seen):
            made.append(("Batch sizes", _svg(lambda a: _batches(a, seen, where))))
            made.append(("Where the server's time goes", _svg(lambda a: _stages(a, seen, where))))
    if overload:
        rate = results["found"]["rate"]
        made.append(("Overload", _svg(lambda a: _overload(a, overload, rate))))
    return made


def _sound(points: Figures) -> list[Mapping[str, Any]]:
    return sorted(
        (point for point in points if not point["fault"] and point["calls"]["sent"]),
        key=lambda point: point["load"],
    )


def _svg(draw: Callable[[Axes], None]) -> str:
    # The object, not pyplot: that has a global state and looks for a screen.
    from matplotlib import rc_context  # noqa: PLC0415  # optional
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional

    # A salt makes the ids of two plots on one page differ, and those of two runs agree.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": str(draw), "font.size": 9}):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if axes.get_yscale() == "linear":
            axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            # Beside the plot: bars leave no room in it.
            axes.legend(
                loc="upper left",
                bbox_to_anchor=(1.0, 1.0),
                fontsize="small",
                frameon=False,
                reverse=bool(axes.containers),  # as the bars are stacked
            )
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue().partition("<svg")[2].join(("<svg", ""))


def _latency(axes: Axes, points: Figures, slo: float, where: str) -> None:
    for key, name in PERCENTILES:
        _line(axes, points, partial(_figure, key), name, dashed=key == "max_ms")
    if slo:
        axes.axhline(slo, color=QUIET, linestyle=":", label="SLO")
    _x(axes, points, where)
    _log(axes.yaxis, lambda: axes.set_yscale("log"))
    axes.set_ylabel("ms")


def _goodput(axes: Axes, points: Figures, where: str) -> None:
    if not points[0]["closed"]:
        loads = [point["load"] for point in points]
        axes.plot(loads, loads, ":", color=QUIET, label="offered")
    _line(axes, points, _answered, "answered", dashed=True)
    if not points[0]["closed"]:
        _line(axes, points, partial(_figure, "rate"), "in time")
    _x(axes, points, where)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("calls/s")


def _line(
    axes: Axes,
    points: Figures,
    value: Callable[[Mapping[str, Any]], float],
    name: str,
    *,
    dashed: bool = False,
) -> None:
    """Draw one line for each seed: between those of two seeds there is nothing to be read."""
    colour = None
    for seed in sorted({point["seed"] for point in points}):
        own = [point for point in points if point["seed"] == seed]
        (line,) = axes.plot(
            [point["load"] for point in own],
            [value(point) for point in own],
            "o--" if dashed else "o-",
            markersize=3,
            color=colour,
            label=name if colour is None else None,
        )
        colour = line.get_color()


def _tail(axes: Axes, results: Mapping[str, Any], points: Figures) -> None:
    """Draw latency over the percentile, the way in which a tail can be seen."""
    step = max(1, -(-len(points) // MOST_CURVES))
    chosen = [*points[::-step]][::-1]
    for point in chosen:
        pairs = [
            (q, ms)
            for q, ms in zip(results["quantiles"], point["quantiles"], strict=False)
            if 0 < q < 100  # noqa: PLR2004  # the scale has neither end
        ]
        label = _load(point) + (" at once" if point["closed"] else "/s")
        axes.plot([1 / (1 - q / 100) for q, _ in pairs], [ms for _, ms in pairs], label=label)
    if slo := results["setup"]["slo_ms"]:
        axes.axhline(slo, color=QUIET, linestyle=":", label="SLO")
    axes.set_xscale("log")
    _log(axes.yaxis, lambda: axes.set_yscale("log"))
    axes.set_xticks([1 / (1 - q / 100) for q in NINES], [f"{q:g} %" for q in NINES], minor=False)
    axes.xaxis.minorticks_off()
    axes.set_xlabel("of the answers, at most")
    axes.set_ylabel("ms")


def _batches(axes: Axes, points: Figures, where: str) -> None:
    sizes = sorted({int(rows) for p in points for rows in p["server"]["batches_by_rows"]})
    widths = _widths(points)
    bottom = [0.0] * len(points)
    groups = _groups(sizes)
    from matplotlib import colormaps  # noqa: PLC0415  # optional

    colours = colormaps["viridis"]
    for number, (name, members) in enumerate(groups):
        shares = [_rows_in(point, members) for point in points]
        colour = colours(1 - number / max(1, len(groups) - 1))
        axes.bar(range(len(points)), shares, widths, bottom=bottom, label=name, color=colour)
        bottom = [a + b for a, b in zip(bottom, shares, strict=True)]
    axes.set_ylim(0, 100)
    axes.set_ylabel("% of the rows, by their batch's rows")
    _names(axes, points, where)


def _stages(axes: Axes, points: Figures, where: str) -> None:
    bottom = [0.0] * len(points)
    for key, name in STAGES:
        values = [point["server"][key] for point in points]
        axes.bar(range(len(points)), values, _widths(points), bottom=bottom, label=name)
        bottom = [a + b for a, b in zip(bottom, values, strict=True)]
    axes.set_ylabel("ms per request, mean")
    _names(axes, points, where)


def _overload(axes: Axes, points: Figures, rate: float) -> None:
    factors = [point["factor"] for point in points]
    axes.plot(
        factors,
        [point["calls"]["rate"] / rate for point in points],
        "o-",
        markersize=3,
        label="in time",
    )
    axes.plot(
        factors,
        [_answered(point) / rate for point in points],
        "o--",
        markersize=3,
        label="answered",
    )
    axes.axhline(1.0, color=QUIET, linestyle=":", label="goodput found")
    axes.set_xscale("log")
    axes.set_xticks(factors, [f"{factor:g}x" for factor in factors], rotation=90)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("offered load, in multiples of the goodput")
    axes.set_ylabel("in multiples of the goodput")


def _figure(key: str, point: Mapping[str, Any]) -> float:
    return float(point["calls"][key])


def _answered(point: Mapping[str, Any]) -> float:
    """Return the answers per second, late ones too."""
    ok = sum(n for end, n in point["calls"]["ends"].items() if end.partition(" ")[0] == "OK")
    return float(ok / point["calls"]["seconds"])


def _rows_in(point: Mapping[str, Any], members: Sequence[int]) -> float:
    counts = {int(rows): n * int(rows) for rows, n in point["server"]["batches_by_rows"].items()}
    inside: int = sum(counts.get(rows, 0) for rows in members)
    every: int = max(1, sum(counts.values()))
    return 100 * inside / every


def _groups(sizes: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Return sizes by powers of two, with names: beyond a handful no reader tells them apart."""
    groups = itertools.groupby(sizes, key=lambda size: (size - 1).bit_length())
    found = [list(members) for _, members in groups]
    return [
        (f"{m[0]} row{'s' if m[0] > 1 else ''}" if m[0] == m[-1] else f"{m[0]} to {m[-1]} rows", m)
        for m in found
    ]


def _load(point: Mapping[str, Any]) -> str:
    load = point["load"]
    return f"{load:,.0f}" if load >= 100 else f"{load:.3g}"  # noqa: PLR2004  # readers need no more


def _widths(points: Figures) -> float:
    return 0.8 if len(points) > 1 else 0.2


def _names(axes: Axes, points: Figures, where: str) -> None:
    """Name bars by their loads; evenly spaced, as loads may be close together."""
    labels = [_load(point) for point in points]
    turned = 90 if len(points) > 8 else 0  # noqa: PLR2004  # what fits side by side
    axes.set_xticks(range(len(points)), labels, rotation=turned)
    axes.set_xlim(-0.7, len(points) - 0.3)
    axes.set_xlabel(where)


def _x(axes: Axes, points: Figures, where: str) -> None:
    loads = [point["load"] for point in points]
    if loads[-1] > 20 * loads[0]:  # where a linear scale hides the small ones
        _log(axes.xaxis, lambda: axes.set_xscale("log"))
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel(where)


def _log(axis: Axis, scale: Callable[[], None]) -> None:
    """Make an axis logarithmic, with plain numbers at it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    scale()  # first: it sets a locator of its own
    low, high = axis.get_view_interval()
    wide = high > 300 * low  # beyond it powers of ten are enough
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
