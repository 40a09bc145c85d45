"""One device's worker: kept alive, given models and batches, and replaced when it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from jitney.errors import JitneyError, ModelError, WorkerLost
from jitney.execution import wire
from jitney.execution.backoff import FIRST_DELAY, Backoff
from jitney.execution.batch_limits import BatchLimits
from jitney.execution.deaths import MOST_CRASHES, WINDOW, Deaths
from jitney.execution.ending import Cause, Ending
from jitney.execution.executor import Completion
from jitney.execution.flights import Flights
from jitney.execution.loads import Loads
from jitney.execution.spare import Spare
from jitney.execution.vigil import Timed, Vigil
from jitney.execution.worker_life import WorkerLife

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jitney.clock import Clock
    from jitney.execution.executor import Listener
    from jitney.execution.link import WorkerCommand, WorkerLink
    from jitney.execution.loading import LoadSpec
    from jitney.load_report import LoadReport
    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef

__all__ = ["DeviceWorker", "WorkerLimits"]

log = logging.getLogger(__name__)

PROBE_EVERY: Final = 60.0
"""Seconds from giving a device up to the next try."""
USUAL_START: Final = 3.0
"""Seconds until a worker is up, before one was: mostly the import of torch."""
LOST: Final = "the worker process ended while it ran this request's batch"
RERUNS: Final[dict[Cause, Literal["never", "whole", "apart"]]] = {
    Cause.OUTSIDE: "whole",
    Cause.CRASH: "apart",
    Cause.HUNG: "never",
}
"""What may become of a batch that was running, by how its worker ended."""


class WorkerLimits(NamedTuple):
    """Bounds in seconds, and how many times a device's worker may die within a minute.

    A batch may take ``batch_timeout_factor`` times its plan, at most ``batch_timeout``
    (``BatchLimits``). ``spares`` is how many processes wait to replace one that ends, 0 or 1.
    Requests may wait for a new worker if that takes ``wait_for_worker`` at most.
    """

    start_timeout: float = 120.0
    load_timeout: float = 600.0
    batch_timeout: float = 60.0
    max_restarts: int = 5
    batch_timeout_factor: float = 0.0
    spares: int = 0
    wait_for_worker: float = 5.0


class DeviceWorker:
    """The worker of one device, whichever process that is at the moment.

    ``specs`` are the models that it should have; the pool adds and removes them, and sets ``work``
    or calls ``forget``. ``state`` is one of starting, up, restarting, failed, stopped.

    Invariants:

    - every batch that was started is completed exactly once, whatever happens to the process;
    - a process is only given batches of models that it reported as loaded;
    - a model that ends the process again and again (``deaths``) is not tried again, so it does not
      cost the others their device, and a single kill from outside costs nobody anything;
    - nobody is blamed for a process that somebody else has killed, once it had answered a batch;
    - a device that failed is out until a process, one a minute, has come up and stays.
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
        self._fields = {"device": self.name}
        self._command = command
        self._clock = clock
        self._limits = limits
        self._specs = specs
        self._serials = serials
        self._loop = asyncio.get_running_loop()
        self._listener: Listener
        self._life: WorkerLife | None = None
        self._spare = Spare(self._start, clock, wanted=limits.spares > 0)
        self._ending: list[WorkerLink] = []
        self._culprit: ModelRef | None = None
        self._was_part = False
        self._died_loading: ModelRef | None = None
        self._had_models = False
        self._on_probation = False
        self._start_seconds = USUAL_START
        self._flights = Flights()
        self._vigil = Vigil()
        self._batch_limits = BatchLimits(limits.batch_timeout, limits.batch_timeout_factor)
        self._deaths = Deaths(limits.max_restarts)
        self._backoff = Backoff()
        self._loads = Loads(self.name, specs, serials, self._deaths, limits.load_timeout)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<DeviceWorker {self.name} {self.state}, {len(self._loads.instances)} models>"

    # -- life -----------------------------------------------------------------------------------

    async def keep_alive(self, listener: Listener) -> None:
        """Run a worker, and the next one when it ends.

        ``started`` is set once the first worker is up, or the device was given up.
        """
        self._listener = self._loads.listener = listener
        try:
            await self._live()
        except Exception:
            # A bug here must not look like a device that is merely quiet.
            log.exception("the supervision of %s ended", self.name, extra=self._fields)
            if self._life is not None:
                self._life.link.kill("its supervision ended", Cause.OUTSIDE)
            self._give_up("internal error; the log has the details")

    async def _live(self) -> None:
        while True:
            ending = await self._one_life()
            worked = self._life is not None and (
                self._life.worked or self._clock.now() - self._life.born > WINDOW
            )
            delay = self._backoff.after(worked=worked)
            why = self._hopeless(ending, worked=worked)
            if why:
                delay, self._on_probation = PROBE_EVERY, True
                self._give_up(f"{why}; tried again in {PROBE_EVERY:g} s")
            elif self.state != "failed":
                self.state, self.reason = "restarting", ending.why
                text = "worker of %s: %s; a new one in %.1f s"
                log.warning(text, self.name, ending.why, delay, extra=self._fields)
            if delay > FIRST_DELAY or self._spare.life is None:
                await asyncio.sleep(delay)
            self.restarts += 1

    async def _one_life(self) -> Ending:
        """Run a process from its start to its end."""
        self._culprit = self._died_loading = None
        self._life = None
        try:
            life = self._life = self._spare.take() or self._start()
        except OSError as error:
            why = f"its process could not be started ({error.strerror})"
            return Ending(why, Cause.CRASH)
        ending = await life.until_up(self._limits.start_timeout)
        if ending is not None:
            return ending
        self._came_up(life)
        self.started.set()
        return await self._keep_loading(life)

    def _start(self) -> WorkerLife:
        return WorkerLife(self._command, self._loop, self._clock, self._on_ended)

    def _came_up(self, life: WorkerLife) -> None:
        life.take(self._on_message)
        hello = life.hello.result()
        self._start_seconds = life.heard - life.born
        self.description, self.pinned = hello.description, hello.pinned
        self.memory_bytes = dict(hello.memory)
        self._loads.instances.clear()
        self._batch_limits.restart()
        for step in hello.unconfined:
            log.warning(
                "the worker of %s is not confined by %s", self.name, step, extra=self._fields
            )
        self.state, self.reason = "up", ""
        self._listener.device_up(self.name)

    def _give_up(self, why: str) -> None:
        log.error("device %s is given up: %s", self.name, why, extra=self._fields)
        known = self.state == "failed"
        self.state, self.reason = "failed", why
        self.started.set()
        self._loads.settle_rest(why)
        if not known:
            self._listener.device_failed(self.name, why)

    def _hopeless(self, ending: Ending, *, worked: bool) -> str:
        """Count the end of a process; return why the device is to be given up, if it is."""
        life, now = self._life, self._clock.now()
        hello = life.hello.result() if life is not None and life.hello.done() else None
        if hello is not None and hello.unable:
            if self._command.confinement == "auto":
                log.warning(
                    "the worker of %s cannot start confined (%s): from now on it is not confined",
                    self.name,
                    hello.unable,
                    extra=self._fields,
                )
                self._command.confinement = "off"
                return ""
            if hello.final:
                return hello.unable
        if worked:
            self._on_probation = False
        if worked and ending.cause is Cause.OUTSIDE:
            return ""
        if self._died_loading is not None:
            verdict = self._deaths.note_of_load(now, self._died_loading, works=self._had_models)
        else:
            others = self._specs.keys() - self._loads.refused.keys() - {self._culprit}
            verdict = self._deaths.note(
                now, self._culprit, others=bool(others), again=self._was_part
            )
        if verdict.refuse is not None:
            why = f"its batches ended the worker process {MOST_CRASHES} times within a minute"
            self._loads.refuse(verdict.refuse, ModelError(why))
        if verdict.hopeless:
            return f"its worker ended {len(self._deaths)} times in a minute: {ending.why}"
        return f"its worker ended again: {ending.why}" if self._on_probation else ""

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # a bound, not a scope
        """Tell the process to stop, wait, then kill it; to be called after ``keep_alive`` ended."""
        self._spare.stop()
        links = list(self._ending)
        for life in (self._life, self._spare.life):
            if life is not None:
                life.link.stop()
                links.append(life.link)
        await asyncio.gather(*(link.wait(timeout) for link in links))
        self.state = "stopped"
        for flight in self._flights.abandon():
            self._complete(flight.batch, WorkerLost("the server stopped"))

    def _returns_in(self) -> float:
        """Return in how many seconds a new process will have the models, if all goes as before."""
        ready = self._spare.life is not None and self._spare.life.is_up
        return FIRST_DELAY + (0.0 if ready else self._start_seconds) + self._loads.seconds()

    def watch(self) -> None:
        """End a process that hangs, and let go of those that ended; to be called now and then.

        The limits are kept here, outside of the process, because a hung one cannot keep them.
        """
        self._ending = [link for link in self._ending if not link.reap()]
        life, load, first = self._life, self._loads.current, self._flights.first
        if life is None or not life.link.alive:
            return
        busy = first is not None or load is not None or not life.is_up
        if load is not None and first is not None and load.serial < first.serial:
            first = None  # it waits behind a load, which has a limit of its own
        # Its limit is asked for here, four times a second, and not for every batch.
        timed = first and Timed(first.sent_at, self._batch_limits.of(first.batch))
        verdict = self._vigil.look(
            self._clock.now(), life.last_sign(), timed, life.link.is_stopped, busy=busy
        )
        if verdict is not None:
            life.link.kill(verdict.why, verdict.cause)

    def slot_bytes(self) -> tuple[int, int]:
        """Return the bytes of the batch buffers of the process, and of those that are held."""
        return (0, 0) if self._life is None else self._life.link.slots.nbytes()

    # -- models ---------------------------------------------------------------------------------

    def outcome(self, ref: ModelRef) -> asyncio.Future[LoadReport | ModelError]:
        """Return what will be known of the first load of a model."""
        outcome = self._loads.outcome(ref)
        if self.state == "failed":
            self._loads.settle_rest(self.reason)
        return outcome

    def forget(self, ref: ModelRef) -> None:
        """Drop a model that was taken out of ``specs``; batches already sent still run."""
        self._loads.forget(ref, self._life)
        self._batch_limits.forget(ref)

    async def _keep_loading(self, life: WorkerLife) -> Ending:
        """Load what is to be loaded onto a live worker; return how the worker ended."""
        gone = life.gone
        while not gone.done():
            self.work.clear()
            spec = self._loads.next()
            if spec is not None:
                await self._loads.load(spec, life, self._restart_watch)
                continue
            self._spare.ensure()
            work = self._loop.create_task(self.work.wait())
            try:
                await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            finally:
                work.cancel()
        return gone.result()

    def _restart_watch(self) -> None:
        self._flights.restart_watch(self._clock.now())

    # -- batches --------------------------------------------------------------------------------

    def start(self, batch: Batch) -> None:
        """Send a batch off; what goes wrong becomes a completion, soon."""
        life, instance = self._life, self._loads.instances.get(batch.key.model)
        if life is None or not life.link.alive or instance is None:
            error = WorkerLost(
                "the worker of this model was just replaced",
                rerun="whole" if batch.key.model in self._specs else "never",
                back_in=self._returns_in(),
            )
            self._clock.call_soon(lambda: self._complete(batch, error))
            return
        serial = next(self._serials)
        try:
            self._flights.send(life.link, instance, serial, batch, self._clock.now())
        except JitneyError as error:
            failure = error
            self._clock.call_soon(lambda: self._complete(batch, failure))

    def _complete(self, batch: Batch, error: JitneyError) -> None:
        self._listener.completed(batch, Completion(None, error))

    # -- what the process tells -----------------------------------------------------------------

    def _on_message(self, link: WorkerLink, message: wire.Done | wire.Failed | wire.Note) -> None:
        life = self._life
        if life is None or life.link is not link:
            return
        if isinstance(message, wire.Note):
            self._loads.on_note(message)
            return
        if isinstance(message, wire.Failed) and message.failure is wire.Failure.FAULT:
            # It is about to exit, and must be given nothing before it has.
            link.kill(f"its device failed: {message.text[:500]}", Cause.CRASH)
            return
        flight, completion = self._flights.land(link, message, self._clock.now())
        if isinstance(message, wire.Done):
            life.worked = True
            self.memory_bytes["allocated"] = message.allocated_bytes
            self.memory_bytes["reserved"] = message.reserved_bytes
            self._batch_limits.ran(flight.batch, completion.copied_out - completion.started)
        try:
            self._listener.completed(flight.batch, completion)
        finally:
            link.slots.release(flight.slot)

    def _on_ended(self, life: WorkerLife, ending: Ending) -> None:
        self._ending.append(life.link)
        if self._spare.ended(life):
            log.warning("spare worker of %s: %s", self.name, ending.why, extra=self._fields)
        if life is not self._life:
            return
        load, running = self._loads.current, self._flights.at(life.begun)
        if running is not None and not ending.by_itself:
            running = self._flights.first
        if load is not None and self._flights.any_before(load.serial):
            load.begun = False
        if load is not None and load.begun:
            self._died_loading = load.spec.ref
            self._had_models = bool(self._loads.instances)
        elif running is not None and ending.cause is not Cause.OUTSIDE:
            self._culprit = running.batch.key.model
            self._was_part = running.batch.suspected > 0
        was_up = self.state == "up"
        if self.state != "failed":
            self.state, self.reason = "restarting", ending.why
        self._loads.instances.clear()
        if was_up:
            wait = self._returns_in()
            waits = wait <= self._limits.wait_for_worker
            self._listener.device_down(self.name, wait if waits else 0.0)
        for flight in self._flights.abandon():
            cause = ending.cause if flight is running else Cause.OUTSIDE
            error = WorkerLost(
                LOST,
                rerun=RERUNS[cause],
                suspect=cause is not Cause.OUTSIDE,
                back_in=self._returns_in(),
            )
            self._complete(flight.batch, error)
