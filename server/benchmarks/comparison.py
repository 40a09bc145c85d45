"""Sides that are measured in turn, and the ratios between them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from benchmarks.process import Round

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.process import CallerProcess, EchoProcess, ServerProcess

__all__ = [
    "Effort",
    "Ratio",
    "Report",
    "Shape",
    "Side",
    "alternate",
    "ratio_of",
    "take_turns",
]

WARM_UP_SECONDS: Final = 0.5
Figure = Literal["rate", "p50_ms", "p99_ms", "cpu_ms"]
HEADINGS: Final = ("requests/s", "p50 ms", "p99 ms", "server CPU ms/request", "callers busy")


class Effort(NamedTuple):
    """How long to measure: rounds of every side, and the seconds of each."""

    rounds: int
    seconds: float


class Shape(NamedTuple):
    """How the callers call: a closed loop, always."""

    concurrency: int
    connections: int


class Side(NamedTuple):
    """One of the things compared: a process that answers, and what to ask of it."""

    label: str
    process: ServerProcess | EchoProcess
    workload: Path


class Ratio(NamedTuple):
    """The median of the ratios of neighbouring rounds, with the least and the greatest.

    ``bar`` is what was aimed at: at least it, or with ``at_most`` at most; None where there is
    none.
    """

    name: str
    median: float
    low: float
    high: float
    bar: float | None
    at_most: bool

    @property
    def verdict(self) -> str:
        """``pass``, ``miss``, or nothing without a bar."""
        if self.bar is None:
            return ""
        return "pass" if (self.median <= self.bar) is self.at_most else "miss"


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)

    @property
    def missed(self) -> bool:
        """Whether any bar was missed."""
        return any(ratio.verdict == "miss" for ratio in self.ratios)

    def to_json(self) -> dict[str, Any]:
        """Return everything, for the file of results."""
        return {
            "benchmark": self.name,
            "title": self.title,
            **self.facts,
            "ratios": [{**ratio._asdict(), "verdict": ratio.verdict} for ratio in self.ratios],
            "medians": {
                label: median_of(rounds)._asdict() for label, rounds in self.rounds.items()
            },
            "rounds": {
                label: [one._asdict() for one in rounds] for label, rounds in self.rounds.items()
            },
        }

    def to_text(self) -> str:
        """Return the table that a person reads."""
        lines = [f"## {self.name}: {self.title}", ""]
        if self.rounds:
            width = max(map(len, self.rounds))
            lines.append(f"{'':{width}}  " + "  ".join(f"{text:>10}" for text in HEADINGS))
        for label, rounds in self.rounds.items():
            m = median_of(rounds)
            cells = (
                f"{m.rate:,.0f}",
                f"{m.p50_ms:.3f}",
                f"{m.p99_ms:.3f}",
                f"{m.cpu_ms:.3f}",
                f"{m.caller_busy:.0%}",
            )
            padded = (f"{c:>{max(10, len(h))}}" for c, h in zip(cells, HEADINGS, strict=True))
            lines.append(f"{label:{width}}  " + "  ".join(padded))
        lines.append("")
        for ratio in self.ratios:
            text = f"{ratio.name}: {ratio.median:.2f}  (rounds {ratio.low:.2f} to {ratio.high:.2f})"
            if ratio.bar is not None:
                sign = "at most" if ratio.at_most else "at least"
                text += f"  bar: {sign} {ratio.bar:g}: {ratio.verdict}"
                if ratio.low < ratio.bar < ratio.high:
                    text += ", but rounds lie on both sides of it"
            lines.append(text)
        return "\n".join(lines) + "\n"


def alternate(
    callers: CallerProcess, sides: Sequence[Side], shape: Shape, effort: Effort
) -> dict[str, list[Round]]:
    """Measure the sides in turn, by callers of the same shape.

    :raises BenchmarkError: when any call failed or was answered wrongly.
    """

    def plays(side: Side) -> Callable[[float], Round]:
        return lambda seconds: callers.run(
            side.process,
            side.process.address,
            side.workload,
            concurrency=shape.concurrency,
            connections=shape.connections,
            seconds=seconds,
        )

    return take_turns({side.label: plays(side) for side in sides}, effort)


def take_turns(
    plays: Mapping[str, Callable[[float], Round]], effort: Effort
) -> dict[str, list[Round]]:
    """Measure in turn, A B A B …, after a short round each that does not count.

    :param plays: by label, what plays a round of some seconds.
    """
    rounds: dict[str, list[Round]] = {label: [] for label in plays}
    for nth in range(effort.rounds + 1):
        for label, play in plays.items():
            seen = play(effort.seconds if nth else WARM_UP_SECONDS)
            if nth:
                rounds[label].append(seen)
    return rounds


def ratio_of(  # a ratio has two sides, and a bar has a direction
    name: str,
    rounds: Mapping[str, Sequence[Round]],
    over: str,
    under: str,
    *,
    figure: Figure = "rate",
    bar: float | None = None,
    at_most: bool = False,
) -> Ratio:
    """Return the ratio of a figure of two sides, round by round."""
    ratios = [
        getattr(a, figure) / getattr(b, figure)
        for a, b in zip(rounds[over], rounds[under], strict=True)
    ]
    return Ratio(name, statistics.median(ratios), min(ratios), max(ratios), bar, at_most)


def median_of(rounds: Sequence[Round]) -> Round:
    """Return the median of every figure."""
    return Round(*(statistics.median(column) for column in zip(*rounds, strict=True)))
