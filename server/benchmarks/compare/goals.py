"""What is aimed at beside the others."""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks.compare.figures import FIGURES, Point, ratio
from benchmarks.peers.registry import PEERS

__all__ = ["add_ratios"]


class Goal(NamedTuple):
    """A bar for the ratio of our figure to a peer's."""

    models: tuple[str, ...]
    peer: str
    figure: str
    bar: float
    at_most: bool = False


GOALS: Final = (
    # The floor of a Python transport: what is left for batching, checking and handing over.
    Goal(("simple", "mlp"), "echo", "rate", 0.65),
    Goal(("resnet18",), "triton", "rate", 1.5),
    Goal(("resnet18",), "triton", "p99_ms", 1.0, at_most=True),
    Goal(("minilm",), "triton", "rate", 1.0),
)


def add_ratios(point: Point) -> None:
    """Add the ratios of our figures to those of every other place that has some."""
    ours = PEERS["jitney"].title
    for title in point.places:
        if title == ours:
            continue
        for figure in FIGURES:
            bar = next(
                (
                    (goal.bar, goal.at_most)
                    for goal in GOALS
                    if point.model in goal.models
                    and PEERS[goal.peer].title == title
                    and goal.figure == figure
                ),
                None,
            )
            found = ratio(point.places, ours, title, figure, bar)
            if found is not None:
                point.ratios.append(found)
