"""No reply is wrong, none is lost, and the server counts what its callers count."""

from __future__ import annotations

import asyncio
import collections
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.workload import INFER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.traffic import Planned, Traffic

__all__ = ["Counts", "Outcome", "run"]

OK: Final = grpc.StatusCode.OK.name
CANCELLED: Final = grpc.StatusCode.CANCELLED.name
CONNECTIONS: Final = 4
LOST_AFTER: Final = 60.0
"""Seconds after which a call that has not ended is lost."""
SETTLE_TIMEOUT: Final = 15.0
SETTLE_EVERY: Final = 0.1
PROBLEMS_KEPT: Final = 20


class Counts(NamedTuple):
    """What the server's metrics say.

    ``codes`` are calls of ModelInfer by status; ``answered``, ``rejected`` and ``cancelled`` are
    requests by what became of them; ``in_flight`` are requests not yet ended.
    """

    codes: dict[str, int]
    answered: int
    rejected: int
    cancelled: int
    in_flight: int

    @property
    def calls(self) -> int:
        """Calls of ModelInfer that ended."""
        return sum(self.codes.values())

    def since(self, before: Counts) -> Counts:
        """Return what was added; ``in_flight`` is not a count and stays."""
        codes = {code: n - before.codes.get(code, 0) for code, n in self.codes.items()}
        return Counts(
            codes,
            self.answered - before.answered,
            self.rejected - before.rejected,
            self.cancelled - before.cancelled,
            self.in_flight,
        )


@dataclass(slots=True)
class Outcome:
    """What callers saw, and what the server counted.

    ``codes`` are calls by how they ended for the caller; ``wrong`` and ``lost`` are among them.
    ``problems`` are in words, the first few of each kind; none is a pass.
    """

    traffic: Traffic
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: int = 0
    lost: int = 0
    seconds: float = 0.0
    server: Counts | None = None
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        """Keep a problem, unless there are many already."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(problem)

    def to_json(self) -> dict[str, Any]:
        """Return everything, for the file of results."""
        return {
            "benchmark": "correctness",
            "title": "random requests through models that return what they are given",
            "arrivals": "closed loop",
            **asdict(self.traffic),
            "requests_per_second": self.traffic.count / self.seconds,
            "callers": {"codes": dict(self.codes), "wrong": self.wrong, "lost": self.lost},
            "server": self.server._asdict() if self.server else None,
            "problems": self.problems,
            "verdict": "miss" if self.problems else "pass",
        }

    def to_text(self) -> str:
        """Return what a person reads."""
        codes = ", ".join(f"{n:,} {code}" for code, n in sorted(self.codes.items()))
        head = (
            f"## correctness: {self.traffic.count:,} random requests, closed loop, "
            f"{self.traffic.concurrency} concurrent"
        )
        verdict = "miss" if self.problems else "pass"
        rate = self.traffic.count / self.seconds
        lines = [
            head,
            "",
            f"{self.wrong} wrong, {self.lost} lost; bar: 0, 0 and equal counts: {verdict}",
            f"callers: {codes}; {rate:,.0f} requests/s",
            f"server:  {self.server}",
            *self.problems,
        ]
        return "\n".join(lines) + "\n"


async def run(address: str, metrics_url: str, traffic: Traffic) -> Outcome:
    """Send the traffic to a server that serves ``models.build_identities`` and nobody else."""
    before = await asyncio.to_thread(read_counts, metrics_url)
    outcome = Outcome(traffic)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CONNECTIONS)]
    requests = traffic.requests()
    began = time.perf_counter()
    try:
        calls = [channel.unary_unary(INFER) for channel in channels]
        await asyncio.gather(
            *(
                _call_on(calls[nth % CONNECTIONS], requests, outcome)
                for nth in range(traffic.concurrency)
            )
        )
        outcome.seconds = time.perf_counter() - began
        outcome.server = (await _settled(metrics_url)).since(before)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    _compare(outcome, outcome.server)
    return outcome


async def _call_on(
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes],
    requests: Iterator[Planned],
    outcome: Outcome,
) -> None:
    """Send one request after the other until there are none; the iterator is shared."""
    for planned in requests:
        try:
            await asyncio.wait_for(_call(call, planned, outcome), LOST_AFTER)
        except TimeoutError:
            outcome.lost += 1
            outcome.note(f"request {planned.number} was not answered in {LOST_AFTER:g} s")


async def _call(
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], planned: Planned, outcome: Outcome
) -> None:
    pending = call(planned.message)
    if planned.cancel_after is not None:
        await asyncio.sleep(planned.cancel_after)
        pending.cancel()  # where it has ended already, nothing happens
    try:
        reply = await pending
    except asyncio.CancelledError:
        # Either we cancelled the call, or the wait for it ran out and cancelled us.
        if not pending.cancelled() or planned.cancel_after is None:
            raise
        outcome.codes[CANCELLED] += 1
        return
    except grpc.aio.AioRpcError as error:
        outcome.codes[error.code().name] += 1
        if error.code() is not planned.code:
            outcome.wrong += 1
            outcome.note(
                f"request {planned.number} ended with {error.code().name}, expected "
                f"{planned.code.name}: {error.details()}"
            )
        return
    outcome.codes[OK] += 1
    if planned.code.name != OK or not planned.is_answered_by(reply):
        outcome.wrong += 1
        outcome.note(f"request {planned.number} for {planned.model} was answered wrongly")


def read_counts(metrics_url: str) -> Counts:
    """Return what the metrics page says now."""
    with urllib.request.urlopen(metrics_url, timeout=LOST_AFTER) as page:  # noqa: S310  # ours
        text = page.read().decode()
    codes: collections.Counter[str] = collections.Counter()
    sums: collections.Counter[str] = collections.Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += int(sample.value)
            if sample.name == "jitney_requests_total" and sample.labels["method"] == "ModelInfer":
                codes[sample.labels["code"]] += int(sample.value)
    return Counts(
        dict(codes),
        sums["jitney_request_duration_seconds_count"],
        sums["jitney_rejected_total"],
        sums["jitney_cancelled_total"],
        sums["jitney_inflight_requests"],
    )


async def _settled(metrics_url: str) -> Counts:
    """Return the counts once they stand still; the server learns of cancelled calls last.

    Nothing tells callers that the server has seen their cancellation, so its page is polled.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT
    last = await asyncio.to_thread(read_counts, metrics_url)
    while True:
        await asyncio.sleep(SETTLE_EVERY)
        counts = await asyncio.to_thread(read_counts, metrics_url)
        if (counts == last and not counts.in_flight) or time.monotonic() > deadline:
            return counts
        last = counts


def _compare(outcome: Outcome, server: Counts) -> None:
    """Note where the server's counts are not the callers'.

    1. Nothing is in flight any more.
    2. Every call that the server counted was answered, rejected or cancelled, exactly one of them.
    3. No caller's end is missing: as many ends as requests.
    4. Errors are equal by status.
    5. A cancelled call may be answered too late to matter (OK at the server), or end before the
       server began with it (counted nowhere); by no more than there were cancelled calls.
    """
    callers, cancelled = outcome.codes, outcome.codes[CANCELLED]
    if server.in_flight:
        outcome.note(f"{server.in_flight} requests are still in flight at the server")
    ends = server.answered + server.rejected + server.cancelled
    if ends != server.calls:
        outcome.note(
            f"the server counts {server.calls} calls but {ends} ends: {server.answered} answered, "
            f"{server.rejected} rejected, {server.cancelled} cancelled"
        )
    if (ended := callers.total() + outcome.lost) != outcome.traffic.count:
        outcome.note(f"callers saw {ended} ends of {outcome.traffic.count} requests")
    for code in {*callers, *server.codes} - {OK, CANCELLED}:
        if callers[code] != server.codes.get(code, 0):
            outcome.note(
                f"{code}: {callers[code]} callers, {server.codes.get(code, 0)} at the server"
            )
    surplus = server.codes.get(OK, 0) - callers[OK]
    unseen = outcome.traffic.count - server.calls
    if surplus < 0 or unseen < 0 or surplus + unseen > cancelled:
        outcome.note(
            f"OK: {callers[OK]} callers, {server.codes.get(OK, 0)} at the server, which counts "
            f"{server.calls} of {outcome.traffic.count} calls; {cancelled} were cancelled"
        )
