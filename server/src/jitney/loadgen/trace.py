"""Trace files: CSV of arrival seconds, and optionally the model and the rows of each call."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HEADER", "Call", "read"]

HEADER: Final = ("seconds", "model", "rows")
ROWS_AT: Final = 2


class Call(NamedTuple):
    """``gap`` seconds after the call before it; ``model`` and ``rows`` as the file says."""

    gap: float
    model: str
    rows: int


def read(file: Path) -> list[Call]:
    """Return the calls of a trace: a header ``seconds[,model[,rows]]``, then a line for each.

    :raises OSError: when the file cannot be read.
    :raises ValueError: naming the line, when it is no trace or does not ascend.
    """
    calls: list[Call] = []
    before: float | None = None
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.reader(lines)
        header = tuple(next(reader, ()))
        if not header or header != HEADER[: len(header)]:
            msg = f"{file.name}: the first line must be {','.join(HEADER)}, or its beginning"
            raise ValueError(msg)
        for line in reader:
            try:
                seconds = float(line[0])
                rows = int(line[ROWS_AT]) if len(header) > ROWS_AT else 1
                model = line[1] if len(header) > 1 else ""
            except (ValueError, IndexError) as error:
                msg = f"{file.name}, line {reader.line_num}: expected {','.join(header)}"
                raise ValueError(msg) from error
            if not math.isfinite(seconds) or rows < 1 or seconds < (before or 0.0):
                msg = f"{file.name}, line {reader.line_num}: seconds must ascend and rows be > 0"
                raise ValueError(msg)
            if before is not None:
                calls.append(Call(seconds - before, model, rows))
            before = seconds
    if not calls or before is None or not any(call.gap for call in calls):
        msg = f"{file.name}: a trace needs two calls at different moments"
        raise ValueError(msg)
    return calls
