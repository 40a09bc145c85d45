"""Requests of a setting, at any rate, and one run of them through a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.arrivals import traffic
from jitney.scheduling.batch import BatchKey, Entry, Mode
from jitney.testing import Simulation, VirtualDevice, make_request
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.simulation.settings import Setting
    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Batch
    from jitney.testing.simulation import Decider, Watcher

__all__ = ["MAX_ROWS", "Caller", "Load"]

MAX_ROWS: Final = 4096
"""Of a batch: more than fits into any SLO here."""
UNBOUNDED: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says beside its model: ``slo`` in seconds, infinite for none."""

    slo: float
    priority: int = 1
    tenant: str = ""


@dataclass
class Load:
    """A setting with the arrivals of one seed, and how devices and callers depart from it.

    ``jitter`` is the relative standard deviation of execution times. ``ladder`` are the batch sizes
    that devices pad to, empty for none. ``who`` says for the index of a request who sends it;
    None for nobody: it does not come at all.
    """

    setting: Setting
    seed: int
    mode: Mode = Mode.LATENCY
    jitter: float = 0.0
    ladder: tuple[int, ...] = ()
    who: Callable[[int], Caller | None] | None = None
    keys: list[BatchKey] = field(init=False)
    devices: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Draw the arrivals."""
        setting = self.setting
        self._times, self._models = traffic(setting, self.seed)
        self.keys = [
            BatchKey(
                ModelRef(f"m{i}", 1),
                (),
                (),
                max_rows=self.ladder[-1] if self.ladder else MAX_ROWS,
                max_bytes=UNBOUNDED,
                max_queue_rows=UNBOUNDED,
                mode=self.mode,
            )
            for i in range(setting.models)
        ]
        self.devices = [f"d{i}" for i in range(setting.devices)]

    def skew(self, busy: float) -> None:
        """Let the share ``busy`` of the requests be for the first model, others for the rest."""
        random = Random(300 + self.seed)  # noqa: S311  # a simulation
        rest = range(1, self.setting.models)
        self._models = [
            0 if random.random() < busy else random.choice(rest) for _ in range(self.count)
        ]

    @property
    def count(self) -> int:
        """How many requests there are."""
        return len(self._times)

    def moment(self, share: float, rate: float) -> float:
        """Return when the share ``share`` of the requests has arrived."""
        return self._times[min(int(share * self.count), self.count - 1)] / rate

    def entries(self, rate: float) -> Iterator[Entry]:
        """Yield the requests at so many per second."""
        usual, who = Caller(self.setting.slo), self.who
        request, keys = make_request(), self.keys
        for i, (time, model) in enumerate(zip(self._times, self._models, strict=True)):
            caller = usual if who is None else who(i)
            if caller is None:
                continue
            arrived = time / rate
            yield Entry(
                request,
                keys[model],
                1,
                1,
                arrived,
                _nobody,
                deadline=arrived + caller.slo,
                priority=caller.priority,
                tenant=caller.tenant,
            )

    def simulate(self, policy: Decider, rate: float, watcher: Watcher) -> Simulation:
        """Run the requests through a policy; return the simulation as it ended."""
        seconds = self._seconds()
        devices = [VirtualDevice(name, seconds) for name in self.devices]
        simulation = Simulation(policy, devices, watcher)
        simulation.run(self.entries(rate))
        return simulation

    def planned(self, rows: int) -> float:
        """Return what a batch takes where nothing disturbs it."""
        return self.setting.line.seconds(self.padded(rows))

    def padded(self, rows: int) -> int:
        """Return the rows that a device computes for a batch of ``rows``."""
        return next((size for size in self.ladder if size >= rows), rows)

    def _seconds(self) -> Callable[[Batch], float]:
        line = self.setting.line
        if not self.ladder and not self.jitter:
            return lambda batch: line.alpha * batch.rows + line.beta
        random = Random(1000 + self.seed)  # noqa: S311  # a simulation

        def seconds(batch: Batch) -> float:
            # Never below half: a Gaussian's tail would make time run backwards.
            return self.planned(batch.rows) * max(0.5, random.gauss(1.0, self.jitter))

        return seconds


def _nobody(entry: Entry, reply: object, error: JitneyError | None) -> None:
    """Tell nobody: the watcher sees it."""
