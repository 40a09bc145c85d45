"""What ``jitney bench`` shows while it measures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from jitney.loadgen.bench import Bench
    from jitney.loadgen.point import Point

__all__ = ["Progress", "ToldBench"]

CLEAR = "\r\x1b[K"


class Progress:
    """One line that changes, on a terminal; elsewhere only what is over, line by line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._title = "asking for the answers"
        self._began = time.monotonic()

    def begin(self, title: str) -> None:
        """Name what is measured from now on."""
        self._title, self._began = title, time.monotonic()
        self.counts({"sent": 0, "ended": 0, "ok": 0, "in_time": 0})

    def counts(self, counts: dict[str, int]) -> None:
        """Show how far a run is."""
        if not self._live:
            return
        seconds = time.monotonic() - self._began
        sent, ended = counts["sent"], counts["ended"]
        share = f", in time {counts['in_time'] / ended:.2%}" if ended else ""
        text = f"{self._title}: {seconds:.0f} s, sent {sent:,}, open {sent - ended:,}{share}"
        self._stream.write(CLEAR + text)
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the changing line away."""
        if self._live:
            self._stream.write(CLEAR)
            self._stream.flush()


class ToldBench:
    """A bench whose runs are told about."""

    def __init__(self, bench: Bench, progress: Progress) -> None:
        self._bench = bench
        self._progress = progress

    def at_rate(self, rate: float, seed: int, seconds: float = 0.0) -> Point:
        """Do a run of an open loop."""
        self._progress.begin(f"{rate:,.1f}/s")
        return self._told(self._bench.at_rate(rate, seed, seconds), f"{rate:,.1f}/s")

    def at_concurrency(self, concurrency: int) -> Point:
        """Do a run of a closed loop."""
        self._progress.begin(f"{concurrency} at once")
        return self._told(self._bench.at_concurrency(concurrency), f"{concurrency} at once")

    def _told(self, point: Point, title: str) -> Point:
        calls = point.calls
        text = f"in time {calls['share']:.2%}" if calls["slo_ms"] else f"{calls['rate']:,.1f}/s"
        proof = ", proven" if point.proven else ""
        fault = f"; {point.fault}" if point.fault else ""
        p99 = calls["p99_ms"]
        self._progress.say(f"  {title}: {text}{proof}, p99 {p99:,.2f} ms{fault}")
        return point
