"""The comparison as text for a person, and as a document for the file of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.compare.figures import FIGURES, ModelResult, Place, Point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.comparison import Ratio
    from benchmarks.peers.peer import Peer

__all__ = ["model_document", "model_text", "peers_document", "peers_text", "point_text"]

HEADINGS: Final = ("infer/s", "(rounds)", "p50 ms", "p99 ms", "CPU µs/req", "callers", "others")
SHOWN: Final = 200


def point_text(point: Point) -> str:
    """Return the table of one point, and the ratios below it."""
    rows = [("", *HEADINGS), *(_row(title, place) for title, place in point.places.items())]
    whole = [row for row in rows if len(row) == len(rows[0])]
    sizes = [max(len(row[n]) for row in whole) for n in range(len(rows[0]))]
    sizes[0] = max(len(row[0]) for row in rows)
    where = f"{point.concurrency} in flight over {point.connections} connections"
    lines = [f"## {point.model}, {where} ({point.callers})", ""]
    for row in rows:
        cells = [f"{row[0]:{sizes[0]}}"]
        if row in whole:
            cells += [f"{cell:>{size}}" for cell, size in zip(row[1:], sizes[1:], strict=True)]
        else:
            cells += row[1:]
        lines.append("  ".join(cells).rstrip())
    by_peer: dict[str, list[Ratio]] = {}
    for one in point.ratios:
        by_peer.setdefault(one.name.partition(" over ")[2], []).append(one)
    if by_peer:
        lines += ["", "ours over theirs, median of rounds (least to greatest):"]
        width = max(map(len, by_peer))
        lines += [
            f"{title:{width}}  " + "  ".join(map(_ratio_text, ratios))
            for title, ratios in by_peer.items()
        ]
    return "\n".join(lines) + "\n"


def model_text(result: ModelResult) -> str:
    """Return what is to be said of a model beside its points."""
    lines = [f"## {result.model}: memory, MiB (peak RSS of every process added up; PSS at the end)"]
    lines += [
        f"{title}: {memory.peak_rss:,.0f}; {memory.pss:,.0f}"
        for title, memory in result.memory.items()
    ]
    lines += result.notes
    for title, reason in result.absent.items():
        lines.append(f"{title} took no part: {_last_words(reason)}")
    return "\n".join(lines) + "\n"


def peers_text(peers: Sequence[Peer]) -> str:
    """Return versions and configurations."""
    return "\n".join(f"{peer.title}: {peer.version()}; {peer.setup}" for peer in peers) + "\n"


def peers_document(peers: Sequence[Peer]) -> dict[str, Any]:
    """Return versions and configurations, by title."""
    return {
        peer.title: {"version": peer.version(), "setup": peer.setup, "missing": peer.missing()}
        for peer in peers
    }


def model_document(result: ModelResult) -> dict[str, Any]:
    """Return everything about a model."""
    return {
        "absent": result.absent,
        "notes": result.notes,
        "memory_mib": {title: memory._asdict() for title, memory in result.memory.items()},
        "points": [_point_document(point) for point in result.points],
    }


def _point_document(point: Point) -> dict[str, Any]:
    return {
        "concurrency": point.concurrency,
        "connections": point.connections,
        "callers": point.callers,
        "places": {title: _place_document(place) for title, place in point.places.items()},
        "ratios": [{**one._asdict(), "verdict": one.verdict} for one in point.ratios],
    }


def _place_document(place: Place) -> Mapping[str, Any]:
    if place.void:
        return {"void": place.void}
    return {
        **{figure: place.of(figure)._asdict() for figure in FIGURES},
        "rounds": [visit._asdict() for visit in place.visits],
    }


def _last_words(reason: str) -> str:
    """Return the line that says most; the document has all of them."""
    return reason.strip().splitlines()[-1][:SHOWN]


def _row(title: str, place: Place) -> tuple[str, ...]:
    if place.void:
        return (title, f"void: {_last_words(place.void)}")
    rate, p50, p99, cpu = (place.of(figure) for figure in FIGURES)
    callers = max(visit.caller_busy for visit in place.visits)
    others = max(visit.others_busy for visit in place.visits)
    return (
        title,
        f"{rate.median:,.0f}",
        f"({rate.low:,.0f} to {rate.high:,.0f})",
        f"{p50.median:.3f}",
        f"{p99.median:.3f}",
        f"{cpu.median:,.1f}",
        f"{callers:.0%}",
        f"{others:.0%}",
    )


def _ratio_text(one: Ratio) -> str:
    figure = one.name.partition(" over ")[0]
    text = f"{figure} {one.median:.2f} ({one.low:.2f} to {one.high:.2f})"
    if one.bar is not None:
        text += f" [{'at most' if one.at_most else 'at least'} {one.bar:g}: {one.verdict}]"
    return text
