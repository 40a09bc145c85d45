"""How long a batch may take before its worker is taken for hung."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jitney.scheduling.batch import Batch, BatchKey
    from jitney.types import ModelRef

__all__ = ["BatchLimits"]

LEAST: Final = 2.0
"""Seconds that every batch has: a machine that swaps, or a clock that was lowered, is no hang."""
ROOM: Final = 10.0
"""How many times longer than the longest that ended well a batch may take."""
REMEMBERED: Final = 4096
"""Keys; they come from the shapes of requests, so they are bounded."""


class BatchLimits:
    """Seconds for each batch, from what it is planned to take.

    ``factor`` times the plan, at least ``LEAST``, at most ``most``. A plan is a mean and a margin,
    and nothing keeps the values of one request from taking far longer than those before it; so the
    factor is large, and what has once ended well moves the limit too. ``most`` alone holds where
    there is no plan, where ``factor`` is 0, and for the first batch of a shape in a process, which
    may compile for seconds.
    """

    def __init__(self, most: float, factor: float) -> None:
        """Know no batch yet.

        :param most: seconds.
        :param factor: 0 for no limit but ``most``.
        """
        self._most = most
        self._factor = factor
        self._longest: dict[BatchKey, float] = {}
        self._now: dict[BatchKey, float] = {}
        """The longest of each shape that has ended well: ever, and in this process."""

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<BatchLimits {self._factor:g} x, {LEAST:g} to {self._most:g} s>"

    def of(self, batch: Batch) -> float:
        """Return the seconds that a batch may take."""
        longest = self._now.get(batch.key)
        if longest is None or not self._factor or not batch.planned:
            return self._most
        return min(self._most, max(LEAST, self._factor * batch.planned, ROOM * longest))

    def ran(self, batch: Batch, seconds: float) -> None:
        """Note how long a batch took that ended well."""
        key = batch.key
        longest = self._now.get(key)
        if longest is None:
            if len(self._now) >= REMEMBERED:
                self._now.clear()
            self._now[key] = max(seconds, self._longest.get(key, 0.0))
        elif seconds > longest:
            self._now[key] = seconds

    def restart(self) -> None:
        """Note that another process runs them from now on."""
        if len(self._longest) + len(self._now) > REMEMBERED:
            self._longest.clear()
        self._longest |= self._now
        self._now.clear()

    def forget(self, model: ModelRef) -> None:
        """Let go of a model that was unloaded."""
        for known in (self._longest, self._now):
            for key in [key for key in known if key.model == model]:
                del known[key]
