"""What a batch costs beside the device's time: messages, wake-ups, and the replies."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["HostCost"]

STEP: Final = 0.125
"""How far one batch moves the usual value; also TCP's choice for round trips, for its reasons."""
FIRST_BATCH: Final = 0.002
FIRST_REPLY: Final = 0.0005
DOUBT_SECONDS: Final = 1.0
MOST: Final = 0.2


class HostCost:
    """Smoothed seconds per batch and per reply, so that deadlines leave room for them.

    One late wake-up must not stop everything: a single value counts for at most four times what
    was usual, and the very first for a few milliseconds. And what trouble has raised must not stay
    because it has everything refused: then it is doubted.

    ``reply`` is by all replies and not by batches, or the small ones would decide.
    """

    __slots__ = ("_counts", "_replies", "_seen_at", "batch", "deviation", "longest", "reply")

    def __init__(self) -> None:
        self.batch = 0.0
        self.deviation = 0.0
        self.longest = 0.0
        self.reply = 0.0
        self._replies = 0.0
        self._counts = 0.0
        self._seen_at = 0.0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<HostCost {1e3 * self.batch:.3f} ms a batch, {1e6 * self.reply:.0f} us a reply>"

    def note_batch(self, seconds: float, now: float) -> None:
        """Note the time from the forming of a batch to its end, less the device's."""
        self._seen_at = now
        if not self.batch:
            self.batch = min(seconds, FIRST_BATCH)
            return
        off = min(seconds, max(4 * self.batch, FIRST_BATCH)) - self.batch
        self.batch += STEP * off
        self.deviation += STEP * (abs(off) - self.deviation)

    def note_replies(self, seconds: float, count: int) -> None:
        """Note how long it took until ``count`` replies had left, from the end of their batch."""
        usual = max(self.reply, FIRST_REPLY)
        seconds = min(seconds, 4 * usual * count)
        self.longest = max(seconds, self.longest * (1 - STEP / 4))
        self._replies += STEP * (seconds - self._replies)
        self._counts += STEP * (count - self._counts)
        if self._counts:
            self.reply = self._replies / self._counts

    def doubt(self, now: float) -> None:
        """Trust less what was learnt, if nothing could be observed for some time."""
        kept = math.exp(-max(0.0, now - self._seen_at) / DOUBT_SECONDS)
        self._seen_at = now
        self.batch *= kept
        self.deviation *= kept
        self.longest *= kept
        self._replies *= kept
        if self._counts:
            self.reply = self._replies / self._counts

    def margin(self, replies: int, slack: float) -> float:
        """Return the seconds to allow for a batch with so many replies.

        Never more than what was seen lately, nor than a fifth of ``slack``, the time that requests
        bring: a server that stands still for a moment must not conclude that nothing is possible.
        """
        seconds = self.batch + 2 * self.deviation + min(replies * self.reply, self.longest)
        return min(seconds, MOST * slack)
