"""Results as one page of HTML that needs nothing else: no script, no font, no picture beside it."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any, Final

from jitney.loadgen.charts import charts, have_matplotlib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Figures = Sequence[Mapping[str, Any]]

__all__ = ["page"]

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 78rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.verdict { font-size: 1.25rem; padding: .8rem 1rem; background: #eef4ee; margin: 1rem 0; }
.verdict.bad { background: #fbeaea; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 30rem;
       max-width: 40rem; }
figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th { font-weight: 600; } th:first-child, td:first-child, .text { text-align: left; }
td.text { white-space: normal; }
tr.fault td { color: #a00; } .quiet { color: #666; } dt { font-weight: 600; float: left;
clear: left; width: 11rem; } dd { margin-left: 12rem; }
"""
FIGURE: Final = re.compile(r"-?[\d,.]+(e[-+]?\d+)?%?|-|yes|no|")
NOTES: Final = """\
A rate is an open loop: send times were drawn before the run, and a latency counts from the moment
at which its call was to be sent. What did not come in time, late answers, refusals and errors, is
missed.

Proven: the run has enough calls to believe, at a confidence of 99 %, that 99 % of all calls would
be in time (MLPerf's early stopping rule).

Lag: how late the generator sent its calls (p99). A run in which it is more than 2 % of the SLO
tells about the generator and is invalid.

Rows, queue and compute are the server's own figures (ModelStatistics), of the whole run: mean rows
of a batch, and means per request.
"""
FAIRNESS: Final = (
    "1 where every tenant got its max-min fair share of the calls answered in time, weights equal; "
    "1/n where one of n got them all."
)


def page(results: Mapping[str, Any]) -> str:
    """Return the page."""
    setup = results["setup"]
    title = f"{setup['model']} under load"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(results["at"])}, {escape(setup["address"])}</p>',
        *_verdict(results),
        *_plots(results),
        *_section("Runs", results["points"], setup),
        *_section("Overload", results["overload"], setup),
        *_callers(results),
        *_ends(results),
        "<h2>How it was measured</h2>",
        *_facts(results),
        *(f"<p>{escape(note)}</p>" for note in NOTES.split("\n\n")),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(
        [*body, "</body></html>\n"]
    )


def _verdict(results: Mapping[str, Any]) -> Iterator[str]:
    setup, found = results["setup"], results["found"]
    everything = [*results["points"], *results["overload"]]
    if void := [point for point in everything if point["wrong"]]:
        text = f"Void: {void[0]['wrong']} wrong answers. {void[0]['example']}"
        yield f'<p class="verdict bad">{escape(text)}</p>'
    elif found is not None and not found["rate"]:
        text = f"No rate was found with 99 % of the calls within {setup['slo_ms']:g} ms."
        yield f'<p class="verdict bad">{escape(text)}</p>'
    elif found is not None:
        least = "at least " if found["limit"] else ""
        text = (
            f"Goodput: {least}{found['rate']:,.1f} calls/s with 99 % within {setup['slo_ms']:g} ms"
        )
        rates = found["rates"]
        if len(rates) > 1:
            text += f" (median of {len(rates)}; {min(rates):,.1f} to {max(rates):,.1f})"
        yield f'<p class="verdict">{escape(text)}.</p>'
        if found["limit"]:
            yield f"<p>It ended there because {escape(found['limit'])}.</p>"
    if setup["unchecked"]:
        yield f"<p><b>Answers were not checked:</b> {escape(setup['unchecked'])}.</p>"


def _plots(results: Mapping[str, Any]) -> Iterator[str]:
    if not have_matplotlib():
        yield '<p class="quiet">There are no plots: pip install "jitney[plots]".</p>'
        return
    yield '<div class="plots">'
    for title, svg in charts(results):
        yield f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"
    yield "</div>"


def _section(title: str, points: Figures, setup: Mapping[str, Any]) -> Iterator[str]:
    if not points:
        return
    closed, slo = points[0]["closed"], bool(setup["slo_ms"])
    heads = ["at once" if closed else "rate, /s", *(["x"] if "factor" in points[0] else [])]
    heads += ["in time", "proven", "good, /s"] if slo else ["calls, /s"]
    heads += ["p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"]
    heads += ["rows", "queue ms", "compute ms", *([] if closed else ["lag ms"])]
    yield f"<h2>{escape(title)}</h2>"
    ordered = sorted(points, key=lambda point: (point["load"], point["seed"]))
    rows = ((point["fault"], _cells(point, slo=slo)) for point in ordered)
    yield from _table(heads, rows)


def _cells(point: Mapping[str, Any], *, slo: bool) -> list[str]:
    calls, server = point["calls"], point["server"]
    cells = [f"{point['load']:,.6g}", *([f"{point['factor']:g}"] if "factor" in point else [])]
    if slo:
        cells += [f"{calls['share']:.2%}", "yes" if point["proven"] else "no"]
    cells.append(f"{calls['rate']:,.1f}")
    cells += [f"{calls[f'{name}_ms']:,.2f}" for name in ("p50", "p90", "p99", "p99_9", "max")]
    if server is None:
        cells += ["-", "-", "-"]
    else:
        compute = sum(server[f"compute_{part}_ms"] for part in ("input", "infer", "output"))
        cells += [f"{server['mean_rows']:.1f}", f"{server['queue_ms']:.2f}", f"{compute:.2f}"]
    cells += [] if point["closed"] else [f"{calls['send_lag_p99_ms']:.2f}"]
    return cells


def _callers(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield each caller's share of every run, where there are several."""
    points = [p for p in (*results["points"], *results["overload"]) if p["callers"]]
    if not points:
        return
    points.sort(key=lambda point: point["load"])
    load = "at once" if points[0]["closed"] else "rate, /s"
    yield "<h2>Callers</h2>"
    rows = [
        (
            "",
            [
                name,
                f"{point['load']:,.6g}",
                f"{calls['sent']:,}",
                f"{calls['share']:.2%}",
                f"{calls['p50_ms']:,.2f}",
                f"{calls['p99_ms']:,.2f}",
            ],
        )
        for point in points
        for name, calls in point["callers"].items()
    ]
    yield from _table(["caller", load, "sent", "in time", "p50 ms", "p99 ms"], rows)
    fair = [
        ("", [f"{point['load']:,.6g}", f"{point['fairness']:.3f}"])
        for point in points
        if point["fairness"] is not None
    ]
    if fair:
        yield "<h2>Fairness between tenants</h2>"
        yield f'<p class="quiet">{escape(FAIRNESS)}</p>'
        yield from _table(["rate, /s", "Jain's index"], fair)


def _ends(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield how calls failed, with the server's words of the first of them."""
    rows = [
        ("", [f"{point['load']:,.6g}", f"{count:,}", end, point["texts"].get(end, "")])
        for point in sorted(
            (*results["points"], *results["overload"]), key=lambda point: point["load"]
        )
        for end, count in point["calls"]["ends"].items()
        if end.partition(" ")[0] != "OK"
    ]
    if rows:
        yield "<h2>Calls without an answer</h2>"
        yield from _table(["load", "calls", "end", "in the server's words, the first"], rows)


def _facts(results: Mapping[str, Any]) -> Iterator[str]:
    setup, machine = results["setup"], results["machine"]
    shapes = ", ".join(f"{name} {shape}" for name, shape in setup["shapes"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    facts = {
        "Arrivals": setup["arrivals"],
        "Counted": f"{setup['seconds']:g} s or more of each run, after its beginning",
        "Deadline": f"{setup['deadline_ms']:g} ms" if setup["deadline_ms"] else "none",
        "Inputs": f"{setup['inputs']}, {setup['different_inputs']} different: {shapes}",
        "Answers": "not checked"
        if setup["unchecked"]
        else "all checked against those to the same inputs, sent one at a time",
        "One call alone": f"{setup['alone_ms']:g} ms, the median",
        "Callers": " ".join(filter(None, (setup["tenants"], setup["priorities"]))) or "all alike",
        "Load from": f"{setup['processes']} process(es), {setup['connections']} connections; "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        "Versions there": versions,
    }
    yield "<dl>"
    for name, text in facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"


def _table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Yield a table; each row is what is wrong with it, if anything is, and its cells."""
    rows = list(rows)
    # Words are read from the left, figures from the right; a column is one or the other.
    kinds = [
        "" if all(FIGURE.fullmatch(cells[column]) for _, cells in rows) else ' class="text"'
        for column in range(len(heads))
    ]
    yield '<div class="scroll"><table><tr>'
    yield "".join(f"<th{kind}>{escape(head)}</th>" for kind, head in zip(kinds, heads, strict=True))
    yield "</tr>"
    for fault, cells in rows:
        yield '<tr class="fault">' if fault else "<tr>"
        yield "".join(
            f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, cells, strict=True)
        )
        yield "</tr>"
        if fault:
            # In a line of its own: a column of it would have room for a word.
            cell = f'<td class="text" colspan="{len(heads)}">{escape(fault)}</td>'
            yield f'<tr class="fault">{cell}</tr>'
    yield "</table></div>"
