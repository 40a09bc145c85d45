"""The executors of a server as one: workers for models with a file, the server itself for others.

Nobody above knows which of them runs a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.builtin import DEVICE_PREFIX

if TYPE_CHECKING:
    from jitney.errors import ModelError
    from jitney.execution.builtin import BuiltinExecutor
    from jitney.execution.executor import Listener
    from jitney.execution.loading import LoadSpec
    from jitney.execution.pool import DeviceStatistics, WorkerPool
    from jitney.load_report import LoadReport
    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef

__all__ = ["Executors"]


class Executors:
    """An ``Executor`` and a ``Loader`` made of two: a batch goes where its device is.

    ``workers`` are the devices without which the server cannot do its work; the built-in ones can
    neither fail nor stand in for them.
    """

    def __init__(self, workers: WorkerPool, builtin: BuiltinExecutor) -> None:
        self.workers = workers
        self.builtin = builtin

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Executors {self.workers!r}, {self.builtin!r}>"

    async def launch(self, listener: Listener) -> None:
        """Start every worker and wait until each is up or given up."""
        self.builtin.attach(listener)
        await self.workers.launch(listener)

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # a bound, not a scope
        """End what still runs, and the workers."""
        self.builtin.stop()
        await self.workers.stop(timeout)

    def start(self, batch: Batch) -> None:
        """Run a batch on its device."""
        if batch.device.startswith(DEVICE_PREFIX):
            self.builtin.start(batch)
        else:
            self.workers.start(batch)

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version onto its devices; return the report, or what was wrong, by device."""
        if spec.builtin is not None:
            return await self.builtin.load(spec)
        return await self.workers.load(spec)

    def unload(self, ref: ModelRef) -> None:
        """Drop a version from every device; batches already started still run."""
        self.builtin.unload(ref)
        self.workers.unload(ref)

    def statistics(self) -> list[DeviceStatistics]:
        """Return the current figures of every device, the workers' first."""
        return [*self.workers.statistics(), *self.builtin.statistics()]
