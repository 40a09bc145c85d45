"""The event loop's pulse: how late it runs, and how busy the devices were lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.clock import Clock, Timer
    from jitney.telemetry.metrics import Metrics

__all__ = ["Pulse"]

BEAT: Final = 0.1
"""Seconds between two beats; rare enough to cost nothing."""
WINDOW: Final = 10
"""Beats over which the busy ratio is taken."""


class Pulse:
    """Asks the clock to be called every ``BEAT`` seconds and notes by how much it was late.

    Whatever blocks the event loop delays every request at once, and nothing else shows it.

    At the end of every window it calls ``refresh(now)``, for whoever has figures that grow old, and
    at every beat ``beat``, for whoever has something to look after.
    """

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        refresh: Callable[[float], None] | None = None,
        beat: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._refresh = refresh
        self._on_beat = beat
        self._cell = metrics.loop_lag.cell(())
        self._due = 0.0
        self._timer: Timer | None = None
        self._beats = 0
        self._window_from = clock.now()
        self._busy: dict[str, float] = {}
        self._ratios: dict[str, float] = {}

    def start(self) -> None:
        """Begin."""
        self._due = self._clock.now() + BEAT
        self._timer = self._clock.call_at(self._due, self._beat)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def busy_ratio(self, device: str) -> float:
        """Return the share of the last window that a device spent on batches, 0 … 1."""
        return self._ratios.get(device, 0.0)

    def _beat(self) -> None:
        now = self._clock.now()
        self._cell.observe(max(0.0, now - self._due))
        self._beats += 1
        if self._on_beat is not None:
            self._on_beat()
        if self._beats % WINDOW == 0:
            busy = self._metrics.busy_seconds()
            elapsed = max(1e-9, now - self._window_from)
            self._ratios = {
                device: min(1.0, (seconds - self._busy.get(device, 0.0)) / elapsed)
                for device, seconds in busy.items()
            }
            self._busy, self._window_from = busy, now
            if self._refresh is not None:
                self._refresh(now)
        self.start()
