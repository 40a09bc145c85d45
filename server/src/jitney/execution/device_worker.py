"""One device's worker: kept alive, given models and batches, and replaced when it ends."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import JitneyError, ModelError, WorkerLost
from jitney.execution import wire
from jitney.execution.deaths import MOST_CRASHES, Deaths
from jitney.execution.executor import Completion
from jitney.execution.flights import Flights
from jitney.execution.link import WorkerCommand, WorkerLink
from jitney.load_report import LoadReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jitney.clock import Clock
    from jitney.execution.executor import Listener
    from jitney.execution.loading import LoadSpec
    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef

__all__ = ["DeviceWorker", "WorkerLimits"]

log = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 30.0
"""Seconds: the first and the longest wait before a new worker."""


class WorkerLimits(NamedTuple):
    """Bounds in seconds, and how many times a device's worker may die within a minute."""

    start_timeout: float = 120.0
    load_timeout: float = 600.0
    batch_timeout: float = 60.0
    max_restarts: int = 5


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


class DeviceWorker:
    """The worker of one device, whichever process that is at the moment.

    ``specs`` are the models that it should have; the pool adds and removes them, and sets ``work``
    or calls ``forget``. ``state`` is one of starting, up, restarting, failed, stopped.

    Invariants:

    - every batch that was started is completed exactly once, whatever happens to the process;
    - a process is only given batches of models that it reported as loaded;
    - a model that ends the process again and again (``deaths``) is not tried again, so it does not
      cost the others their device, and a single kill from outside costs nobody anything.
    """

    def __init__(
        self,
        command: WorkerCommand,
        clock: Clock,
        limits: WorkerLimits,
        specs: Mapping[ModelRef, LoadSpec],
        serials: Iterator[int],
    ) -> None:
        self.name = command.device
        self.state = "starting"
        self.reason = ""
        self.description = ""
        self.pinned = False
        self.restarts = 0
        self.memory_bytes: dict[str, int] = {}
        self.started = asyncio.Event()
        self.work = asyncio.Event()
        self._command = command
        self._clock = clock
        self._limits = limits
        self._specs = specs
        self._serials = serials
        self._loop = asyncio.get_running_loop()
        self._listener: Listener
        self._link: WorkerLink | None = None
        self._ending: list[WorkerLink] = []
        self._hello: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[str] | None = None
        self._load: _Load | None = None
        self._culprit: ModelRef | None = None
        self._died_loading: ModelRef | None = None
        self._worked = False
        self._instances: dict[ModelRef, int] = {}
        self._refused: dict[ModelRef, ModelError] = {}
        self._outcomes: dict[ModelRef, asyncio.Future[LoadReport | ModelError]] = {}
        self._flights = Flights()
        self._deaths = Deaths(limits.max_restarts)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<DeviceWorker {self.name} {self.state}, {len(self._instances)} models>"

    # -- life -----------------------------------------------------------------------------------

    async def keep_alive(self, listener: Listener) -> None:
        """Run a worker, and the next one when it ends, until that is hopeless.

        ``started`` is set once the first worker is up, or the device was given up.
        """
        self._listener = listener
        try:
            await self._live()
        except Exception:
            # A bug here must not look like a device that is merely quiet.
            log.exception("the supervision of %s ended", self.name)
            if self._link is not None:
                self._link.kill("its supervision ended")
            self._give_up("internal error; the log has the details")

    async def _live(self) -> None:
        delay = FIRST_DELAY
        while True:
            self._gone = self._loop.create_future()
            why = await self._bring_up()
            if why is None:
                self.started.set()
                why = await self._keep_loading()
                delay = FIRST_DELAY
            if self._is_hopeless():
                self._give_up(f"its worker ended {len(self._deaths)} times in a minute: {why}")
                return
            self.state, self.reason = "restarting", why
            self.restarts += 1
            log.warning("worker of %s: %s; a new one in %.1f s", self.name, why, delay)
            await asyncio.sleep(delay)
            delay = min(LAST_DELAY, 2 * delay)

    def _give_up(self, why: str) -> None:
        self.state, self.reason = "failed", why
        log.error("device %s is given up: %s", self.name, why)
        self.started.set()
        self._settle_rest()
        self._listener.device_failed(self.name, why)

    def _is_hopeless(self) -> bool:
        now = self._clock.now()
        if self._died_loading is not None:
            return self._deaths.note_of_load(now, self._died_loading, works=self._worked).hopeless
        others = self._specs.keys() - self._refused.keys() - {self._culprit}
        verdict = self._deaths.note(now, self._culprit, others=bool(others))
        if verdict.refuse is not None:
            why = f"its batches ended the worker process {MOST_CRASHES} times within a minute"
            self._refuse(verdict.refuse, ModelError(why))
        return verdict.hopeless

    def _refuse(self, ref: ModelRef, error: ModelError) -> None:
        self._refused[ref] = error
        self._listener.model_refused(self.name, ref, error)

    async def _bring_up(self) -> str | None:
        """Start a worker; return why it failed, or None once it said hello."""
        self._hello = self._loop.create_future()
        self._instances.clear()
        self._culprit = self._died_loading = None
        try:
            self._link = WorkerLink(self._command, self._loop, self._on_message, self._on_gone)
        except OSError as error:
            return f"its process could not be started ({error.strerror})"
        assert self._gone is not None  # noqa: S101  # set by the caller
        done, _ = await asyncio.wait(
            (self._hello, self._gone),
            timeout=self._limits.start_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            self._link.kill(f"not up within {self._limits.start_timeout:g} s")
        if self._gone.done():
            return self._gone.result()
        self.state, self.reason = "up", ""
        self._listener.device_up(self.name)
        return None

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # a bound, not a scope
        """Tell the process to stop, wait, then kill it; to be called after ``keep_alive`` ended."""
        links = list(self._ending)
        if self._link is not None:
            self._link.stop()
            links.append(self._link)
        await asyncio.gather(*(link.wait(timeout) for link in links))
        self.state = "stopped"
        self._fail_flights("the server stopped")

    def watch(self) -> None:
        """End a process that hangs, and let go of those that ended; to be called now and then.

        The limit is kept here, outside of the process, because a hung one cannot keep it.
        """
        self._ending = [link for link in self._ending if not link.reap()]
        first = self._flights.first
        if first is None or self._link is None:
            return
        if self._load is not None and self._load.serial < first.serial:
            return  # it waits behind a load, which has a limit of its own
        limit = self._limits.batch_timeout
        if first.sent_at < self._clock.now() - limit:
            self._link.kill(f"a batch took longer than {limit:g} s")

    def slot_bytes(self) -> tuple[int, int]:
        """Return the bytes of the batch buffers of the process, and of those that are held."""
        return (0, 0) if self._link is None else self._link.slots.nbytes()

    # -- models ---------------------------------------------------------------------------------

    def outcome(self, ref: ModelRef) -> asyncio.Future[LoadReport | ModelError]:
        """Return what will be known of the first load of a model."""
        if ref not in self._outcomes:
            self._outcomes[ref] = self._loop.create_future()
        if self.state == "failed":
            self._settle_rest()
        return self._outcomes[ref]

    def forget(self, ref: ModelRef) -> None:
        """Drop a model that was taken out of ``specs``; batches already sent still run.

        One that is being loaded is dropped when that has ended.
        """
        self._refused.pop(ref, None)
        outcome = self._outcomes.pop(ref, None)
        if outcome is not None and not outcome.done():
            outcome.set_result(ModelError("it was unloaded before it was loaded"))
        serial = self._instances.pop(ref, None)
        if serial is not None:
            self._listener.model_gone(self.name, ref)
            if self._link is not None:
                self._link.send(wire.write_note(wire.Kind.UNLOAD, serial))

    def _settle(self, ref: ModelRef, result: LoadReport | ModelError) -> None:
        outcome = self._outcomes.setdefault(ref, self._loop.create_future())
        if not outcome.done():
            outcome.set_result(result)

    def _settle_rest(self) -> None:
        for ref in self._specs:
            msg = f"device {self.name} failed: {self.reason}"
            self._settle(ref, ModelError(msg))

    async def _keep_loading(self) -> str:
        """Load what is to be loaded onto a live worker; return why the worker ended."""
        gone = self._gone
        assert gone is not None  # noqa: S101  # set before every worker is started
        while not gone.done():
            self.work.clear()
            waiting = (
                spec
                for ref, spec in self._specs.items()
                if ref not in self._instances and ref not in self._refused
            )
            spec = next(waiting, None)
            if spec is not None:
                await self._load_on(spec, gone)
                continue
            work = self._loop.create_task(self.work.wait())
            try:
                await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            finally:
                work.cancel()
        return gone.result()

    async def _load_on(self, spec: LoadSpec, gone: asyncio.Future[str]) -> None:
        link = self._link
        assert link is not None  # noqa: S101  # a worker is up
        loaded: asyncio.Future[LoadReport | ModelError] = self._loop.create_future()
        serial = 0
        result: LoadReport | ModelError
        try:
            with await self._loop.run_in_executor(None, spec.open) as sealed:
                if not link.alive:
                    return  # the next worker will be asked
                # Drawn only now: serials are in the order in which messages are sent, which is
                # how it is known what a worker was at when it ended.
                serial = next(self._serials)
                load = self._load = _Load(serial, spec, loaded)
                document = spec.options.to_json()
                self._listener.device_loading(self.name, loading=True)
                link.send(wire.write_note(wire.Kind.LOAD, serial, document), (sealed.fd,))
            await asyncio.wait(
                (loaded, gone),
                timeout=self._limits.load_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if loaded.done():
                result = loaded.result()
            elif not gone.done():
                result = ModelError(f"it was not loaded within {self._limits.load_timeout:g} s")
                link.kill(f"model {spec.ref} hung while it was loaded")
            elif not load.begun or self._deaths.note_while_loading(spec.ref):
                return  # the next worker will be asked
            else:
                why = f"the worker process ended while it loaded the model: {gone.result()}"
                result = ModelError(why)
        except ModelError as error:  # the file is not there, or not what it was
            result = error
        except wire.WireError as error:
            result = ModelError(f"its signature is too long to be sent to a worker: {error}")
        except OSError as error:
            result = ModelError(f"its file could not be opened ({error.strerror})")
        finally:
            self._load = None
            self._listener.device_loading(self.name, loading=False)
            self._flights.restart_watch(self._clock.now())
        self._loaded(link, spec, serial, result)

    def _loaded(
        self, link: WorkerLink, spec: LoadSpec, serial: int, result: LoadReport | ModelError
    ) -> None:
        """Note how a load ended."""
        if self._specs.get(spec.ref) is not spec:  # it was unloaded meanwhile
            if isinstance(result, LoadReport):
                link.send(wire.write_note(wire.Kind.UNLOAD, serial))
            return
        if isinstance(result, ModelError):
            self._refuse(spec.ref, result)
        else:
            self._instances[spec.ref] = serial
            self._deaths.forgive(spec.ref)
            self._listener.model_loaded(self.name, spec.ref, result)
        self._settle(spec.ref, result)

    # -- batches --------------------------------------------------------------------------------

    def start(self, batch: Batch) -> None:
        """Send a batch off; what goes wrong becomes a completion, soon."""
        link, instance = self._link, self._instances.get(batch.key.model)
        if link is None or not link.alive or instance is None:
            self._complete_soon(batch, WorkerLost("the worker of this model was just replaced"))
            return
        serial = next(self._serials)
        try:
            self._flights.send(link, instance, serial, batch, self._clock.now())
        except JitneyError as error:
            self._complete_soon(batch, error)

    def _complete_soon(self, batch: Batch, error: JitneyError) -> None:
        self._clock.call_soon(lambda: self._listener.completed(batch, Completion(None, error)))

    # -- what the process tells -----------------------------------------------------------------

    def _on_message(self, link: WorkerLink, message: wire.Done | wire.Failed | wire.Note) -> None:
        if link is not self._link:
            return
        if isinstance(message, wire.Note):
            self._on_note(message)
            return
        flight, completion = self._flights.land(link, message, self._clock.now())
        if isinstance(message, wire.Done):
            self.memory_bytes["allocated"] = message.allocated_bytes
            self.memory_bytes["reserved"] = message.reserved_bytes
        try:
            self._listener.completed(flight.batch, completion)
        finally:
            link.slots.release(flight.slot)

    def _on_note(self, note: wire.Note) -> None:
        document = note.document
        if note.kind is wire.Kind.HELLO:
            self.description = str(document.get("description", ""))[:200]
            self.pinned = document.get("pinned") is True
            memory = document.get("memory")
            if isinstance(memory, dict):
                self.memory_bytes = {
                    str(kind)[:20]: size
                    for kind, size in memory.items()
                    if isinstance(size, int) and 0 <= size < 1 << 63
                }
            if self._hello is not None and not self._hello.done():
                self._hello.set_result(None)
            return
        load = self._load
        if load is None or load.serial != note.serial:
            msg = f"a {note.kind.name} of no load"
            raise wire.WireError(msg)
        if note.kind is wire.Kind.PROGRESS:
            load.spec.progress(self.name, str(document.get("text", ""))[:500])
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

    def _on_gone(self, link: WorkerLink, why: str) -> None:
        self._ending.append(link)
        if link is not self._link:
            return
        load, first = self._load, self._flights.first
        if load is not None and self._flights.any_before(load.serial):
            load.begun = False
        if load is not None and load.begun:
            self._died_loading, self._worked = load.spec.ref, bool(self._instances)
        elif first is not None:
            self._culprit = first.batch.key.model
        was_up = self.state == "up"
        self.state, self.reason = "restarting", why
        self._instances.clear()
        if was_up:
            self._listener.device_down(self.name)
        self._fail_flights("the worker process ended while it ran this request's batch")
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(why)

    def _fail_flights(self, why: str) -> None:
        for batch in self._flights.abandon():
            self._listener.completed(batch, Completion(None, WorkerLost(why)))
