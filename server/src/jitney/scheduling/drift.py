"""What slows down all models of a device alike."""

from __future__ import annotations

from typing import Final

__all__ = ["Drift"]

STEP: Final = 0.02
"""Share of a batch's error by which the drift follows it; a table follows by five times as much."""
LEAST: Final = 0.2
MOST: Final = 5.0


class Drift:
    """How much slower a device runs than when its models were measured: clock, heat, co-tenants.

    One for all models of a device, so that what one of them finds out helps the others.
    """

    __slots__ = ("g",)

    def __init__(self, g: float = 1.0) -> None:
        self.g = g

    def __repr__(self) -> str:
        """Return the factor."""
        return f"<Drift {self.g:.3f}>"

    def observe(self, error: float) -> None:
        """Follow the relative error of a batch, of any model."""
        # The bounds are far beyond what hardware does; they keep a model whose table is wrong by
        # a factor from pulling the others along.
        self.g = min(MOST, max(LEAST, self.g * (1.0 + STEP * error)))
