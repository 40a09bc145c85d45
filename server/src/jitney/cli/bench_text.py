"""The results of ``jitney bench`` for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jitney.cli.table import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["describe"]


def describe(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the results."""
    setup, found = results["setup"], results["found"]
    slo = f", SLO {setup['slo_ms']:g} ms" if setup["slo_ms"] else ""
    yield f"{setup['model']} at {setup['address']}: {setup['arrivals']}{slo}"
    yield f"one call alone {setup['alone_ms']:.3g} ms; answers " + (
        f"not checked: {setup['unchecked']}" if setup["unchecked"] else "checked"
    )
    yield ""
    yield from _points(results["points"], setup)
    # A search makes a dozen runs, of which the report tells more.
    yield from _details(results["points"], setup) if found is None else ()
    if found is not None:
        yield ""
        yield _found(found, setup)
    if results["overload"]:
        yield ""
        yield "overload"
        yield from _points(results["overload"], setup)


def _found(found: Mapping[str, Any], setup: Mapping[str, Any]) -> str:
    if not found["rate"]:
        return f"no rate was found with 99 % of the calls within {setup['slo_ms']:g} ms"
    rates = found["rates"]
    among = f" (median of {len(rates)}, {min(rates):,.1f} to {max(rates):,.1f})"
    text = f"goodput {found['rate']:,.1f}/s{among if len(rates) > 1 else ''}: "
    text += f"99 % within {setup['slo_ms']:g} ms, at a confidence of 99 %"
    return text + (f"; at least: {found['limit']}" if found["limit"] else "")


def _points(points: Sequence[Mapping[str, Any]], setup: Mapping[str, Any]) -> Iterator[str]:
    if not points:
        return
    closed, slo = points[0]["closed"], bool(setup["slo_ms"])
    timing = ("P50 MS", "P90 MS", "P99 MS", "MAX MS")
    server = ("ROWS", "QUEUE MS", "COMPUTE MS")
    heads = ("AT ONCE" if closed else "RATE", *(("X",) if "factor" in points[0] else ()))
    heads += (*(("IN TIME", "PROVEN") if slo else ()), "GOOD/S" if slo else "CALLS/S")
    heads += (*timing, *server, *(() if closed else ("LAG P99 MS",)))
    ordered = sorted(points, key=lambda point: (point["load"], point["seed"]))
    yield from table(heads, [_row(point, slo=slo) for point in ordered])
    for point in ordered:
        if point["fault"]:
            yield f"{point['load']:,.6g}: {point['fault']}"


def _details(points: Sequence[Mapping[str, Any]], setup: Mapping[str, Any]) -> Iterator[str]:
    for point in points:
        where = f"{point['load']:,.6g}{' at once' if point['closed'] else '/s'}"
        if setup["unchecked"] == "" and point["unchecked"]:
            yield f"{where}: {point['unchecked']} answers could not be kept to be checked"
        for end, count in point["calls"]["ends"].items():
            if end.partition(" ")[0] != "OK":
                yield f"{where}: {count:,} {end}: {point['texts'].get(end, '')}".rstrip(": ")
        for name, calls in point["callers"].items():
            yield (
                f"{where}: {name}: {calls['share']:.2%} of {calls['sent']:,} in time, "
                f"p50 {calls['p50_ms']:.2f}, p99 {calls['p99_ms']:.2f} ms"
            )
        if point["fairness"] is not None:
            yield f"{where}: fairness between tenants {point['fairness']:.3f} (Jain's index)"


def _row(point: Mapping[str, Any], *, slo: bool) -> list[str]:
    calls, server = point["calls"], point["server"]
    cells = [f"{point['load']:,.6g}"]
    cells += [f"{point['factor']:g}x"] if "factor" in point else []
    if slo:
        cells += [f"{calls['share']:.2%}", "yes" if point["proven"] else "no"]
    cells.append(f"{calls['rate']:,.1f}")
    cells += [f"{calls[name]:,.2f}" for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms")]
    if server is None:
        cells += ["-", "-", "-"]
    else:
        compute = sum(server[f"compute_{part}_ms"] for part in ("input", "infer", "output"))
        cells += [f"{server['mean_rows']:.1f}", f"{server['queue_ms']:.2f}", f"{compute:.2f}"]
    return cells if point["closed"] else [*cells, f"{calls['send_lag_p99_ms']:.2f}"]
