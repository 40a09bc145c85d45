"""Counters and histograms that cost the event loop next to nothing.

prometheus_client's own instruments take a lock and two to three microseconds per observation; with
five histograms per request that is a tenth of everything a request costs. Here the thread that
owns the scheduler is the only writer, so a cell is a plain object: an observation is a bisection
and two additions. The exposition thread reads copies; prometheus_client still renders them.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.core import Metric

__all__ = ["Counter", "Histogram", "HistogramCell"]

Labels = tuple[str, ...]


class Counter:
    """A counter with labels; a cell is made by its first ``add``."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Add to one cell."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def value(self, labels: Labels) -> float:
        """Return one cell, 0 where nothing was added."""
        return self._values.get(labels, 0)

    def items(self) -> list[tuple[Labels, float]]:
        """Return all cells; a copy."""
        return list(self._values.items())

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self.items():
            family.add_metric(labels, value)
        return family


class HistogramCell:
    """The buckets of one set of labels."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, ``times`` times."""
        self.counts[bisect_left(self.edges, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)


class Histogram:
    """A histogram with labels and fixed upper edges, ascending."""

    def __init__(self, name: str, text: str, labels: Sequence[str], edges: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._edges = edges
        self._cells: dict[Labels, HistogramCell] = {}

    def cell(self, labels: Labels) -> HistogramCell:
        """Return the cell of these labels; keep it where it is used often."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = HistogramCell(self._edges)
        return cell

    def collect(self) -> Metric:
        """Return the family as prometheus_client renders it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, cell in list(self._cells.items()):
            counts = list(cell.counts)  # one copy, so that the buckets agree with the count
            running, buckets = 0, []
            for edge, count in zip([*self._edges, float("inf")], counts, strict=True):
                running += count
                le = floatToGoString(edge)  # type: ignore[no-untyped-call]  # theirs has no types
                buckets.append((le, running))
            family.add_metric(labels, buckets, cell.sum)
        return family
