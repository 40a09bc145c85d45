"""What the scheduler's decisions cost in CPU per request, with thousands waiting.

    python -m benchmarks.policy_cost [--queue 10000]

Only the policy runs: entries are made before, devices are figures. Each round answers one batch per
device and offers as many rows as left, so the queue keeps its length.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from jitney.errors import JitneyError
from jitney.latency_profile import LatencyProfile
from jitney.scheduling.batch import State
from jitney.scheduling.policy import Policy
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.scheduling.batch import Batch, BatchKey, Entry

PROFILE = LatencyProfile((1, 8, 32, 128), (0.0021, 0.0028, 0.0052, 0.0148), (0.02,) * 4)
REPEATS = 7
BAR = 10
"""Microseconds."""
ANSWERS = 20_000


class Case(NamedTuple):
    """What waits: entries of ``keys`` models, due within ``slo`` seconds (0: no deadline)."""

    name: str
    keys: int
    slo: float
    rows: int
    tenants: int = 1


CASES = (
    Case("no deadlines", 1, 0.0, 32),
    Case("one SLO", 1, 10.0, 32),
    Case("one SLO, batches of 8", 1, 10.0, 8),
    Case("mixed SLOs", 1, -10.0, 32),
    Case("8 models", 8, 10.0, 32),
    Case("1,000 shapes", 1000, 10.0, 32),
    Case("20 tenants", 1, 10.0, 32, tenants=20),
)


def entries_of(case: Case, keys: list[BatchKey], devices: int) -> Iterator[Entry]:
    """Yield entries that arrive as fast as the devices answer."""
    request_time = PROFILE.seconds[2] / 32 / devices
    for i in itertools.count():
        arrived = i * request_time
        slo = abs(case.slo) * (1 if case.slo > 0 else 1 + i * 7919 % 10)
        yield make_entry(
            keys[i % case.keys],
            arrived=arrived,
            deadline=arrived + slo if case.slo else float("inf"),
            tenant=f"t{i % case.tenants}" if case.tenants > 1 else "",
        )


def cost(case: Case, queue: int, devices: int = 2) -> float:
    """Return CPU seconds per answered request."""
    policy = Policy()
    keys = [make_key(f"m{i}", max_rows=case.rows, max_queue_rows=1 << 30) for i in range(case.keys)]
    for d in range(devices):
        policy.device_up(f"d{d}")
        for key in keys:
            policy.model_ready(f"d{d}", key.model, PROFILE)
    source = entries_of(case, keys, devices)
    stock = [next(source) for _ in range(queue + ANSWERS + 4 * case.rows * devices)]
    now, running, given, answered = 0.0, [], iter(stock), 0
    for entry in itertools.islice(given, queue):
        policy.offer(entry, now)
    spent = -time.process_time()
    running = list(policy.turn(now).batches)
    while answered < ANSWERS:
        now += 0.001
        ended: list[Batch] = [batch for batch in running if not batch.staged]
        for batch in ended:
            running.remove(batch)
            policy.completed(batch, now, PROFILE.seconds[-1] / 4)
            answered += len(batch.entries)
            for entry in batch.entries:
                entry.state = State.DONE
            for entry in itertools.islice(given, len(batch.entries)):
                try:
                    policy.offer(entry, now)
                except JitneyError:
                    answered += 1
            turn = policy.turn(now)
            answered += len(turn.refused)
            running += turn.batches
            policy.next_due(now)
        for batch in running:
            batch.staged = False
    spent += time.process_time()
    return spent / answered


def main() -> int:
    """Print a table; return 1 when a case is over the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--queue", type=int, default=10_000, metavar="N", help="entries that wait")
    queue = parser.parse_args().queue
    print(f"{queue} entries wait; microseconds of CPU per request, median of {REPEATS} (range)")
    missed = False
    for case in CASES:
        costs = sorted(1e6 * cost(case, queue) for _ in range(REPEATS))
        middle = statistics.median(costs)
        over = middle > BAR
        missed |= over
        verdict = f"over {BAR}" if over else ""
        print(f"  {case.name:24} {middle:6.2f}  ({costs[0]:.2f}-{costs[-1]:.2f}) {verdict}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
