"""Seconds as a line over rows, ``alpha * rows + beta``: fitted to the sweep, then to batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Line"]

FORGETTING: Final = 0.995
"""What an observation still counts after the next one: the last two hundred or so decide."""
SWEEP_WEIGHT: Final = 5.0
"""A size of the sweep counts like so many batches: it is the median of about as many runs."""
RECENT: Final = 0.1
LEAST_VARIATION: Final = 0.1
"""Standard deviation of recent sizes, over their mean, below which they identify no line."""
LEAST_DETERMINANT: Final = 1e-9


class Line:
    """Weighted least squares with forgetting, both coefficients at least 0.

    It takes O(1) per observation: only five sums are kept (the recursive form of the normal
    equations). An observation weighs one over its seconds: noise grows with the duration, yet the
    large sizes are those that the slope is asked about. Weighing them all by relative error would
    let the flat, launch-bound foot of a GPU's curve decide.

    Batches of one size tell nothing about slope and intercept apart (a known trap: a fit over the
    last fifty equal batches gives any slope, also a negative one), so they are left out while
    recent sizes do not vary.
    """

    __slots__ = ("_mean", "_sums", "_variance", "alpha", "beta")

    def __init__(self, points: Iterable[tuple[int, float]]) -> None:
        """Fit to ``points``: rows and seconds, each size once."""
        self.alpha = self.beta = 0.0
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._mean = 0.0
        self._variance = 0.0
        for rows, seconds in points:
            self._add(rows, seconds, SWEEP_WEIGHT / seconds)
        self._solve()

    def __repr__(self) -> str:
        """Return the formula, in milliseconds."""
        return f"<Line {self.alpha * 1e3:.4g} ms * rows + {self.beta * 1e3:.4g} ms>"

    def observe(self, rows: int, seconds: float) -> None:
        """Take a batch into account, unless it is one more of a series of equals."""
        if not self._mean:
            self._mean = float(rows)
        difference = rows - self._mean
        self._mean += RECENT * difference
        self._variance += RECENT * (difference * difference - self._variance)
        if self._variance < (LEAST_VARIATION * self._mean) ** 2:
            return
        total, x, xx, y, xy = self._sums
        kept = FORGETTING
        self._sums = (kept * total, kept * x, kept * xx, kept * y, kept * xy)
        self._add(rows, seconds, 1.0 / seconds)
        self._solve()

    def scale(self, factor: float) -> None:
        """Multiply all that was seen so far by ``factor``."""
        weight, x, xx, y, xy = self._sums
        self._sums = (weight, x, xx, y * factor, xy * factor)
        self._solve()

    def _add(self, rows: int, seconds: float, weight: float) -> None:
        total, x, xx, y, xy = self._sums
        self._sums = (
            total + weight,
            x + weight * rows,
            xx + weight * rows * rows,
            y + weight * seconds,
            xy + weight * rows * seconds,
        )

    def _solve(self) -> None:
        total, x, xx, y, xy = self._sums
        if not total:
            return
        determinant = total * xx - x * x
        if determinant <= LEAST_DETERMINANT * total * xx:
            # One size only. All of it is put down to the rows: of a model that takes one row at a
            # time, that is what a waiting row costs.
            self.alpha, self.beta = xy / xx, 0.0
            return
        alpha = (total * xy - x * y) / determinant
        beta = (y - alpha * x) / total
        if alpha < 0:
            alpha, beta = 0.0, y / total
        elif beta < 0:
            alpha, beta = xy / xx, 0.0
        self.alpha, self.beta = alpha, beta
