"""Virtual time: any policy, driven by arrivals and simulated devices, with no event loop at all.

    devices = [VirtualDevice("d0", lambda batch: 0.005 + 0.001 * batch.rows)]
    simulation = Simulation(policy, devices, watcher)
    simulation.run(make_entry(key, arrived=i / 100, deadline=i / 100 + 0.05) for i in range(1000))

The policy is the very object that the server uses, or any other with the four methods of
``Decider``; nothing sleeps, and a run follows from its arrivals alone.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Final, Protocol

from jitney.errors import JitneyError
from jitney.scheduling.batch import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jitney.scheduling.batch import Batch, Entry

__all__ = ["Decider", "Decisions", "Simulation", "VirtualDevice", "Watcher"]

SPINS: Final = 1000
"""Wake-ups at one moment, in which nothing happens, before the policy is said to spin."""


class Decisions(Protocol):
    """What a policy decided in one turn."""

    @property
    def refused(self) -> Sequence[tuple[Entry, JitneyError]]:
        """Entries that end without having run, and why."""

    @property
    def batches(self) -> Sequence[Batch]:
        """Batches that start now, or behind the one that their device runs (``staged``)."""


class Decider(Protocol):
    """The part of ``scheduling.policy.Policy`` that time drives."""

    def offer(self, entry: Entry, now: float) -> Sequence[tuple[Entry, JitneyError]]:
        """Take an entry, or raise a JitneyError; return who had to make room for it."""

    def turn(self, now: float) -> Decisions:
        """Decide."""

    def completed(
        self, batch: Batch, now: float, seconds: float | None, overhead: float = 0.0
    ) -> None:
        """Note that a batch ended after so many seconds on its device."""

    def next_due(self, now: float) -> float | None:
        """Return when to take the next turn if nothing happens before."""


class Watcher(Protocol):
    """Who looks on."""

    @property
    def enough(self) -> bool:
        """Whether the run may stop: what follows would change nothing any more."""

    def answered(self, batch: Batch, now: float, seconds: float) -> None:
        """Note that a batch's callers have their replies, and what its device took."""

    def refused(self, entry: Entry, error: JitneyError, now: float) -> None:
        """Note that a caller got an error."""


class VirtualDevice:
    """A device on which a batch takes ``seconds(batch)``, one after the other.

    ``busy`` is how many seconds it has worked for, the batch that runs included.
    """

    __slots__ = ("busy", "name", "running", "seconds", "staged", "took")

    def __init__(self, name: str, seconds: Callable[[Batch], float]) -> None:
        self.name = name
        self.seconds = seconds
        self.running: Batch | None = None
        self.staged: Batch | None = None
        self.took = 0.0
        self.busy = 0.0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<VirtualDevice {self.name} running {self.running} then {self.staged}>"

    def take(self, batch: Batch, now: float) -> float | None:
        """Start a batch, or hold it behind the running one; return when it ends if it started.

        :raises RuntimeError: when the policy gave it what it cannot take.
        """
        if batch.staged and self.running is not None and self.staged is None:
            self.staged = batch
            return None
        if batch.staged or self.running is not None:
            msg = f"{self!r} cannot take {batch!r}, staged={batch.staged}"
            raise RuntimeError(msg)
        return self._start(batch, now)

    def end(self, now: float) -> tuple[Batch, float, float | None]:
        """End the running batch; return it, its seconds, and when the one behind it ends."""
        batch, self.running = self.running, None
        if batch is None:
            msg = f"{self!r} runs nothing that could end"
            raise RuntimeError(msg)
        seconds, following, self.staged = self.took, self.staged, None
        return batch, seconds, None if following is None else self._start(following, now)

    def _start(self, batch: Batch, now: float) -> float:
        self.running, self.took = batch, self.seconds(batch)
        self.busy += self.took
        return now + self.took


class Simulation:
    """A policy, its devices and a watcher, in virtual time.

    The policy must know the devices and their models already. Events of one moment are handled in
    a fixed order, ends of batches before arrivals, and the policy takes its turn after each: as
    in the server, where an arrival's turn comes before the next message is read.

    - Every entry ends exactly once: in a batch that ends, or in a refusal.
    - ``run`` returns when nothing is left to happen; what still waits then waits for ever, and is
      a fault of the policy that ``waiting`` shows.
    """

    def __init__(self, policy: Decider, devices: Iterable[VirtualDevice], watcher: Watcher) -> None:
        self._policy = policy
        self._devices = {device.name: device for device in devices}
        self._watcher = watcher
        self._ends: list[tuple[float, int, VirtualDevice]] = []
        self._sequence = itertools.count()
        self.now = 0.0
        self.waiting = 0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Simulation at {self.now:g}, {len(self._ends)} running, {self.waiting} waiting>"

    @property
    def devices(self) -> list[VirtualDevice]:
        """The devices, in the order in which they were given."""
        return list(self._devices.values())

    def run(self, entries: Iterable[Entry]) -> None:
        """Let entries arrive, each at its ``arrived``, in order, and everything end.

        :raises RuntimeError: when a batch does not fit its device, or the policy asks for turn
            after turn without time or anything else going on.
        """
        arrivals = iter(entries)
        coming = next(arrivals, None)
        ends, policy, spins = self._ends, self._policy, 0
        while not self._watcher.enough:
            due = policy.next_due(self.now)
            arrival = math.inf if coming is None else coming.arrived
            end = ends[0][0] if ends else math.inf
            now = min(arrival, end, math.inf if due is None else max(due, self.now))
            if now == math.inf:
                return
            spins = spins + 1 if now == self.now and now < min(arrival, end) else 0
            if spins > SPINS:
                msg = f"the policy was woken {spins} times at {now} and nothing happened"
                raise RuntimeError(msg)
            self.now = now
            if end <= now:
                self._end(now)
            elif coming is not None and arrival <= now:
                self._offer(coming, now)
                coming = next(arrivals, None)
            self._turn(now)

    def _offer(self, entry: Entry, now: float) -> None:
        try:
            evicted = self._policy.offer(entry, now)
        except JitneyError as error:
            entry.state = State.DONE
            self._watcher.refused(entry, error, now)
            return
        self.waiting += 1 - len(evicted)
        for other, why in evicted:
            self._watcher.refused(other, why, now)

    def _turn(self, now: float) -> None:
        turn = self._policy.turn(now)
        for entry, error in turn.refused:
            entry.state = State.DONE
            self.waiting -= 1
            self._watcher.refused(entry, error, now)
        for batch in turn.batches:
            self.waiting -= len(batch.entries)
            device = self._devices[batch.device]
            self._follow(device, device.take(batch, now))

    def _end(self, now: float) -> None:
        _, _, device = heapq.heappop(self._ends)
        batch, seconds, following = device.end(now)
        self._follow(device, following)
        self._policy.completed(batch, now, seconds)
        for entry in batch.entries:
            entry.state = State.DONE
        self._watcher.answered(batch, now, seconds)

    def _follow(self, device: VirtualDevice, end: float | None) -> None:
        if end is not None:
            heapq.heappush(self._ends, (end, next(self._sequence), device))
