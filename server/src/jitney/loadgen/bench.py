"""A model under load: one run at a time, with every answer checked."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from jitney.loadgen.crew import LoadError
from jitney.loadgen.fairness import fairness
from jitney.loadgen.figures import Figures
from jitney.loadgen.inputs import message
from jitney.loadgen.judge import TOLERANCE, Judge, outputs_of
from jitney.loadgen.order import Order, Request, Tls, write_blobs, write_schedule
from jitney.loadgen.outcome import Outcome
from jitney.loadgen.point import QUANTILES, Point
from jitney.loadgen.replies import read_replies
from jitney.loadgen.runs import NOT_KEPT
from jitney.loadgen.schedule import Arrivals, Schedule, draw
from jitney.loadgen.seen import joined, read_seen
from jitney_client import JitneyError, NotSupported
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jitney.loadgen.crew import Crew, Progress
    from jitney.loadgen.inputs import Call
    from jitney.loadgen.mix import Caller
    from jitney.loadgen.seen import Array, Seen
    from jitney_client import Client

__all__ = ["Bench", "Load", "Target"]

WARM_UP: Final = 0.05
"""The share of a run that is not counted."""
WARM_UP_SLOS: Final = 2.0
"""What is not counted at least, in SLOs: queues that are still empty flatter every server."""
ATTEMPTS: Final = 3
"""Runs of a load in which the generator may lag before the machine is taken to be too busy."""
REFERENCES: Final = 2
"""How often each input is sent alone: a model that answers differently cannot be checked."""
GRACE: Final = 5.0
"""Seconds, at least, for which late answers are waited for after the last call."""
GRACE_SLOS: Final = 3.0
PATIENCE: Final = 600.0
"""Seconds for asking for the answer to every input."""
READINGS: Final = 5
READING_PAUSE: Final = 0.5
"""Seconds between attempts to read the server's statistics."""
CYCLE: Final = 4096.0
"""Calls of a closed loop, about, after which callers and inputs come in the same order again."""


class Target(NamedTuple):
    """Which model of which server, and how the calls get there."""

    address: str
    metadata: pb.ModelMetadataResponse
    version: str = ""
    tls: Tls | None = None
    tenant_key: str = ""
    connections: int = 8
    shown: tuple[tuple[str, str], ...] = ()
    """Metadata of every call, beside the tenant: who calls. It may be secret."""


@dataclass(frozen=True, slots=True)
class Load:
    """What callers want and how they come; ``slo`` and ``deadline`` in seconds, 0 for none.

    ``deadline`` is what calls tell the server. ``seconds`` is how long calls count in a run.
    """

    slo: float
    deadline: float
    seconds: float
    arrivals: Arrivals = field(default_factory=Arrivals)
    tolerance: float = TOLERANCE
    check: bool = True


class Bench:
    """Runs load against one model, and compares answers with those to the same inputs alone.

    ``alone`` are the seconds that one call alone took, the median; ``note`` says why answers are
    not checked, where they are not.

    :raises LoadError: when the model does not answer the inputs, or not as they say.
    """

    def __init__(
        self,
        crew: Crew,
        client: Client,
        folder: Path,
        target: Target,
        load: Load,
        calls: Sequence[Call],
        callers: Sequence[Caller],
        progress: Progress,
    ) -> None:
        self._crew = crew
        self._client = client
        self._folder = folder
        self._target = target
        self._load = load
        self._callers = callers
        self._progress = progress
        levels = list(dict.fromkeys(caller.priority for caller in callers))
        blobs = [
            message(target.metadata, call, version=target.version, priority=level)
            for level in levels
            for call in calls
        ]
        self._messages = str(folder / "messages.npz")
        write_blobs(self._messages, blobs)
        size = len(calls)
        deadline = round(1e3 * load.deadline)
        timeout = (("grpc-timeout", f"{deadline}m"),) if deadline else ()
        # In the order of callers, so that a call's kind tells whose it is and what it sends.
        self._requests = tuple(
            Request(
                levels.index(caller.priority) * size + variant,
                (*timeout, *self._tenant(caller)),
            )
            for caller in callers
            for variant in range(size)
        )
        self._size = size
        self._weights = [caller.weight for caller in callers for _ in range(size)]
        self.note = "" if load.check else "as asked for"
        self.alone, right = self._ask(calls)
        self._judge = None if self.note else Judge(right * len(levels), load.tolerance)

    # -- runs -----------------------------------------------------------------------------------

    def at_rate(self, rate: float, seed: int, seconds: float = 0.0) -> Point:
        """Send calls at a rate; again, up to twice, where the generator could not keep up.

        :param seconds: how long, if longer than usual.
        """
        seconds = max(self._load.seconds, seconds)
        for _ in range(ATTEMPTS):
            point = self._at_rate(rate, seed, seconds)
            if point.valid or point.wrong:
                break
        return point

    def at_concurrency(self, concurrency: int) -> Point:
        """Keep so many calls going."""
        load = self._load
        seconds = (1 + WARM_UP) * load.seconds
        team = min(len(self._crew), concurrency)
        orders = []
        for number in range(team):
            # Each its own draw, or all would send the same calls at once.
            order = self._order(number, draw(load.arrivals, CYCLE, 1.0, number, self._weights))
            share = len(range(number, concurrency, team))
            orders.append(dataclasses.replace(order, concurrency=share, seconds=seconds))
        return self._measure(orders, concurrency, 0, WARM_UP * load.seconds, seconds)

    def _at_rate(self, rate: float, seed: int, seconds: float) -> Point:
        load, team = self._load, len(self._crew)
        begin = max(WARM_UP * seconds, WARM_UP_SLOS * load.slo)
        plan = draw(load.arrivals, rate, begin + seconds, seed, self._weights)
        parts = [Schedule(plan.at[n::team], plan.kinds[n::team]) for n in range(team)]
        orders = [self._order(number, part) for number, part in enumerate(parts)]
        return self._measure(orders, rate, seed, begin, begin + seconds)

    def _measure(
        self, orders: Sequence[Order], load: float, seed: int, begin: float, end: float
    ) -> Point:
        before = self._figures()
        said = self._crew.run(orders, self._progress)
        after = self._figures()
        seen = joined([read_seen(order.out) for order in orders])
        wrong, example = 0, ""
        if self._judge is not None:
            replies = [reply for order in orders for reply in read_replies(order.replies)]
            wrong, example = self._judge.wrong(replies)
        seen = dataclasses.replace(seen, wrong=wrong)
        slo = self._load.slo or float("inf")
        outcome = Outcome.of(seen, slo, begin, end)
        latencies = 1e3 * outcome.latencies
        if self._judge is None:
            unchecked = int((seen.code == 0).sum())
        else:
            place = seen.reasons.index(NOT_KEPT) if NOT_KEPT in seen.reasons else -1
            unchecked = int(((seen.code == 0) & (seen.reason == place)).sum())
        closed = bool(orders[0].concurrency)
        by_caller = self._by_caller(seen, slo, begin, end)
        return Point(
            round(load, 3),
            closed,
            seed,
            outcome.to_json(),
            by_caller,
            None if before is None or after is None else after.since(before).to_json(),
            bool(self._load.slo) and outcome.proven,
            wrong,
            example,
            unchecked,
            {name: text for one in said for name, text in one["texts"].items()},
            np.percentile(latencies, QUANTILES).round(4).tolist() if len(latencies) else [],
            round(seen.cpu_seconds / (end * len(orders)), 3),
            # In a closed loop nobody sends what he is not given.
            None if closed else self._fairness(by_caller),
        )

    def _by_caller(
        self, seen: Seen, slo: float, begin: float, end: float
    ) -> dict[str, dict[str, Any]]:
        if len(self._callers) == 1:
            return {}
        size = self._size
        return {
            caller.name: Outcome.of(
                seen, slo, begin, end, frozenset(range(number * size, (number + 1) * size))
            ).to_json()
            for number, caller in enumerate(self._callers)
        }

    def _fairness(self, by_caller: Mapping[str, Mapping[str, Any]]) -> float | None:
        tenants: dict[str, tuple[int, int]] = {}
        for caller in self._callers:
            calls = by_caller.get(caller.name, {"sent": 0, "in_slo": 0})
            sent, good = tenants.get(caller.tenant, (0, 0))
            tenants[caller.tenant] = (sent + calls["sent"], good + calls["in_slo"])
        return fairness(tenants)

    # -- preparation ----------------------------------------------------------------------------

    def _ask(self, calls: Sequence[Call]) -> tuple[float, list[Mapping[str, Array]]]:
        """Ask for the answer to each input alone; return how long one took, and the answers.

        :raises LoadError: when there is none, or another one than the caller expected.
        """
        once = Schedule([float(n) for n in range(self._size)], list(range(self._size)))
        count = REFERENCES * self._size
        order = dataclasses.replace(
            self._order(0, once),
            # Without the deadline: the first call of a shape may take long.
            requests=tuple(
                Request(one.message, self._tenant(self._callers[0]))
                for one in self._requests[: self._size]
            ),
            concurrency=1,
            count=count,
            seconds=PATIENCE,
        )
        (said,) = self._crew.run([order], lambda _: None)
        seen = read_seen(order.out)
        if (seen.code != 0).any() or len(seen.code) < count:
            end, text = next(iter(said["texts"].items()), ("", "no answer"))
            msg = f"the model does not answer the inputs, one call at a time: {end}: {text}"
            raise LoadError(msg)
        replies = read_replies(order.replies)
        first = {reply.message: reply.body for reply in reversed(replies)}
        right: list[Mapping[str, Array]] = [outputs_of(first[n]) for n in range(self._size)]
        if not self.note and Judge(right, self._load.tolerance).wrong(replies)[0]:
            self.note = "the model answers the same input differently"
        for number, call in enumerate(calls):
            if why := Judge([call.outputs], self._load.tolerance).fault(0, first[number]):
                msg = f"call {number} of --inputs is not answered as the file expects: {why}"
                raise LoadError(msg)
        return float(np.median(seen.ended - seen.sent)), right

    def _order(self, number: int, plan: Schedule) -> Order:
        target, load = self._target, self._load
        file = self._folder / f"schedule{number}.npz"
        write_schedule(file, plan.at, plan.kinds)
        slowest = max(load.slo, load.deadline)
        return Order(
            target.address,
            pb.METHODS["ModelInfer"].path,
            self._messages,
            self._requests,
            str(file),
            str(self._folder / f"seen{number}.npz"),
            str(self._folder / f"replies{number}.npz"),
            max(1, target.connections // len(self._crew)),
            max(GRACE, GRACE_SLOS * slowest),
            slo=load.slo or 1e9,
            tls=target.tls,
        )

    def _tenant(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        tenant = ((self._target.tenant_key, caller.tenant),) if caller.tenant else ()
        return (*tenant, *self._target.shown)

    def _figures(self) -> Figures | None:
        """Return what the server has counted so far; None where it does not say."""
        metadata = self._target.metadata
        for attempt in range(READINGS):
            if attempt:
                time.sleep(READING_PAUSE)  # after an overload it may not come to it at once
            try:
                statistics = self._client.statistics(metadata.name, version=self._target.version)
            except NotSupported:
                break
            except JitneyError:
                continue
            return Figures.of(statistics)
        return None
