"""Rates: so many a second, and a burst of them at once."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

__all__ = ["Bucket", "Offenders"]

MOST_ADDRESSES: Final = 4096
"""Addresses that are remembered; of more, the one that was quiet for longest is forgotten."""


class Bucket:
    """A token bucket: ``rate`` a second on average, ``burst`` of them at once after a pause.

    - At any time at most ``burst + rate * t`` were taken in the last ``t`` seconds.
    - What is refused costs nothing: who asks too often still gets ``rate``.

    :param rate: infinite for no limit.
    """

    __slots__ = ("_left", "_seen", "burst", "rate")

    def __init__(self, rate: float = math.inf, burst: float = math.inf) -> None:
        self.rate = rate
        self.burst = burst
        self._left = burst
        self._seen = -math.inf

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Bucket {self._left:g} of {self.burst:g}, {self.rate:g} a second>"

    def take(self, now: float) -> float:
        """Take one; return 0, or in how many seconds there is one again.

        :param now: monotonic seconds.
        """
        left = self._left
        if self._seen > -math.inf:
            left = min(self.burst, left + (now - self._seen) * self.rate)
        self._seen = now
        if left < 1:
            self._left = left
            return (1 - left) / self.rate
        self._left = left - 1
        return 0.0


class Offenders:
    """Who is refused again and again, by address: a bucket for each, of a bounded number."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Offenders {len(self._buckets)} addresses>"

    def refused(self, address: str, now: float) -> float:
        """Note a refusal; return 0, or for how many seconds the address is over its rate."""
        bucket = self._buckets.get(address)
        if bucket is None:
            if len(self._buckets) >= MOST_ADDRESSES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[address] = Bucket(self._rate, self._burst)
        self._buckets.move_to_end(address)
        return bucket.take(now)
