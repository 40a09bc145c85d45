"""A worker pool over fake workers, and a listener whose events can be awaited."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jitney
from jitney.clock import LoopClock
from jitney.datatypes import DataType
from jitney.execution.device_worker import WorkerLimits
from jitney.execution.link import WorkerCommand
from jitney.execution.loading import LoadSpec
from jitney.execution.pool import WorkerPool
from jitney.load_options import LoadOptions
from jitney.scheduling.batch import Batch, BatchKey, Reason
from jitney.signature import Signature, TensorSpec
from jitney.testing import Ends, make_entry, make_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from jitney.errors import JitneyError, ModelError
    from jitney.execution.executor import Completion
    from jitney.execution.worker_life import WorkerLife
    from jitney.load_report import LoadReport
    from jitney.types import ModelRef

SCRIPT = str(Path(__file__).with_name("fake_worker.py"))
SOURCES = str(Path(jitney.__file__).parents[1])
PATIENCE = 20.0
"""Seconds after which a test that waits for an event fails."""

ECHO = Signature(
    (TensorSpec("x", DataType.FP32, ("N", 1)),), (TensorSpec("y", DataType.FP32, ("N", 1)),)
)


class FakeCommand(WorkerCommand):
    """Starts ``fake_worker.py``; the n-th process of the device behaves in the n-th way."""

    def __init__(self, *ways: str, device: str = "cpu", slots: int = 3) -> None:
        super().__init__(
            device, {"PYTHONPATH": SOURCES}, threads=1, slots=slots, slot_bytes=1 << 16
        )
        self.ways = ways
        self.starts = 0

    def arguments(self, socket_fd: int, memory_fd: int) -> list[str]:
        """Return the command line of the next life."""
        way = self.ways[min(self.starts, len(self.ways) - 1)]
        self.starts += 1
        numbers = (self.slots, self.slot_bytes, socket_fd, memory_fd)
        return [sys.executable, SCRIPT, way, *map(str, numbers)]


class Recorder:
    """A listener that notes what it is told, copies replies, and wakes up who waits."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.ends: list[tuple[Batch, JitneyError | None, list[bytes], Completion]] = []
        self._news = asyncio.Event()

    def note(self, *event: object) -> None:
        """Note an event."""
        self.events.append(event)
        self._news.set()

    async def until(self, reached: Callable[[], object]) -> None:
        """Wait for events until ``reached`` is true."""
        async with asyncio.timeout(PATIENCE):
            while not reached():
                self._news.clear()
                await self._news.wait()

    async def until_event(self, *event: object) -> None:
        """Wait until an event was noted."""
        await self.until(lambda: event in self.events)

    async def until_ended(self, count: int) -> None:
        """Wait until so many batches ended."""
        await self.until(lambda: len(self.ends) >= count)

    def completed(self, batch: Batch, completion: Completion) -> None:
        """Note an end; the outputs are copied, as they are valid only now."""
        outputs = completion.outputs.outputs if completion.outputs is not None else ()
        data = [bytes(output.data) for output in outputs]
        self.ends.append((batch, completion.error, data, completion))
        self.note("completed", batch.entries[0].request.id)

    def produced(self, batch: Batch, completion: Completion) -> None:
        """Refuse: workers give one reply."""
        raise NotImplementedError

    def detached(self, batch: Batch, completion: Completion) -> None:
        """Refuse: workers run a batch to its end."""
        raise NotImplementedError

    def device_up(self, device: str) -> None:
        """Note it."""
        self.note("up", device)

    def device_loading(self, device: str, *, loading: bool) -> None:
        """Do nothing."""

    def device_down(self, device: str, back_in: float = 0.0) -> None:  # noqa: ARG002  # the protocol's
        """Note it."""
        self.note("down", device)

    def device_failed(self, device: str, why: str) -> None:
        """Note it."""
        self.note("failed", device, why)

    def model_loaded(self, device: str, model: ModelRef, report: LoadReport) -> None:
        """Note it."""
        self.note("loaded", device, str(model), report.form)

    def model_refused(self, device: str, model: ModelRef, error: JitneyError) -> None:
        """Note it."""
        self.note("refused", device, str(model), str(error))

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Note it."""
        self.note("gone", device, str(model))


class Held:
    """A file in memory."""

    def __init__(self, content: str) -> None:
        self.fd = os.memfd_create("model")
        os.write(self.fd, content.encode())


class Bench:
    """A pool with its listener and its commands."""

    def __init__(self, commands: Sequence[FakeCommand], limits: WorkerLimits) -> None:
        loop = asyncio.get_running_loop()
        self.clock = LoopClock(loop)
        self.commands = commands
        self.listener = Recorder()
        self.pool = WorkerPool(commands, self.clock, limits)
        self.ends = Ends()

    def spec(
        self,
        key: BatchKey,
        content: str = "",
        error: Exception | None = None,
        devices: tuple[str, ...] = (),
    ) -> LoadSpec:
        """Return what loads the model of a key; ``content`` tells the worker how to behave."""

        @contextmanager
        def held() -> Iterator[Held]:
            file = Held(content)
            try:
                yield file
            finally:
                os.close(file.fd)
                self.listener.note("opened", key.model.name)

        def open_() -> Any:
            if error is not None:
                raise error
            return held()

        options = LoadOptions(key.model.name, key.model.version, ECHO, max_batch_size=4)
        return LoadSpec(
            key.model,
            options,
            open_,
            lambda d, text: self.listener.note("progress", d, text),
            devices,
        )

    async def load(self, key: BatchKey, content: str = "") -> dict[str, LoadReport | ModelError]:
        """Load the model of a key onto every device."""
        async with asyncio.timeout(PATIENCE):
            return await self.pool.load(self.spec(key, content))

    def start(
        self,
        key: BatchKey,
        *rows: int,
        device: str = "cpu",
        name: str = "batch",
        planned: float = 0.0,
    ) -> Batch:
        """Start a batch of requests with the rows; all have the id ``name``."""
        entries = [make_entry(key, rows=n, id=name, done=self.ends) for n in rows]
        batch = Batch(key, entries, sum(rows), Reason.IDLE, device, self.clock.now())
        batch.planned = planned
        self.pool.start(batch)
        return batch

    def life(self, device: str = "cpu") -> WorkerLife:
        """Return the process that a device has now."""
        life = self.pool._workers[device]._life
        assert life is not None
        return life

    def pid(self, device: str = "cpu") -> int:
        """Return the number of that process."""
        return self.life(device).link._process.pid

    def is_loading(self, device: str = "cpu") -> bool:
        """Return whether a device is loading a model."""
        return self.pool._workers[device]._loads.current is not None

    def state(self, device: str = "cpu") -> tuple[str, str]:
        """Return the state of a device and the reason."""
        [found] = [d for d in self.pool.statistics() if d.name == device]
        return (found.state, found.reason)


@asynccontextmanager
async def running(
    *commands: FakeCommand, launch: bool = True, **limits: Any
) -> AsyncIterator[Bench]:
    """Run a pool; stop it afterwards, whatever happened."""
    bench = Bench(commands, WorkerLimits(**limits))
    try:
        if launch:
            async with asyncio.timeout(PATIENCE):
                await bench.pool.launch(bench.listener)
        yield bench
    finally:
        await bench.pool.stop(5)
        bench.clock.close()


KEY = make_key("echo", max_rows=4)
