"""What a scenario found: figures, each against its goal."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.history import History

__all__ = ["Bound", "Figure", "Verdict", "percentile"]

DIGITS: Final = 6
NOTES_KEPT: Final = 20


class Bound(enum.Enum):
    """On which side of its goal a figure has to be."""

    AT_MOST = "at most"
    AT_LEAST = "at least"
    EXACTLY = "exactly"


class Figure(NamedTuple):
    """A figure and what was aimed at; ``goal`` is None for what is only reported."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    bound: Bound = Bound.AT_MOST

    @property
    def missed(self) -> bool:
        """Whether there is a goal and it was not reached; what is no number reaches none."""
        if self.goal is None:
            return False
        if self.bound is Bound.AT_MOST:
            return not self.value <= self.goal
        if self.bound is Bound.AT_LEAST:
            return not self.value >= self.goal
        return self.value != self.goal

    def __str__(self) -> str:
        """Return the line that a person reads, without the scenario's name."""
        unit = f" {self.unit}" if self.unit else ""
        text = f"{self.name}: {_short(self.value)}{unit}"
        if self.goal is None:
            return text
        word = "MISS" if self.missed else "pass"
        return f"{text} (goal: {self.bound.value} {_short(self.goal)}{unit}) {word}"


@dataclass(slots=True)
class Verdict:
    """All figures of one run; ``notes`` say in words what went wrong, the first few of it."""

    scenario: str
    figures: list[Figure] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def at_most(self, name: str, value: float, goal: float, unit: str = "") -> None:
        """Add a figure that should not be larger."""
        self.figures.append(Figure(name, value, unit, goal))

    def at_least(self, name: str, value: float, goal: float, unit: str = "") -> None:
        """Add a figure that should not be smaller."""
        self.figures.append(Figure(name, value, unit, goal, Bound.AT_LEAST))

    def exactly(self, name: str, value: float, goal: float, unit: str = "") -> None:
        """Add a figure that can only be right or wrong."""
        self.figures.append(Figure(name, value, unit, goal, Bound.EXACTLY))

    def tell(self, name: str, value: float, unit: str = "") -> None:
        """Add a figure without a goal."""
        self.figures.append(Figure(name, value, unit))

    def ends(self, history: History) -> None:
        """Add what holds whatever was done: every request ends once, and no answer is wrong."""
        self.exactly("requests without an end", history.open, 0)
        self.exactly("requests with two ends", history.double, 0)
        self.exactly("wrong answers", history.wrong, 0)
        for problem in history.problems:
            self.note(problem)

    def note(self, text: str) -> None:
        """Say what went wrong, unless that was said often enough."""
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(text)

    @property
    def missed(self) -> list[Figure]:
        """The figures that did not reach their goals."""
        return [figure for figure in self.figures if figure.missed]

    def to_text(self) -> str:
        """Return one line per figure, and the notes."""
        lines = [f"{self.scenario:18} {figure}" for figure in self.figures]
        if self.missed:
            shown = ("codes", "reasons", "others")
            lines += [f"{'':18} {key}: {self.facts[key]}" for key in shown if key in self.facts]
        return "\n".join([*lines, *(f"{'':18} - {note}" for note in self.notes)])

    def to_json(self) -> dict[str, Any]:
        """Return everything, for the file of results."""
        return {
            "scenario": self.scenario,
            "verdict": "miss" if self.missed else "pass",
            "figures": [
                {
                    "name": figure.name,
                    # JSON knows no infinity.
                    "value": figure.value if math.isfinite(figure.value) else None,
                    "unit": figure.unit,
                    **(
                        {}
                        if figure.goal is None
                        else {
                            "goal": f"{figure.bound.value} {_short(figure.goal)}",
                            "verdict": "miss" if figure.missed else "pass",
                        }
                    ),
                }
                for figure in self.figures
            ],
            "facts": self.facts,
            "notes": self.notes,
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent are not above; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _short(value: float) -> str:
    if float(value).is_integer() and abs(value) < 10**15:
        return f"{int(value):,}"
    return f"{value:.{DIGITS}g}"
