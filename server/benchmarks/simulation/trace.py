"""Trace files: CSV of arrival seconds, and optionally the model and the rows of each call."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

__all__ = ["Call", "read", "sample"]

HEADER: Final = ("seconds", "model", "rows")


class Call(NamedTuple):
    """``gap`` seconds after the call before it; ``model`` and ``rows`` as the file says."""

    gap: float
    model: str
    rows: int


def read(file: Path) -> list[Call]:
    """Return the calls of a trace: a header ``seconds[,model[,rows]]``, then a line for each.

    :raises ValueError: naming the line, when it is no trace or does not ascend.
    """
    calls: list[Call] = []
    before: float | None = None
    with file.open(newline="") as lines:
        reader = csv.reader(lines)
        header = tuple(next(reader, ()))
        if not header or header != HEADER[: len(header)]:
            msg = f"{file.name}: the first line must be {','.join(HEADER)}, or its beginning"
            raise ValueError(msg)
        for line in reader:
            try:
                seconds = float(line[0])
                rows = int(line[2]) if len(header) > 2 else 1
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


def sample(random: Random, count: int) -> str:
    """Return the text of a trace that looks like a shared service's.

    Three models: one that is called all the time, one in bursts of callers that all want
    something at once, and one whose few calls have many rows. The rate swells and ebbs.
    """
    lines, now = [",".join(HEADER)], 0.0
    while len(lines) <= count:
        swell = 1 + 0.6 * math.sin(2 * math.pi * now / 10)
        now += random.expovariate(100 * swell)
        kind = random.random()
        if kind < 0.85:
            lines.append(f"{now:.4f},steady,1")
        elif kind < 0.88:
            for _ in range(min(random.randint(3, 12), count + 1 - len(lines))):
                lines.append(f"{now:.4f},bursty,1")
                now += random.expovariate(2000)
        else:
            lines.append(f"{now:.4f},large,{random.randint(2, 6)}")
    return "\n".join(lines) + "\n"
