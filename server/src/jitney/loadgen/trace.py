"""Trace files: CSV of arrival seconds, and optionally the model and the rows of each call."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HEADER", "Call", "read"]

HEADER: Final = ("seconds", "model", "rows")


class Call(NamedTuple):
    """``gap`` seconds after the call before it; ``model`` and ``rows`` as the file says."""

    gap: float
    model: str
    rows: int


def read(file: Path) -> list[Call]:
    """Return the calls of a trace: a line that names the columns, then a line for each call.

    There is a column ``seconds``, and there may be ``model`` and ``rows``, in any order.

    :raises OSError: when the file cannot be read.
    :raises ValueError: naming the line, when it is no trace or does not ascend.
    """
    calls: list[Call] = []
    before: float | None = None
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        if "seconds" not in header or len({*header, *HEADER}) > len(HEADER):
            msg = f"{file.name}: the first line must name seconds, and may name model and rows"
            raise ValueError(msg)
        for line in reader:
            try:
                cells = dict(zip(header, line, strict=True))
                seconds, model = float(cells["seconds"]), cells.get("model", "")
                rows = int(cells.get("rows", 1))
            except ValueError as error:
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
