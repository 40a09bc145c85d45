"""Looking again and again, in the poll mode."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jitney.clock import Clock, Timer

__all__ = ["Poller"]

log = logging.getLogger(__name__)


class Poller:
    """Calls ``poll`` every ``seconds``, counted from its last end: two never overlap."""

    def __init__(self, clock: Clock, poll: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do nothing yet."""
        self._clock = clock
        self._poll = poll
        self._seconds = seconds
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = "polling" if self._task is not None else "waiting" if self._timer else "stopped"
        return f"<Poller every {self._seconds:g} s, {state}>"

    def start(self) -> None:
        """Begin; the first look is ``seconds`` from now."""
        self._timer = self._clock.call_at(self._clock.now() + self._seconds, self._begin)

    async def stop(self) -> None:
        """End, in the middle of a look if need be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._poll()
        except Exception:
            # One look that fails must not be the last one.
            log.exception("a look failed: %r", self._poll)
        self._task = None
        self.start()
