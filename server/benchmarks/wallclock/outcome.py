"""What a run of load comes to: counts and percentiles, of all calls or of some."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np

from benchmarks.wallclock.connection import LOST, RESET_BY_SERVER

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from benchmarks.wallclock.order import Seen

__all__ = ["LAG_SHARE", "LATE_BY", "Outcome", "passes"]

LATE_BY: Final = 0.02
"""Seconds past its deadline at which any answer to a call, an error too, is called dishonest."""
LAG_SHARE: Final = 0.02
"""Of the SLO: a run whose send lag has a higher p99 tells about the generator."""
TARGET: Final = 0.99
CONFIDENCE: Final = 0.99
NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode} | {
    RESET_BY_SERVER: "RESET",
    LOST: "LOST",
}


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The calls of a run that count; ``seconds`` is how long they were being sent.

    A call is in time when it was answered OK at most ``slo`` seconds after the moment at which it
    was to be sent: latency counts from the schedule, so a generator that lags makes it longer.
    """

    seen: Seen
    slo: float
    chosen: np.ndarray
    seconds: float

    @classmethod
    def of(
        cls, seen: Seen, slo: float, begin: float, end: float, kinds: AbstractSet[int] = frozenset()
    ) -> Outcome:
        """Choose the calls that were to be sent in ``[begin, end)``, of some kinds or of all."""
        chosen = (seen.at >= begin) & (seen.at < end)
        if kinds:
            chosen &= np.isin(seen.kind, sorted(kinds))
        return cls(seen, slo, chosen, end - begin)

    @property
    def count(self) -> int:
        """Calls sent."""
        return int(self.chosen.sum())

    @property
    def latencies(self) -> np.ndarray:
        """Seconds from schedule to answer, of those answered OK."""
        ok = self.chosen & (self.seen.code == 0)
        latencies: np.ndarray = self.seen.ended[ok] - self.seen.at[ok]
        return latencies

    @property
    def hits(self) -> int:
        """Calls answered in time."""
        return int((self.latencies <= self.slo).sum())

    @property
    def rate(self) -> float:
        """Answers in time per second."""
        return self.hits / self.seconds

    @property
    def share(self) -> float:
        """Of the calls, those answered in time."""
        return self.hits / max(1, self.count)

    @property
    def lag(self) -> float:
        """The p99 of how late calls were sent, in seconds."""
        return percentile(self.seen.sent[self.chosen] - self.seen.at[self.chosen], 99)

    @property
    def valid(self) -> bool:
        """Whether the generator kept up."""
        return self.lag <= LAG_SHARE * self.slo

    def late(self, timeout: float) -> int:
        """Return how many calls, however they ended, ended ``LATE_BY`` past their deadline."""
        ended = self.chosen & (self.seen.code != LOST)
        return int((self.seen.ended[ended] - self.seen.sent[ended] > timeout + LATE_BY).sum())

    def ends(self) -> dict[str, int]:
        """Return how many calls ended how: ``OK``, or a code and the server's reason."""
        counts = collections.Counter(
            zip(
                self.seen.code[self.chosen].tolist(),
                self.seen.reason[self.chosen].tolist(),
                strict=True,
            )
        )
        return {
            " ".join(filter(None, (NAMES.get(code, str(code)), self.seen.reasons[reason]))): n
            for (code, reason), n in counts.most_common()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        latencies = self.latencies
        return {
            "sent": self.count,
            "seconds": round(self.seconds, 3),
            "in_slo": self.hits,
            "share": round(self.share, 5),
            "rate": round(self.rate, 2),
            "p50_ms": round(1e3 * percentile(latencies, 50), 3),
            "p99_ms": round(1e3 * percentile(latencies, 99), 3),
            "max_ms": round(1e3 * percentile(latencies, 100), 3),
            "send_lag_p99_ms": round(1e3 * self.lag, 3),
            "valid": self.valid,
            "wrong": self.seen.wrong,
            "ends": self.ends(),
        }


def percentile(values: np.ndarray, percent: float) -> float:
    """Return a percentile, 0 of nothing."""
    return float(np.percentile(values, percent)) if len(values) else 0.0


def passes(hits: int, misses: int) -> bool:
    """Whether so many hits and misses prove 99 % at a confidence of 99 % (MLPerf's early stopping).

    Source: MLPerf Inference rules, early stopping: I_p(h, t + 1) <= 1 - c.
    """
    from scipy.special import betainc  # noqa: PLC0415  # heavy, and only the judge needs it

    return hits > 0 and bool(betainc(hits, misses + 1, TARGET) <= 1 - CONFIDENCE)
