"""The workers of all devices, as one executor and one loader."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, NamedTuple

from jitney.errors import ModelError
from jitney.execution.device_worker import DeviceWorker, WorkerLimits
from jitney.execution.vigil import WATCH_EVERY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.clock import Clock
    from jitney.execution.executor import Listener
    from jitney.execution.link import WorkerCommand
    from jitney.execution.loading import LoadSpec
    from jitney.load_report import LoadReport
    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef

__all__ = ["DeviceStatistics", "WorkerPool"]


class DeviceStatistics(NamedTuple):
    """A device and its worker; ``state`` is one of starting, up, restarting, failed, stopped."""

    name: str
    state: str
    reason: str
    description: str
    restarts: int
    pinned: bool
    memory_bytes: dict[str, int]


class WorkerPool:
    """One worker process per device: an ``Executor`` and a ``Loader``.

    A worker that breaks the protocol, hangs or dies is replaced, with growing delays; when that
    does not help, the device is out and says why, and is tried once a minute. All of it happens on
    one event loop.
    """

    def __init__(
        self, commands: Sequence[WorkerCommand], clock: Clock, limits: WorkerLimits
    ) -> None:
        self._specs: dict[str, dict[ModelRef, LoadSpec]] = {c.device: {} for c in commands}
        serials = itertools.count(1)
        self._workers = {
            command.device: DeviceWorker(
                command, clock, limits, self._specs[command.device], serials
            )
            for command in commands
        }
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<WorkerPool {', '.join(map(repr, self._workers.values()))}>"

    async def launch(self, listener: Listener) -> None:
        """Start every worker and wait until each is up or given up."""
        loop = asyncio.get_running_loop()
        for worker in self._workers.values():
            self._tasks.append(loop.create_task(worker.keep_alive(listener)))
        self._tasks.append(loop.create_task(self._watch()))
        await asyncio.gather(*(worker.started.wait() for worker in self._workers.values()))

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # a bound, not a scope
        """Tell every worker to stop, wait, then kill what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop(timeout) for worker in self._workers.values()))

    def statistics(self) -> list[DeviceStatistics]:
        """Return the current figures of every device."""
        return [
            DeviceStatistics(
                w.name, w.state, w.reason, w.description, w.restarts, w.pinned, w.memory_bytes
            )
            for w in self._workers.values()
        ]

    def pinned_bytes(self) -> tuple[int, int]:
        """Return how many bytes of batch buffers are page-locked, and how many hold a batch."""
        pinned = [worker.slot_bytes() for worker in self._workers.values() if worker.pinned]
        return sum(total for total, _ in pinned), sum(used for _, used in pinned)

    def start(self, batch: Batch) -> None:
        """Send a batch to the worker of its device."""
        self._workers[batch.device].start(batch)

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version onto its devices; return, by device, the report or what was wrong.

        It is loaded onto every later worker of these devices as well; the listener is told. When
        it is unloaded before, that is what was wrong.
        """
        names = spec.devices or tuple(self._workers)
        results: dict[str, LoadReport | ModelError] = {
            name: ModelError(f"there is no device {name}; there are {', '.join(self._workers)}")
            for name in names
        }
        workers = {name: self._workers[name] for name in names if name in self._workers}
        outcomes = []
        for name, worker in workers.items():
            self._specs[name][spec.ref] = spec
            outcomes.append(worker.outcome(spec.ref))
            worker.work.set()
        results |= zip(workers, await asyncio.gather(*outcomes), strict=True)
        if all(isinstance(result, ModelError) for result in results.values()):
            for specs in self._specs.values():
                if specs.get(spec.ref) is spec:
                    del specs[spec.ref]
        return results

    def unload(self, ref: ModelRef) -> None:
        """Drop a version from every device; batches already sent still run."""
        for name, worker in self._workers.items():
            self._specs[name].pop(ref, None)
            worker.forget(ref)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            for worker in self._workers.values():
                worker.watch()
