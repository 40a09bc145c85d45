"""A worker process that is up and has nothing to do, until another one ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from jitney.execution.backoff import Backoff
from jitney.execution.ending import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.clock import Clock, Timer
    from jitney.execution.worker_life import WorkerLife

__all__ = ["Spare"]

log = logging.getLogger(__name__)

FRESH: Final = 1.5
"""Seconds; a spare that was silent for longer may be stuck, and is not waited for."""


class Spare:
    """At most one process, started in advance.

    It has imported what it needs and opened its device, but holds no model: a second copy of all
    models would cost as much as a second device. What it saves is the start of a process, mostly
    seconds of importing torch.
    """

    def __init__(self, start: Callable[[], WorkerLife], clock: Clock, *, wanted: bool) -> None:
        """Start nothing yet.

        :param start: starts a process; may raise OSError.
        """
        self._start = start
        self._clock = clock
        self._wanted = wanted
        self._backoff = Backoff()
        self._timer: Timer | None = None
        self.life: WorkerLife | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Spare {self.life!r}>" if self._wanted else "<Spare, not wanted>"

    def ensure(self) -> None:
        """Start one if there should be one and is not."""
        if not self._wanted or self.life is not None or self._timer is not None:
            return
        try:
            self.life = self._start()
        except OSError as error:
            log.warning("a spare worker could not be started: %s", error.strerror)
            self._again_later()

    def ended(self, life: WorkerLife) -> bool:
        """Take note of the end of a process; return whether it was the spare."""
        if life is not self.life:
            return False
        self.life = None
        self._again_later()
        return True

    def take(self) -> WorkerLife | None:
        """Return the spare, which then is none any more, if there is one that can be used.

        It may still be starting: another one would not be up sooner.
        """
        life, self.life = self.life, None
        if life is None:
            return None
        if life.is_up and self._clock.now() - life.last_sign() > FRESH:
            life.link.kill("it waited as a spare, and gave no sign of life", Cause.OUTSIDE)
            return None
        self._backoff = Backoff()
        return life

    def stop(self) -> None:
        """Start no other one."""
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()

    def _again_later(self) -> None:
        delay = self._backoff.after(worked=False)
        self._timer = self._clock.call_at(self._clock.now() + delay, self._again)

    def _again(self) -> None:
        self._timer = None
        self.ensure()
