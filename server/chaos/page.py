"""The metrics page of a server, as numbers."""

from __future__ import annotations

import collections
import urllib.request
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Page", "read_page"]

TIMEOUT: Final = 10.0


class Page:
    """All samples of one reading."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def by(self, name: str, label: str, **labels: str) -> Mapping[str, int]:
        """Return the sums by the value of one label, of the samples with these labels."""
        sums: collections.Counter[str] = collections.Counter()
        for sample in self._samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                sums[sample.labels[label]] += int(sample.value)
        return +sums


def read_page(url: str) -> Page:
    """Read a metrics page."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310  # ours
        return Page(answer.read().decode())
