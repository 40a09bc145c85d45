"""A figure that nobody counts: its owner is asked when somebody reads the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.core import Metric

__all__ = ["Reading"]


class Reading(NamedTuple):
    """A figure that is read when somebody asks: name, help, labels, and how to read it.

    ``read`` is called on the exposition's thread; it must only take atomic copies. ``counts``
    makes it a counter: it only ever grows.
    """

    name: str
    text: str
    labels: Sequence[str]
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    counts: bool = False

    def collect(self) -> Metric:
        """Ask, and return the family as prometheus_client renders it."""
        kind = CounterMetricFamily if self.counts else GaugeMetricFamily
        family = kind(self.name, self.text, labels=self.labels)
        for labels, value in self.read():
            family.add_metric(labels, value)
        return family
