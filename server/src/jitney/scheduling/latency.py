"""How long a batch will take: learnt from the warm-up sweep, and from every batch after it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from jitney.latency_profile import LatencyProfile
from jitney.scheduling.drift import Drift
from jitney.scheduling.isotonic import isotonic
from jitney.scheduling.latency_statistics import LatencyStatistics
from jitney.scheduling.latency_table import densest_of, plans_of, row_seconds_of
from jitney.scheduling.line import Line
from jitney.scheduling.margin import Margin

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Drift", "LatencyModel", "LatencyStatistics"]

STEP: Final = 0.1
"""Share of an error by which a trusted table follows a batch."""
SPREAD_STEP: Final = 0.05
SIGMA: Final = 1.25
"""Standard deviation over mean absolute deviation, of a normal distribution."""
CLIP: Final = 0.5
"""An error beyond counts as this: one batch that met a stall must not decide the next ones."""
LEAST_SPREAD: Final = 0.01
GUESSED_SPREAD: Final = 0.1
"""What is assumed of a shape that was not measured."""
TRIALS: Final = 8
"""Batches after which a guess is trusted like a measurement."""
WILD: Final = 1000.0
"""A single batch is never taken for proof of a larger error than this factor."""
LEAST_GAP: Final = 1.25
"""Ratio of two sizes of a table that is made from batches: it bounds how many there are."""
GUESSED_OFFSET: Final = 0.5
"""The part of the first batch of unknown cost that is taken for independent of its rows."""
DOUBT_SECONDS: Final = 5.0
DOUBTFUL: Final = 0.1
"""Part of a figure that must be more than was measured for it to be doubted."""
LEAST_SECONDS: Final = 1e-9
MOST_WEIGHT: Final = 50.0
"""So many batches are as good as any more, when two sizes contradict each other."""


class LatencyModel:
    """Seconds by rows, for one model version, device and shape key.

    A table over the sizes of the sweep. ``planned`` is what a schedule should count with: the mean
    and ``z`` spreads. Where the profile is ``padded`` it is a step function over the sizes;
    otherwise it is linear between them. Beyond the last size, and only there, the slope of a fitted
    line continues it; below the first one, its value stands.

    - ``mean`` and ``planned`` never decrease with the rows, and ``planned`` is at least ``mean``;
    - ``planned(rows_within(s)) <= s``, and one row more (or the next size) does not fit;
    - one batch, however odd, moves a trusted plan by some twelve per cent at most;
    - reading takes O(log sizes), about a microsecond; ``observe`` O(sizes).

    A table that was measured is trusted: it follows a batch by a tenth of the error. One that was
    taken over from another shape (``prior``), or does not exist (``unknown``), follows its first
    batches outright, and downward faster than upward: the first runs of a shape are often slow, and
    a plan that is far too long keeps itself true, because everything is refused as hopeless and
    nothing is run that could correct it. For the same reason there is ``doubt``.
    """

    def __init__(
        self,
        profile: LatencyProfile,
        max_rows: int,
        drift: Drift | None = None,
        *,
        z: float = 2.0,
        least_spread: float = LEAST_SPREAD,
        measured_at: float | None = None,
    ) -> None:
        """Trust a measured profile.

        :param max_rows: the most rows that ``rows_within`` returns.
        :param drift: of the device.
        :param measured_at: what the drift was when the profile was measured, as it is in its
            seconds already; None for what it is now.
        :param z: what to begin with; ``outcome`` corrects it.
        :param least_spread: relative; 0 for a simulation whose seconds are known exactly.
        """
        self.max_rows = max_rows
        self.pads = profile.padded
        self.drift = drift or Drift()
        self._margin = Margin(z)
        self._least_spread = least_spread
        self._sizes = list(profile.sizes)
        g = self.drift.g if measured_at is None else measured_at
        self._base = isotonic([s / g for s in profile.seconds], [1.0] * len(self._sizes))
        """Seconds without the drift."""
        self._spread = [max(least_spread, spread) for spread in profile.spread]
        self._measured = list(zip(profile.seconds, self._spread, strict=False))
        self._seen = [0.0] * len(self._sizes)
        self._scaled = TRIALS
        self._grows = False
        self._guessed = False
        self._line = Line(zip(self._sizes, self._base, strict=True))
        # What is read, with drift and margin in it; 0 is never a drift.
        self._made_for = 0.0
        self._mean: list[float] = []
        self._plan: list[float] = []
        self._row_seconds = 0.0
        self._densest = max_rows

    @classmethod
    def prior(
        cls,
        profile: LatencyProfile,
        max_rows: int,
        drift: Drift | None = None,
        *,
        z: float = 2.0,
        least_spread: float = LEAST_SPREAD,
        measured_at: float | None = None,
    ) -> LatencyModel:
        """Return a model of a shape that was not measured, of a version that was.

        The first batch scales the whole table, the next ones ever less.
        """
        model = cls(
            profile, max_rows, drift, z=z, least_spread=least_spread, measured_at=measured_at
        )
        if least_spread:
            model._spread = [max(GUESSED_SPREAD, spread) for spread in model._spread]
        model._measured = [(0.0, spread) for spread in model._spread]
        model._guessed = True
        model._scaled = 0
        return model

    @classmethod
    def unknown(cls, max_rows: int, drift: Drift | None = None, *, z: float = 2.0) -> LatencyModel:
        """Return a model of which nothing is known; it plans with 0 until the first batch.

        The table is made from the batches' own sizes.
        """
        model = cls(LatencyProfile((), (), ()), max_rows, drift, z=z)
        model._grows = model._guessed = True
        return model

    def __repr__(self) -> str:
        """Return the smallest and the largest size with their plans."""
        ends = [f"{n}: {self.planned(n) * 1e3:.3g} ms" for n in (*self._sizes[:1], self.max_rows)]
        return f"<LatencyModel {', '.join(ends)}, z {self.z:.2f}, g {self.drift.g:.3f}>"

    # -- reading --------------------------------------------------------------------------------

    @property
    def z(self) -> float:
        """How many spreads a plan adds to the mean."""
        return self._margin.z

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the table, ascending; where it pads, the buckets."""
        return tuple(self._sizes)

    @property
    def alpha(self) -> float:
        """Seconds per row, of the line."""
        return self._line.alpha * self.drift.g

    @property
    def beta(self) -> float:
        """Seconds per batch, of the line."""
        return self._line.beta * self.drift.g

    @property
    def row_seconds(self) -> float:
        """Seconds per row at the size with the best throughput: a row cannot cost less."""
        if self.drift.g != self._made_for:
            self._make()
        return self._row_seconds

    @property
    def densest(self) -> int:
        """How many rows to have in a batch when nobody is in a hurry and there are enough.

        Mostly ``max_rows``. Where larger batches cost more per row than smaller ones (they leave
        the caches, say), the largest size that has all but a twentieth of the best throughput.
        """
        if self.drift.g != self._made_for:
            self._make()
        return self._densest

    def mean(self, rows: int) -> float:
        """Return the seconds that a batch of ``rows`` takes on average."""
        if self.drift.g != self._made_for:
            self._make()
        return self._read(self._mean, rows, 0.0)

    def planned(self, rows: int) -> float:
        """Return the seconds to count with for a batch of ``rows``; 0 while nothing is known."""
        # The same as `_read`, without the cost of the call: this is the hot path.
        if self.drift.g != self._made_for:
            self._make()
        sizes, plan = self._sizes, self._plan
        high = bisect_left(sizes, rows)
        if high == len(sizes):
            return self._read(plan, rows, self.z)
        if self.pads or not high:
            return plan[high]
        size = sizes[high]
        if size == rows:
            return plan[high]
        low = high - 1
        start, before = plan[low], sizes[low]
        return start + (rows - before) * ((plan[high] - start) / (size - before))

    def padded(self, rows: int) -> int:
        """Return how many rows the device computes for a batch of ``rows``."""
        if not self.pads:
            return rows
        at = bisect_left(self._sizes, rows)
        return self._sizes[at] if at < len(self._sizes) else rows

    def rows_within(self, seconds: float) -> int:
        """Return the most rows that are planned to take at most ``seconds``; 0 for none.

        At most ``max_rows``; where it pads, a size of the table unless ``max_rows`` is smaller.
        """
        if self.drift.g != self._made_for:
            self._make()
        sizes, plan, most = self._sizes, self._plan, self.max_rows
        high = bisect_right(plan, seconds)
        if high == len(plan):
            last = sizes[-1] if sizes else 0
            if last >= most:
                return most
            # By bisection: the slope beyond is learnt, and may be 0.
            return last + bisect_right(range(last + 1, most + 1), seconds, key=self.planned)
        if not high:
            return 0
        low = high - 1
        rows, next_size = sizes[low], sizes[high]
        if not self.pads and rows + 1 < next_size:
            start = plan[low]
            step = (plan[high] - start) / (next_size - rows)
            further = min(int((seconds - start) / step), next_size - rows - 1)
            # Rounding may be off by one: what `planned` says decides.
            while further + 1 < next_size - rows and start + (further + 1) * step <= seconds:
                further += 1
            while further and start + further * step > seconds:
                further -= 1
            rows += further
        return min(rows, most)

    @property
    def batches(self) -> int:
        """How many batches were learnt from."""
        return round(sum(self._seen))

    def statistics(self) -> LatencyStatistics:
        """Return what was learnt so far, on any thread."""
        # So nothing is made or kept here, and a size that is being added may lack its figures.
        g, z = self.drift.g, self._margin.z
        means, spread = tuple(seconds * g for seconds in self._base), tuple(self._spread)
        return LatencyStatistics(
            sizes=tuple(self._sizes),
            seconds=means,
            planned=tuple(plans_of(means, spread, z)),
            spread=spread,
            observations=tuple(self._seen),
            padded=self.pads,
            alpha=self.alpha,
            beta=self.beta,
            row_seconds=row_seconds_of(means, self._sizes),
            z=z,
            g=g,
        )

    # -- learning -------------------------------------------------------------------------------

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a batch: its device seconds, from copy-in to copy-out, queueing excluded.

        What cannot be a duration (0, negative, not finite) is ignored.
        """
        if not (0.0 < seconds < math.inf and rows > 0):
            return
        drift = self.drift
        if self._grows and self._insert(rows, seconds / drift.g):
            return
        self._line.observe(self.padded(rows), seconds / drift.g)
        ratio = min(WILD, max(1.0 / WILD, seconds / self.mean(rows)))
        if self._scaled < TRIALS:
            ratio = self._scale(ratio)
        elif not self._grows:
            drift.observe(_clip(ratio - 1.0))
        low, high, share = self._between(rows)
        if share >= 1.0:
            self._learn(high, ratio, 1.0, 1.0)
        else:
            # Normalised, so that the table follows a batch equally fast wherever its size lies.
            rest = 1.0 - share
            norm = rest * rest + share * share
            self._learn(low, ratio, rest, rest / norm)
            self._learn(high, ratio, share, share / norm)
        if self._base != sorted(self._base):
            self._base = isotonic(self._base, [1.0 + min(n, MOST_WEIGHT) for n in self._seen])
        self._made_for = 0.0

    def outcome(self, on_time: int, late: int) -> None:
        """Count entries that were promised to be in time: how many were, and how many were not."""
        before = self._margin.z
        self._margin.outcome(on_time, late)
        if self._margin.z != before:
            self._made_for = 0.0

    def doubt(self, seconds: float) -> None:
        """Trust less what was learnt: for ``seconds`` nothing could be observed.

        To be called when a request is refused because no idle device would do it in time, with the
        time since the last batch or the last doubt. The table then returns towards what was
        measured at load (towards 0 where nothing was), until a request is accepted and its batch
        shows, which then counts like the first one of a guessed table. Without this, a table that
        some passing trouble has raised would refuse for ever.
        """
        kept = math.exp(-max(0.0, seconds) / DOUBT_SECONDS)
        moved = False
        for at, (measured, spread) in enumerate(self._measured):
            excess = self._base[at] - max(LEAST_SECONDS, measured / self.drift.g)
            moved |= excess > DOUBTFUL * self._base[at]
            self._base[at] -= max(0.0, excess) * (1.0 - kept)
            self._spread[at] = max(spread, self._spread[at] * kept)
        if moved:  # a table that is as it was measured is to be trusted as before
            self._scaled = 0
        self._made_for = 0.0

    def _learn(self, at: int, ratio: float, share: float, strength: float) -> None:
        error = _clip(ratio - 1.0)
        seen = self._seen[at]
        if self._guessed and seen < TRIALS:
            step = 1.0 / (1.0 + seen) if ratio > 1.0 else max(0.5, 1.0 / (1.0 + seen))
            self._base[at] *= math.pow(ratio, min(1.0, step * strength))
        else:
            self._base[at] *= 1.0 + STEP * strength * error
        spread = self._spread[at]
        spread += SPREAD_STEP * share * (SIGMA * abs(error) - spread)
        self._spread[at] = max(self._least_spread, spread)
        self._seen[at] = seen + share

    def _scale(self, ratio: float) -> float:
        """Let one of the first batches move a guessed table; return what is left of its error."""
        count = self._scaled + 1
        self._scaled = count
        # By factors, so that one slow first run is forgotten after two or three others.
        factor = math.pow(ratio, 1.0 / count if ratio > 1.0 else max(0.5, 1.0 / count))
        self._base = [seconds * factor for seconds in self._base]
        self._line.scale(factor)
        self._made_for = 0.0
        return ratio / factor

    def _insert(self, rows: int, seconds: float) -> bool:
        """Add a size to a table that is made from batches; return False where one is near."""
        sizes = self._sizes
        at = bisect_left(sizes, rows)
        if not sizes:
            guessed = seconds * (2.0 - GUESSED_OFFSET)
            self._line = Line([(rows, seconds), (2 * rows, guessed)])
        elif any(max(rows, n) < LEAST_GAP * min(rows, n) for n in sizes[max(0, at - 1) : at + 1]):
            return False
        else:
            self._line.observe(rows, seconds)
        sizes.insert(at, rows)
        self._base.insert(at, seconds)
        self._measured.insert(at, (0.0, self._least_spread))
        self._spread.insert(at, GUESSED_SPREAD)
        self._seen.insert(at, 1.0)
        self._base = isotonic(self._base, [min(n, MOST_WEIGHT) for n in self._seen])
        self._made_for = 0.0
        return True

    # -- the table ------------------------------------------------------------------------------

    def _make(self) -> None:
        """Make anew what is read."""
        g, z = self.drift.g, self._margin.z
        self._made_for = g
        self._mean = [seconds * g for seconds in self._base]
        self._plan = plans_of(self._mean, self._spread, z)
        self._row_seconds = row_seconds_of(self._mean, self._sizes)
        self._densest = densest_of(self._mean, self._sizes, self.max_rows)

    def _read(self, table: Sequence[float], rows: int, z: float) -> float:
        if not table:
            return 0.0
        low, high, share = self._between(rows)
        if rows > self._sizes[-1]:
            slope = self._line.alpha * self.drift.g * (1.0 + z * self._spread[-1])
            return table[-1] + (rows - self._sizes[-1]) * slope
        return table[high] if share >= 1.0 else table[low] + share * (table[high] - table[low])

    def _between(self, rows: int) -> tuple[int, int, float]:
        """Return the neighbours of ``rows`` in the table, and how far on the way it is."""
        sizes = self._sizes
        high = min(bisect_left(sizes, rows), len(sizes) - 1)
        low = max(0, high - 1)
        if self.pads or low == high or rows >= sizes[high] or rows < sizes[0]:
            return high, high, 1.0
        return low, high, (rows - sizes[low]) / (sizes[high] - sizes[low])


def _clip(error: float) -> float:
    return min(CLIP, max(-CLIP, error))
