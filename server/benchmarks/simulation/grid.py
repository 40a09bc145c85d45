"""Tables of figures, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["figure", "grid"]


def grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its columns are padded, so that it reads as well unrendered."""
    lines = [list(titles), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure as the design writes them: no zero before the point, a dash for none."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if text.startswith("0.") else text
