"""How a worker process ended, and who may be to blame for it."""

from __future__ import annotations

import enum
import signal
from typing import Final, NamedTuple

__all__ = ["Cause", "Ending", "of_exit"]

FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
"""Signals that no fault of a program raises, but for memory that runs out."""


class Cause(enum.Enum):
    """Why a process ended, as far as its batches are concerned."""

    OUTSIDE = "outside"
    """Somebody ended or stopped it, or we did for another reason than what it was running."""
    CRASH = "crash"
    """It ended by itself, broke the protocol or lost its device: what it ran may be to blame."""
    HUNG = "hung"
    """It was ended because what it ran took too long."""


class Ending(NamedTuple):
    """The end of a process: why, for the operator, the cause, and whether nobody here did it.

    One that was ended here was ended for the first of its batches: for what it answered to that, or
    because it did not.
    """

    why: str
    cause: Cause
    by_itself: bool = False


def of_exit(code: int | None, *, out_of_memory: bool = False) -> tuple[str, Cause]:
    """Return what an exit code says; None stands for a process that has not ended yet.

    :param out_of_memory: whether the kernel ended processes meanwhile because memory ran out.
    """
    if code is None or code == 0:
        return "", Cause.CRASH
    if code > 0:
        return f"exit code {code}", Cause.CRASH
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"killed by signal {-code}", Cause.CRASH
    if number is signal.SIGKILL and out_of_memory:
        return "killed by SIGKILL, as memory ran out", Cause.CRASH
    cause = Cause.OUTSIDE if number in FROM_OUTSIDE else Cause.CRASH
    return f"killed by {number.name}", cause
