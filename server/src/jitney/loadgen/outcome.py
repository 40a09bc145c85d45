"""What a run of load comes to: counts and percentiles, of all calls or of some."""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jitney.loadgen.connection import LOST, RESET_BY_SERVER
from jitney.loadgen.proof import TARGET, passes

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from jitney.loadgen.seen import Array, Seen

__all__ = ["LAG_SHARE", "LATE_BY", "Outcome", "end_name", "percentile"]

LATE_BY: Final = 0.02
"""Seconds past its deadline at which any answer to a call, an error too, is called dishonest."""
LAG_SHARE: Final = 0.02
"""Of the SLO: a run whose send lag has a higher p99 tells about the generator."""
# fmt: off
STATUS_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)
# fmt: on
NAMES: Final = dict(enumerate(STATUS_NAMES)) | {RESET_BY_SERVER: "RESET", LOST: "LOST"}
"""Of gRPC's status codes and the connection's; without grpc, which a generator does not load."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The calls of a run that count; ``seconds`` is how long they were being sent.

    A call is in time when it was answered OK at most ``slo`` seconds after the moment at which it
    was to be sent: latency counts from the schedule, so a generator that lags makes it longer.
    """

    seen: Seen
    slo: float
    chosen: Array
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
    def latencies(self) -> Array:
        """Seconds from schedule to answer, of those answered OK."""
        ok = self.chosen & (self.seen.code == 0)
        latencies: Array = self.seen.ended[ok] - self.seen.at[ok]
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

    @property
    def proven(self) -> bool:
        """Whether the run proves that 99 % of all calls at this load are in time."""
        return self.valid and self.share >= TARGET and passes(self.hits, self.count - self.hits)

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
            end_name(code, self.seen.reasons[reason]): n
            for (code, reason), n in counts.most_common()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        latencies = self.latencies
        marks = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99_9": 99.9, "max": 100}
        return {
            "sent": self.count,
            "seconds": round(self.seconds, 3),
            "slo_ms": round(1e3 * self.slo, 3) if math.isfinite(self.slo) else 0,
            "in_slo": self.hits,
            "share": round(self.share, 5),
            "rate": round(self.rate, 2),
            **{f"{k}_ms": round(1e3 * percentile(latencies, q), 3) for k, q in marks.items()},
            "send_lag_p99_ms": round(1e3 * self.lag, 3),
            "valid": self.valid,
            "wrong": self.seen.wrong,
            "ends": self.ends(),
        }


def end_name(code: int, reason: str) -> str:
    """Return what a call's end is called: ``OK``, or a code and the server's word for it."""
    return " ".join(filter(None, (NAMES.get(code, str(code)), reason)))


def percentile(values: Array, percent: float) -> float:
    """Return a percentile, 0 of nothing."""
    return float(np.percentile(values, percent)) if len(values) else 0.0
