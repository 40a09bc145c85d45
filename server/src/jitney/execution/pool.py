"""The workers of all devices: batches to them, models onto them, and new ones for dead ones."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import (
    InferenceFailed,
    InputRejected,
    JitneyError,
    ModelError,
    OutOfDeviceMemory,
    OutputTooLarge,
    WorkerLost,
)
from jitney.execution import wire
from jitney.execution.exchange import gather, read_done
from jitney.execution.executor import Completion
from jitney.execution.link import WorkerCommand, WorkerLink
from jitney.runtime.report import LoadReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.clock import Clock
    from jitney.execution.executor import Listener
    from jitney.execution.loading import LoadSpec
    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef

__all__ = ["DeviceStatistics", "PoolLimits", "WorkerPool"]

log = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 30.0
RESTART_WINDOW: Final = 60.0
WATCH_EVERY: Final = 0.25

FAILURES: Final[dict[wire.Failure, type[JitneyError]]] = {
    wire.Failure.INPUT: InputRejected,
    wire.Failure.MODEL: InferenceFailed,
    wire.Failure.MEMORY: OutOfDeviceMemory,
    wire.Failure.OUTPUT: OutputTooLarge,
    wire.Failure.FAULT: WorkerLost,
}


class PoolLimits(NamedTuple):
    """Bounds in seconds, and how many times a device's worker may die within a minute."""

    start_timeout: float = 120.0
    load_timeout: float = 600.0
    batch_timeout: float = 60.0
    max_restarts: int = 5


class DeviceStatistics(NamedTuple):
    """A device and its worker; ``state`` is one of starting, up, restarting, failed, stopped."""

    name: str
    state: str
    reason: str
    description: str
    restarts: int
    pinned: bool
    memory_bytes: dict[str, int]


class _Flight(NamedTuple):
    serial: int
    batch: Batch
    slot: int
    sent_at: float


@dataclass(slots=True, eq=False)
class _Load:
    """A load that was asked of a worker.

    ``begun`` is False when the worker ended before it came to it: it takes messages in order, so
    whatever it was sent before is to blame.
    """

    serial: int
    spec: LoadSpec
    result: asyncio.Future[LoadReport | ModelError]
    begun: bool = True


@dataclass(slots=True, eq=False)
class _Device:
    """What the pool knows of one device."""

    command: WorkerCommand
    state: str = "starting"
    reason: str = ""
    description: str = ""
    pinned: bool = False
    restarts: int = 0
    memory_bytes: dict[str, int] = field(default_factory=dict)
    link: WorkerLink | None = None
    hello: asyncio.Future[None] | None = None
    gone: asyncio.Future[str] | None = None
    load: _Load | None = None
    work: asyncio.Event = field(default_factory=asyncio.Event)
    instances: dict[ModelRef, int] = field(default_factory=dict)
    refused: dict[ModelRef, ModelError] = field(default_factory=dict)
    outcomes: dict[ModelRef, asyncio.Future[LoadReport | ModelError]] = field(default_factory=dict)
    flights: deque[_Flight] = field(default_factory=deque)
    deaths: deque[float] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return self.command.device


class WorkerPool:
    """One worker process per device: an ``Executor``, and the loader of models.

    Invariants:

    - every batch that was started is completed exactly once, whatever happens to its worker;
    - a worker is only given batches of models that it reported as loaded;
    - a worker that breaks the protocol, hangs on a batch or dies is replaced, with growing delays;
      when that does not help, the device is given up and says why;
    - a model whose load kills its worker is not tried again on that device.
    """

    def __init__(self, commands: Sequence[WorkerCommand], clock: Clock, limits: PoolLimits) -> None:
        self._devices = {command.device: _Device(command) for command in commands}
        self._clock = clock
        self._limits = limits
        self._specs: dict[ModelRef, LoadSpec] = {}
        self._serials = itertools.count(1)
        self._listener: Listener
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: list[WorkerLink] = []
        self._stopping = False

    # -- life -----------------------------------------------------------------------------------

    async def launch(self, listener: Listener) -> None:
        """Start every worker and wait until each is up or given up."""
        self._listener = listener
        started = []
        for device in self._devices.values():
            up = self._loop.create_future()
            started.append(up)
            self._tasks.append(self._loop.create_task(self._keep_alive(device, up)))
        self._tasks.append(self._loop.create_task(self._watch()))
        await asyncio.gather(*started)

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # a bound, not a scope
        """Tell every worker to stop, wait, then kill what is left."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        links = [d.link for d in self._devices.values() if d.link is not None]
        for link in links:
            link.stop()
        await asyncio.gather(*(link.wait(timeout) for link in (*links, *self._ending)))
        for device in self._devices.values():
            device.state = "stopped"
            self._fail_flights(device, "the server stopped")

    def statistics(self) -> list[DeviceStatistics]:
        """Return the current figures of every device."""
        return [
            DeviceStatistics(
                d.name, d.state, d.reason, d.description, d.restarts, d.pinned, d.memory_bytes
            )
            for d in self._devices.values()
        ]

    async def _keep_alive(self, device: _Device, started: asyncio.Future[None]) -> None:
        """Run a device's worker, and the next one when it ends, until that is hopeless."""
        delay = FIRST_DELAY
        while True:
            device.gone = self._loop.create_future()
            why = await self._bring_up(device)
            if why is None:
                if not started.done():
                    started.set_result(None)
                why = await self._keep_loading(device)
                delay = FIRST_DELAY
            if self._stopping:
                return
            if self._is_hopeless(device):
                device.state = "failed"
                device.reason = f"its worker ended {len(device.deaths)} times in a minute: {why}"
                log.error("device %s is given up: %s", device.name, device.reason)
                if not started.done():
                    started.set_result(None)
                self._settle_rest(device)
                self._listener.device_failed(device.name, device.reason)
                return
            device.state, device.reason = "restarting", why
            device.restarts += 1
            log.warning("worker of %s: %s; a new one in %.1f s", device.name, why, delay)
            await asyncio.sleep(delay)
            delay = min(LAST_DELAY, 2 * delay)

    def _is_hopeless(self, device: _Device) -> bool:
        now = self._clock.now()
        device.deaths.append(now)
        while device.deaths[0] < now - RESTART_WINDOW:
            device.deaths.popleft()
        return len(device.deaths) > self._limits.max_restarts

    async def _bring_up(self, device: _Device) -> str | None:
        """Start a worker; return why it failed, or None once it said hello."""
        device.hello = self._loop.create_future()
        device.instances.clear()
        try:
            device.link = WorkerLink(device.command, self._loop, self._on_message, self._on_gone)
        except OSError as error:
            return f"its process could not be started ({error.strerror})"
        assert device.gone is not None  # noqa: S101  # set by the caller
        done, _ = await asyncio.wait(
            (device.hello, device.gone),
            timeout=self._limits.start_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            device.link.kill(f"not up within {self._limits.start_timeout:g} s")
        if device.gone.done():
            return device.gone.result()
        device.state, device.reason = "up", ""
        self._listener.device_up(device.name)
        return None

    async def _watch(self) -> None:
        """End workers that hang. The limit is kept here because a hung worker cannot keep it."""
        limit = self._limits.batch_timeout
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self._ending = [link for link in self._ending if not link.reap()]
            oldest = self._clock.now() - limit
            for device in self._devices.values():
                if not device.flights or device.link is None:
                    continue
                first, load = device.flights[0], device.load
                if load is not None and load.serial < first.serial:
                    continue  # it waits behind a load, which has a limit of its own
                if first.sent_at < oldest:
                    device.link.kill(f"a batch took longer than {limit:g} s")

    # -- models ---------------------------------------------------------------------------------

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version onto every device; return, by device, the report or what was wrong.

        It is loaded onto every later worker of these devices as well; the listener is told.
        """
        self._specs[spec.ref] = spec
        outcomes = {
            device.name: self._outcome(device, spec.ref) for device in self._devices.values()
        }
        for device in self._devices.values():
            if device.state == "failed":
                self._settle_rest(device)
            device.work.set()
        results = dict(zip(outcomes, await asyncio.gather(*outcomes.values()), strict=True))
        if all(isinstance(result, ModelError) for result in results.values()):
            self._specs.pop(spec.ref, None)
        return results

    def unload(self, ref: ModelRef) -> None:
        """Drop a version from every device; batches already sent still run."""
        self._specs.pop(ref, None)
        for device in self._devices.values():
            device.refused.pop(ref, None)
            device.outcomes.pop(ref, None)
            serial = device.instances.pop(ref, None)
            if serial is not None:
                self._listener.model_gone(device.name, ref)
                if device.link is not None:
                    device.link.send(wire.write_note(wire.Kind.UNLOAD, serial))

    def _outcome(
        self, device: _Device, ref: ModelRef
    ) -> asyncio.Future[LoadReport | ModelError]:
        if ref not in device.outcomes:
            device.outcomes[ref] = self._loop.create_future()
        return device.outcomes[ref]

    def _settle(self, device: _Device, ref: ModelRef, result: LoadReport | ModelError) -> None:
        outcome = self._outcome(device, ref)
        if not outcome.done():
            outcome.set_result(result)

    def _settle_rest(self, device: _Device) -> None:
        for ref in self._specs:
            msg = f"device {device.name} failed: {device.reason}"
            self._settle(device, ref, ModelError(msg))

    async def _keep_loading(self, device: _Device) -> str:
        """Load what is to be loaded onto a live worker; return why the worker ended."""
        gone = device.gone
        assert gone is not None  # noqa: S101  # set before every worker is started
        while not gone.done():
            device.work.clear()
            waiting = (
                spec
                for ref, spec in self._specs.items()
                if ref not in device.instances and ref not in device.refused
            )
            spec = next(waiting, None)
            if spec is not None:
                await self._load_on(device, spec, gone)
                continue
            work = self._loop.create_task(device.work.wait())
            try:
                await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            finally:
                work.cancel()
        return gone.result()

    async def _load_on(self, device: _Device, spec: LoadSpec, gone: asyncio.Future[str]) -> None:
        link = device.link
        assert link is not None  # noqa: S101  # a worker is up
        serial = next(self._serials)
        loaded: asyncio.Future[LoadReport | ModelError] = self._loop.create_future()
        load = device.load = _Load(serial, spec, loaded)
        result: LoadReport | ModelError
        try:
            with await self._loop.run_in_executor(None, spec.open) as sealed:
                load.begun = link.alive
                document = spec.options.to_json()
                link.send(wire.write_note(wire.Kind.LOAD, serial, document), (sealed.fd,))
            await asyncio.wait(
                (loaded, gone),
                timeout=self._limits.load_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if loaded.done():
                result = loaded.result()
            elif gone.done() and not load.begun:
                return  # the next worker will be asked
            elif gone.done():
                msg = f"the worker process ended while it loaded the model: {gone.result()}"
                result = ModelError(msg)
            else:
                msg = f"it was not loaded within {self._limits.load_timeout:g} s"
                result = ModelError(msg)
                link.kill(f"model {spec.ref} hung while it was loaded")
        except ModelError as error:  # the file is not there, or not what it was
            result = error
        except wire.WireError as error:  # its signature is too long for a message
            result = ModelError(str(error))
        except wire.WireError as error:
            result = ModelError(f"its signature is too long to be sent to a worker: {error}")
        except OSError as error:
            result = ModelError(f"its file could not be opened ({error.strerror})")
        finally:
            device.load = None
            self._restart_watch(device)
        if isinstance(result, ModelError):
            device.refused[spec.ref] = result
            self._listener.model_refused(device.name, spec.ref, result)
        else:
            device.instances[spec.ref] = serial
            self._listener.model_loaded(device.name, spec.ref, result)
        self._settle(device, spec.ref, result)

    # -- batches --------------------------------------------------------------------------------

    def start(self, batch: Batch) -> None:
        """Gather a batch into a slot and send it off."""
        device = self._devices[batch.device]
        link, instance = device.link, device.instances.get(batch.key.model)
        if link is None or not link.alive or instance is None:
            self._complete_soon(batch, WorkerLost("the worker of this model was just replaced"))
            return
        serial = next(self._serials) & 0xFFFFFFFF
        slot = link.slots.acquire()
        try:
            tensors = gather(batch, link.slots, slot)
        except JitneyError as error:
            link.slots.release(slot)
            self._complete_soon(batch, error)
            return
        device.flights.append(_Flight(serial, batch, slot, self._clock.now()))
        link.send(wire.write_run(serial, instance, batch.rows, slot, tensors))

    def _complete_soon(self, batch: Batch, error: JitneyError) -> None:
        self._clock.call_soon(lambda: self._listener.completed(batch, Completion(None, error)))

    def _on_message(self, link: WorkerLink, message: wire.Done | wire.Failed | wire.Note) -> None:
        device = self._devices[link.device]
        if link is not device.link:
            return
        if isinstance(message, wire.Note):
            self._on_note(device, message)
            return
        if not device.flights or device.flights[0].serial != message.serial:
            msg = "an answer to no batch"
            raise wire.WireError(msg)
        flight = device.flights[0]
        if message.slot != flight.slot:
            msg = "an answer in another slot"
            raise wire.WireError(msg)
        if isinstance(message, wire.Failed):
            device.flights.popleft()
            self._restart_watch(device)
            link.slots.release(flight.slot)
            error = FAILURES[message.failure](message.text)
            self._listener.completed(flight.batch, Completion(None, error, *message.stamps))
            return
        completion = read_done(flight.batch, link.slots, message)
        device.flights.popleft()
        if device.flights:  # what was staged starts now, for the watch
            device.flights[0] = device.flights[0]._replace(sent_at=self._clock.now())
        device.memory_bytes["allocated"] = message.allocated_bytes
        device.memory_bytes["reserved"] = message.reserved_bytes
        try:
            self._listener.completed(flight.batch, completion)
        finally:
            link.slots.release(flight.slot)

    def _on_note(self, device: _Device, note: wire.Note) -> None:
        document = note.document
        if note.kind is wire.Kind.HELLO:
            device.description = str(document.get("description", ""))[:200]
            device.pinned = document.get("pinned") is True
            memory = document.get("memory")
            if isinstance(memory, dict):
                device.memory_bytes = {
                    str(kind)[:20]: size for kind, size in memory.items() if isinstance(size, int)
                }
            if device.hello is not None and not device.hello.done():
                device.hello.set_result(None)
            return
        load = device.load
        if load is None or load.serial != note.serial:
            msg = f"a {note.kind.name} of no load"
            raise wire.WireError(msg)
        if note.kind is wire.Kind.PROGRESS:
            load.spec.progress(device.name, str(document.get("text", ""))[:500])
        elif note.kind is wire.Kind.LOADED and not load.result.done():
            try:
                load.result.set_result(LoadReport.from_json(document))
            except JitneyError as error:
                msg = f"a malformed report: {error}"
                raise wire.WireError(msg) from error
        elif note.kind is wire.Kind.REFUSED and not load.result.done():
            refusal = ModelError(str(document.get("text", ""))[:8000])
            refusal.reason = str(document.get("reason", "MODEL_INVALID"))[:40]
            load.result.set_result(refusal)

    def _restart_watch(self, device: _Device) -> None:
        """Let the time of the next batch begin now: what was before it has ended."""
        if device.flights:
            device.flights[0] = device.flights[0]._replace(sent_at=self._clock.now())

    def _on_gone(self, link: WorkerLink, why: str) -> None:
        self._ending.append(link)
        device = self._devices[link.device]
        if link is not device.link:
            return
        if device.load is not None and any(f.serial < device.load.serial for f in device.flights):
            device.load.begun = False
        was_up = device.state == "up"
        device.state, device.reason = "restarting", why
        device.instances.clear()
        if was_up:
            self._listener.device_down(device.name)
        self._fail_flights(device, "the worker process ended while it ran this request's batch")
        if device.gone is not None and not device.gone.done():
            device.gone.set_result(why)

    def _fail_flights(self, device: _Device, why: str) -> None:
        flights, device.flights = device.flights, deque()
        for flight in flights:
            self._listener.completed(flight.batch, Completion(None, WorkerLost(why)))
