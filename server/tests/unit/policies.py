"""A policy in one line each: devices that take exactly so long, entries, turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.scheduling.batch import NO_DEADLINE, NORMAL, Batch, BatchKey, Entry, Reason
from jitney.scheduling.policy import Policy, PolicySettings
from jitney.testing import Simulation, VirtualDevice, make_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jitney.errors import JitneyError
    from jitney.latency_profile import LatencyProfile


def policy_for(
    *keys: BatchKey,
    devices: int = 1,
    profile: LatencyProfile | None = None,
    max_overhead: float = 1.0,
    weights: Mapping[str, float] | None = None,
) -> Policy:
    """Return a policy whose devices d0, d1, … may run the models of all keys.

    :param profile: of every model, trusted to the last digit; nothing is known without it.
    """
    policy = Policy(PolicySettings(max_overhead, weights or {}, least_spread=0.0))
    for i in range(devices):
        bring_up(policy, f"d{i}", *keys, profile=profile)
    return policy


def bring_up(
    policy: Policy, name: str, *keys: BatchKey, profile: LatencyProfile | None = None
) -> None:
    """Bring a device up with the models of all keys."""
    policy.device_up(name)
    for key in keys:
        policy.model_ready(name, key.model, profile)


def offer(
    policy: Policy,
    key: BatchKey,
    rows: int = 1,
    at: float = 0.0,
    *,
    deadline: float = NO_DEADLINE,
    start_by: float = NO_DEADLINE,
    priority: int = NORMAL,
    tenant: str = "",
) -> Entry:
    """Offer an entry and return it."""
    entry = make_entry(
        key,
        rows=rows,
        arrived=at,
        deadline=deadline,
        start_by=start_by,
        priority=priority,
        tenant=tenant,
    )
    policy.offer(entry, at)
    return entry


def started(policy: Policy, now: float = 0.0) -> list[Batch]:
    """Take a turn in which nobody is refused; return its batches."""
    turn = policy.turn(now)
    assert [] == turn.refused
    return turn.batches


def take(policy: Policy, now: float = 0.0) -> Batch:
    """Take a turn in which one batch starts, and nobody is refused; return the batch."""
    [batch] = started(policy, now)
    return batch


def refused(policy: Policy, now: float) -> list[tuple[Entry, str]]:
    """Take a turn in which nothing starts; return who is refused, and the reasons."""
    turn = policy.turn(now)
    assert [] == turn.batches
    return [(entry, error.reason) for entry, error in turn.refused]


def part_of(batch: Batch, *entries: Entry) -> Batch:
    """Return part of a failed batch, to be run again."""
    rows = sum(entry.rows for entry in entries)
    return Batch(batch.key, list(entries), rows, Reason.RETRY, "", batch.formed_at)


class Tally:
    """Who was answered, and who was refused why; looks on until a moment."""

    def __init__(self, until: float) -> None:
        self.answered_entries: list[Entry] = []
        self.refusals: list[tuple[Entry, str]] = []
        self.enough = False
        self._until = until

    def answered(self, batch: Batch, now: float, seconds: float) -> None:  # noqa: ARG002
        """Note the end of a batch."""
        self.answered_entries += batch.entries
        self.enough = now >= self._until

    def refused(self, entry: Entry, error: JitneyError, now: float) -> None:  # noqa: ARG002
        """Note an error."""
        self.refusals.append((entry, error.reason))


def simulate(
    policy: Policy, entries: Iterable[Entry], *, seconds: float, until: float
) -> list[Entry]:
    """Let entries arrive at a policy of one device; return those that are answered.

    :param seconds: that every batch takes.
    """
    tally = Tally(until)
    Simulation(policy, [VirtualDevice("d0", lambda _: seconds)], tally).run(entries)
    return tally.answered_entries
