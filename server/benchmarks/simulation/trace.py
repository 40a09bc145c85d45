"""The trace that the simulations replay, unless told otherwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jitney.loadgen.trace import HEADER

if TYPE_CHECKING:
    from random import Random

__all__ = ["sample"]


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
