"""A policy whose every batch comes with what was known when it was closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jitney.scheduling.batch import NO_DEADLINE
from jitney.scheduling.chooser import IN_BETWEEN, REACH
from jitney.scheduling.plan import Terms
from jitney.scheduling.policy import Policy, PolicySettings, Turn

if TYPE_CHECKING:
    from collections.abc import Collection

    from jitney.scheduling.backlog import Backlog
    from jitney.scheduling.batch import Batch, BatchKey, Entry
    from jitney.scheduling.choice import Choice
    from jitney.scheduling.device import DeviceState
    from jitney.scheduling.latency import LatencyModel
    from jitney.scheduling.queue import KeyQueue

__all__ = ["Closing", "WatchedPolicy"]


class Closing(NamedTuple):
    """What waited in the queue of a batch, when it would start, and the terms of its plan."""

    choice: Choice
    timed: list[Entry]
    background: list[Entry]
    start: float
    terms: Terms


class WatchedPolicy(Policy):
    """The policy, and ``closings``: one for each batch that it closed, in order.

    A subclass because the decision is taken inside of one turn; it changes nothing. It also has
    all looks into private parts that the checks need, in one place.
    """

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings)
        self.closings: list[Closing] = []

    def pop_closings(self) -> list[Closing]:
        """Return the closings since the last time."""
        closings, self.closings = self.closings, []
        return closings

    @property
    def backlog(self) -> Backlog:
        """What waits."""
        return self._backlog

    @property
    def flows(self) -> dict[tuple[str, int, object], int]:
        """How many wait of each flow of requests without deadline."""
        return dict(self._flows._waiting)

    @property
    def waiting_queues(self) -> Collection[KeyQueue]:
        """The queues that are not empty."""
        return self._backlog.waiting

    @property
    def unbegun(self) -> set[Batch]:
        """What lost devices were to run next."""
        return self._fleet.unbegun

    def margin(self, key: BatchKey) -> float:
        """Return the seconds that are allowed for a lone request beside the device's."""
        queue = self._backlog.find(key)
        return self._host.margin(1, NO_DEADLINE) if queue is None else self._waiting.margin(queue)

    def batch_margin(self, queue: KeyQueue) -> float:
        """Return the seconds that are allowed for the next batch beside the device's."""
        return self._chooser._margin(queue)

    def cuts_background(self, latency: LatencyModel, key: BatchKey) -> bool:
        """Whether batches without deadlines are kept short, for the sake of those that have one."""
        shortest = self._fleet.group(key.model).load.shortest
        return 0 < latency.rows_within(IN_BETWEEN * shortest) < key.max_rows

    def rests_until(self, device: str) -> float:
        """Return until when a device wants full batches only."""
        return self._device(device).rests_until

    def latency(self, device: str, key: BatchKey) -> LatencyModel:
        """Return what is known of a device and a key."""
        return self._fleet.latency(self._device(device), key)

    def reference(self, key: BatchKey) -> LatencyModel:
        """Return what is known of the device that is taken for the fastest."""
        queue = self._backlog.find(key)
        if queue is None or queue.epoch != self._fleet.epoch:
            return self._fleet.reference(key)
        return queue.latency

    def _device(self, name: str) -> DeviceState:
        device = self._fleet.get(name)
        assert device is not None
        return device

    def _close(self, choice: Choice, device: DeviceState, now: float, turn: Turn) -> Batch:
        queue, key, load = choice.queue, choice.queue.key, choice.queue.load
        staged = device.running is not None
        start = max(now, device.free_at) if staged else now
        alone = key.model not in self._fleet.idle_models(device)
        terms = Terms(
            start + self.batch_margin(queue),
            load.pressure * queue.worth,
            1 - load.pressure,
            key.max_rows,
            key.max_bytes,
            REACH * queue.best_rows if alone and not staged else 0,
        )
        timed, background = list(queue.timed.entries), list(queue.background.entries)
        self.closings.append(Closing(choice, timed, background, start, terms))
        return super()._close(choice, device, now, turn)
