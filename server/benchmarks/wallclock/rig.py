"""A server on simulated devices, a load generator beside it, and what can be read from outside."""

from __future__ import annotations

import collections
import contextlib
import json
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.process import ChildProcess, ServerProcess
from benchmarks.usage import tree_seconds
from benchmarks.wallclock.order import Order
from jitney.loadgen.order import write_schedule
from jitney.loadgen.seen import Seen, read_seen
from jitney.testing.sim_model import SimModel, write_sim_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from benchmarks.simulation.settings import Setting
    from benchmarks.wallclock.order import Kind
    from benchmarks.wallclock.plan import Plan

__all__ = ["MAX_ROWS", "Figures", "Rig", "Watched", "model_name"]

TENANT_KEY: Final = "x-tenant"
MAX_ROWS: Final = 256
CONNECTIONS: Final = 16
STREAMS: Final = 1 << 16
"""Open calls per connection: an overload must reach the scheduler, not wait in the caller."""
RSS_EVERY: Final = 0.2
METRICS_TIMEOUT: Final = 10.0
MIB: Final = 1 << 20


def model_name(number: int) -> str:
    """Return the name of a setting's model."""
    return f"m{number}"


class Figures(NamedTuple):
    """What the server has counted so far: device seconds, batches and their rows; and its CPU."""

    busy: float
    batches: float
    rows: float
    cpu: float

    def since(self, before: Figures) -> Figures:
        """Return what was added."""
        return Figures(*(a - b for a, b in zip(self, before, strict=True)))


@dataclass(frozen=True, slots=True)
class Watched:
    """A run: what became of its calls, what the server counted, and its memory in MiB.

    ``memory`` is the resident set of the server process, without its workers: before the run, at
    most, and after it.
    """

    seen: Seen
    figures: Figures
    memory: tuple[float, float, float]


class Rig(contextlib.ExitStack):
    """Runs load against a server of its own; both end with its block."""

    def __init__(self, setting: Setting, folder: Path, noise: float = 0.0) -> None:
        super().__init__()
        self.setting = setting
        self._folder = folder
        self._noise = noise
        self._made = 0

    def __enter__(self) -> Self:
        """Start both processes."""
        super().__enter__()
        setting = self.setting
        repository = self._file("repository")
        model = SimModel(setting.line.alpha, setting.line.beta, self._noise)
        for number in range(setting.models):
            write_sim_model(repository, model_name(number), model, max_rows=MAX_ROWS)
        flags = (
            f"--sim-devices={setting.devices}",
            f"--max-concurrent-streams={STREAMS}",
            f"--tenant-metadata-key={TENANT_KEY}",
            f"--slot-bytes={MIB}",
        )
        program = ("-m", "jitney.testing.sim_server")
        self.server = self.enter_context(
            ServerProcess(repository, self._file("server.log"), flags, program)
        )
        self._generator = self.enter_context(
            ChildProcess(["-m", "benchmarks.wallclock.generator"], self._file("generator.log"))
        )
        return self

    def run(self, plan: Plan, kinds: Sequence[Kind]) -> Watched:
        """Send what the plan says; return when all of it has ended."""
        schedule, out = self._file("schedule.npz"), self._file("seen.npz")
        write_schedule(schedule, plan.at, plan.kinds)
        order = Order(
            self.server.address,
            str(schedule),
            str(out),
            tuple(kinds),
            CONNECTIONS,
            grace=3 * self.setting.slo,
            tenant_key=TENANT_KEY,
        )
        before = self.figures()
        with MemoryWatch(self.server.pid) as memory:
            self._generator.tell(json.dumps(order.to_json()))
            self._generator.line()
        after = self.figures()
        watched = Watched(read_seen(str(out)), after.since(before), memory.figures)
        schedule.unlink()
        out.unlink()
        return watched

    def figures(self) -> Figures:
        """Return what the server has counted so far."""
        url = self.server.metrics_url
        with urllib.request.urlopen(url, timeout=METRICS_TIMEOUT) as page:  # noqa: S310  # ours
            text = page.read().decode()
        sums: dict[str, float] = collections.defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] += sample.value
        return Figures(
            sums["jitney_device_busy_seconds_total"],
            sums["jitney_batch_rows_count"],
            sums["jitney_batch_rows_sum"],
            tree_seconds(self.server.pid),
        )

    def _file(self, name: str) -> Path:
        self._made += 1
        return self._folder / f"{self._made:03}-{name}"


class MemoryWatch:
    """Looks at a process's resident set now and then, as long as its block lasts."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/status")
        self._readings: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def figures(self) -> tuple[float, float, float]:
        """The first reading, the largest and the last, in MiB."""
        return self._readings[0], max(self._readings), self._readings[-1]

    def __enter__(self) -> Self:
        """Start looking."""
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._over.set()
        self._thread.join()
        self._read()

    def _watch(self) -> None:
        while not self._over.wait(RSS_EVERY):
            self._read()

    def _read(self) -> None:
        for line in self._file.read_text().splitlines():
            if line.startswith("VmRSS:"):
                self._readings.append(int(line.split()[1]) / 1024)
