"""Numbers in flags, as argparse's ``type``: what is out of range is told with what was expected."""

from __future__ import annotations

import argparse
import contextlib
import math

__all__ = ["count", "positive"]


def positive(text: str, what: str = "a number") -> float:
    """Return a finite number above 0; ``what`` is how the error calls it."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    msg = f"expected {what} above 0, got {text!r}"
    raise argparse.ArgumentTypeError(msg)


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    msg = f"expected a number >= 1, got {text!r}"
    raise argparse.ArgumentTypeError(msg)
