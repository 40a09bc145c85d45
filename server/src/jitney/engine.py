"""What a transport talks to: a request goes in, a reply or an error comes out."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from jitney.errors import InvalidRequest, JitneyError, ModelError, NotSupported
from jitney.repository.check import check_data
from jitney.repository.handle import VersionState
from jitney.scheduling.batch import Entry, State
from jitney.sequencing import Sequencer
from jitney.splitting import Splitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.admission import Admission
    from jitney.clock import Clock
    from jitney.execution.executor import Completion
    from jitney.load_report import LoadReport
    from jitney.repository.handle import ModelVersion
    from jitney.repository.repository import Repository
    from jitney.scheduling.batch import Batch
    from jitney.scheduling.scheduler import Scheduler
    from jitney.telemetry.metrics import Metrics
    from jitney.types import ModelRef, Request

    OnEnd = Callable[[Entry, JitneyError | None], None]
    OnReply = Callable[[object], None]
    Waiter = Callable[[object, JitneyError | None], None]

__all__ = ["Engine"]

DECOUPLED: Final = "ModelInfer RPC doesn't support models with decoupled transaction policy"


class Engine:
    """Resolves, checks, admits and submits requests, and passes on what the workers report.

    All of it happens on the event loop that owns the scheduler; nothing here blocks or waits.
    ``submit`` is the real entry. Nothing above knows batches, nothing below knows a transport.

    It is also the executor's listener: what happens to devices concerns the repository (is the
    version ready?) and the scheduler (may a batch go there?), in that order.
    """

    def __init__(
        self,
        repository: Repository,
        scheduler: Scheduler,
        admission: Admission,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._repository = repository
        self._scheduler = scheduler
        self._splitter = Splitter(scheduler, admission)
        self._sequencer = Sequencer(scheduler, clock)
        self._admission = admission
        self._clock = clock
        self._metrics = metrics
        self._on_readiness: list[Callable[[], None]] = []
        self._on_end: OnEnd | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- requests -------------------------------------------------------------------------------

    def submit(self, request: Request, waiter: Waiter, on_reply: OnReply | None = None) -> Entry:
        """Accept a request; ``waiter(reply, error)`` is called once, unless it is cancelled.

        :param on_reply: is given every reply of a decoupled model, whose end ``waiter`` is told
            without one. Nobody else's model calls it.
        :raises NotSupported: when the model is decoupled, and there is no ``on_reply``.
        :raises JitneyError: when it is refused otherwise; ``waiter`` is not called in either case.
        """
        header = request.header
        version: ModelVersion | None = None
        now = self._clock.now()
        try:
            version = self._repository.resolve(header.model_name, header.model_version)
            request.model = version.ref
            if version.decoupled and on_reply is None:
                raise NotSupported(DECOUPLED)  # counted with the others
            plan = version.plan(header, request.deadline, now)
            checked = plan.checked
            if len(request.data) != len(checked.sizes):
                msg = f"{len(request.data)} tensors came for {len(checked.sizes)} inputs"
                raise InvalidRequest(msg)
            nbytes = check_data(header, checked.sizes, request.data, text=version.takes_text)
            version.check_bytes(nbytes, plan)
            self._admission.admit(nbytes, request.tenant)
        except JitneyError as error:
            self._metrics.request_refused(version.ref if version else None, error)
            raise
        limits = version.limits
        own = request.deadline
        entry = Entry(
            request,
            plan.key,
            checked.rows,
            nbytes,
            now,
            self._ended,
            deadline=now + limits.default_slo if own == math.inf else own,
            start_by=now + min(request.timeout, plan.default_timeout),
            priority=plan.priority,
            tenant=request.tenant,
            inputs=checked.order,
            outputs=checked.outputs,
        )
        entry.waiter = waiter
        if version.decoupled and on_reply is not None:
            entry.partial = self._counted(on_reply, now)
        version.entered()
        try:
            if version.sequence is None:
                self._splitter.submit(entry)
            else:
                self._sequencer.submit(entry, version.sequence)
        except JitneyError as error:
            self._admission.release(nbytes, request.tenant)
            version.left()
            self._metrics.request_refused(version.ref, error)
            raise
        return entry

    def cancel(self, entry: Entry) -> None:
        """Forget a request whose caller went away; idempotent, also after its end."""
        if entry.state is not State.DONE:
            parts = self._sequencer if entry.key.stateful else self._splitter
            stage = parts.cancel(entry)
            self._metrics.cancelled(entry.key.model, stage, self._clock.now() - entry.arrived)
            if stage == "queued":
                entry.request.release()  # what runs is still in its batch
            self._release(entry)

    async def infer(self, request: Request) -> object:
        """Submit and wait; cancelling the wait cancels the request.

        :raises JitneyError: when the request is refused or fails.
        """
        if (loop := self._loop) is None:
            # Kept: until Python 3.12, asking for it asks the kernel for the process' number.
            loop = self._loop = asyncio.get_running_loop()
        future = loop.create_future()

        def waiter(reply: object, error: JitneyError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(reply)
            else:
                future.set_exception(error)

        entry = self.submit(request, waiter)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(entry)
            raise

    def _ended(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        self._release(entry)
        if error is not None:
            self._metrics.request_failed(entry, error, self._clock.now() - entry.arrived)
        if self._on_end is not None:
            self._on_end(entry, error)
        if entry.waiter is not None:
            entry.waiter(reply, error)
        entry.request.release()

    def _counted(self, on_reply: OnReply, arrived: float) -> Callable[[Entry, object], None]:
        last, number = arrived, 0

        def passed_on(entry: Entry, reply: object) -> None:
            nonlocal last, number
            now = self._clock.now()
            self._metrics.produced(entry.key.model, number, now - last)
            last, number = now, number + 1
            on_reply(reply)

        return passed_on

    def on_end(self, callback: OnEnd | None) -> None:
        """Call back with each request that ended after it was accepted; None for nobody."""
        self._on_end = callback

    def _release(self, entry: Entry) -> None:
        self._admission.release(entry.nbytes, entry.tenant)
        version = self._repository.version(entry.key.model)
        if version is not None:
            version.left()

    # -- the end ---------------------------------------------------------------------------------

    def drain(self, on_idle: Callable[[], None]) -> None:
        """Refuse what comes from now on, and let what waits leave; call back when all has ended."""
        self._admission.drain(on_idle)
        self._sequencer.drain()
        self._scheduler.drain()

    def refuse_rest(self) -> int:
        """End everything that still waits; return how many requests that were."""
        # Sequences first: the end of one of their requests lets the next one follow.
        return self._sequencer.refuse_rest() + self._scheduler.refuse_rest()

    def retired(self, model: ModelRef) -> None:
        """Note that a version takes no requests any more."""
        self._sequencer.retire(model)

    def waiting_in_sequences(self) -> dict[ModelRef, int]:
        """Return the rows that wait for the one before them, or for a place, by version."""
        return self._sequencer.waiting()

    # -- what the executor tells ----------------------------------------------------------------

    def on_readiness(self, callback: Callable[[], None]) -> None:
        """Call back after anything that may change which versions are ready."""
        self._on_readiness.append(callback)

    def completed(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch ended."""
        self._scheduler.completed(batch, completion)

    def produced(self, batch: Batch, completion: Completion) -> None:
        """Note one of several replies of a batch that goes on."""
        self._scheduler.produced(batch, completion)

    def detached(self, batch: Batch, completion: Completion) -> None:
        """Note that a batch needs its device no longer."""
        self._scheduler.detached(batch, completion)

    def device_up(self, device: str) -> None:
        """Note that a device can take batches."""
        self._scheduler.device_up(device)

    def device_down(self, device: str, back_in: float = 0.0) -> None:
        """Note that a device's worker ended and is being replaced."""
        # Sequences first: what they wait for shall find neither state nor a place any more. Also
        # those of loads that were replaced: the new worker has these too, without their state.
        for version in self._repository.loads():
            if version.sequence is not None and device in version.reports:
                self._sequencer.forget(version.ref, f"the worker of {device} is being replaced")
        self._repository.device_down(device, self._clock.now() + back_in if back_in else 0.0)
        self._scheduler.device_down(device)
        self._readiness_changed()

    def device_loading(self, device: str, *, loading: bool) -> None:
        """Note that a device begins or ends to load a model."""
        self._scheduler.device_loading(device, loading=loading)

    def device_failed(self, device: str, why: str) -> None:
        """Note that a device was given up; what waited for it alone cannot be served."""
        for ref in self._repository.device_failed(device, why):
            self._sequencer.forget(ref, "the device of this model failed")
            self._scheduler.abandon(ref, "the device of this model failed")
        self._readiness_changed()

    def model_loaded(self, device: str, model: ModelRef, report: LoadReport) -> None:
        """Note that a model can run on a device."""
        self._repository.model_loaded(device, model, report)
        self._scheduler.model_ready(device, model, report.latency)
        self._readiness_changed()

    def model_refused(self, device: str, model: ModelRef, error: ModelError) -> None:
        """Note that a model cannot be loaded onto a device."""
        self._repository.model_refused(device, model, error)
        version = self._repository.version(model)
        if version is not None and version.state is VersionState.UNAVAILABLE:
            self._sequencer.forget(model, "the model could not be loaded again")
            self._scheduler.abandon(model, "the model could not be loaded again")
        self._readiness_changed()

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Note that a model can no longer run on a device."""
        self._sequencer.forget(model, "the model was unloaded")
        self._scheduler.model_gone(device, model)
        self._readiness_changed()

    def _readiness_changed(self) -> None:
        for callback in self._on_readiness:
            callback()
