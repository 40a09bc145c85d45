"""Whether a worker makes progress, and whether it lives: looked at from outside, now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.execution.ending import Cause, Ending

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WATCH_EVERY", "Timed", "Vigil"]

WATCH_EVERY: Final = 0.25
"""Seconds between two looks."""
LATE: Final = 1.0
"""Seconds between two looks after which it was this process, or the machine, that stood still."""
SUSPICIOUS: Final = 1.5
"""Seconds of silence, three signs of life, after which the process itself is looked at."""
LONGEST_SILENCE: Final = 10.0
"""Seconds without a sign after which a worker with nothing to do is ended. Long, because a machine
that is short of cores or memory may keep a process waiting; and needless where a batch waits, as
that has a limit of its own."""


class Timed(NamedTuple):
    """A batch that a worker is at: since when it could be, and how many seconds it may take."""

    sent_at: float
    limit: float


class Vigil:
    """Judges one worker by what can be seen of it.

    1. A batch beyond its limit: the worker hangs.
    2. Silence, and the kernel says that somebody has stopped the process: as good as hung, whatever
       it was at, and nobody's fault. Seen twice, as a debugger may stop it for a moment.
    3. A long silence of a worker that has nothing to do: its loop is stuck.

    Who was stopped himself judges nobody: after a pause of this process (a laptop that slept, a
    virtual machine that was moved) all times begin anew.
    """

    __slots__ = ("_looked_at", "_resumed_at", "_stopped")

    def __init__(self) -> None:
        self._looked_at = 0.0
        self._resumed_at = 0.0
        self._stopped = False

    def look(
        self,
        now: float,
        heard: float,
        first: Timed | None,
        is_stopped: Callable[[], bool],
        *,
        busy: bool,
    ) -> Ending | None:
        """Return with which words and cause to end the worker, None to let it be.

        :param heard: when there was the last sign of it.
        :param first: the batch that it is at; None for none, and for one behind a load.
        :param is_stopped: whether the kernel holds the process stopped; only asked when needed.
        :param busy: whether it is at something that has a limit of its own, and keeps it silent.
        """
        if self._looked_at and now - self._looked_at > LATE:
            self._resumed_at = now
        self._looked_at = now
        if first is not None and now - max(first.sent_at, self._resumed_at) > first.limit:
            return Ending(f"a batch took longer than {first.limit:.3g} s", Cause.HUNG)
        silence = now - max(heard, self._resumed_at)
        was_stopped, self._stopped = self._stopped, silence > SUSPICIOUS and is_stopped()
        if was_stopped and self._stopped:
            return Ending("somebody stopped its process", Cause.OUTSIDE)
        if not busy and silence > LONGEST_SILENCE:
            return Ending(f"it gave no sign of life for {LONGEST_SILENCE:g} s", Cause.OUTSIDE)
        return None
