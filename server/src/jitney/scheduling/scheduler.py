"""The one loop: wait, expire, take, hand over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jitney.bugs import numbered
from jitney.errors import Draining, InferenceFailed, JitneyError, ModelNotReady, WorkerLost
from jitney.scheduling.batch import State
from jitney.scheduling.placement import place, runs_of_carriers
from jitney.scheduling.quarantine import Quarantine
from jitney.scheduling.reruns import harm, parts_of
from jitney.types import Timing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney.clock import Clock, Timer
    from jitney.execution.executor import Completion, Executor
    from jitney.latency_profile import LatencyProfile
    from jitney.scheduling.batch import Batch, Entry
    from jitney.scheduling.policy import Policy
    from jitney.telemetry.metrics import Metrics
    from jitney.types import BatchOutputs, ModelRef, Placed

    Members = Sequence[tuple[Entry, Placed]]

__all__ = ["Scheduler"]

log = logging.getLogger(__name__)


class Scheduler:
    """Feeds events to the policy and does what it decides.

    A *turn* is one pass of the loop. Turns happen soon after an entry was submitted (after the
    other events at hand, so that a burst shares a batch), at once when a batch ends, and when the
    policy's next moment has come; the first two not while nothing could come of them. Everything
    runs on one thread.

    A batch that fails is run again in parts until the culprit stands alone, and one whose worker
    ended, elsewhere or later (``reruns``): one bad request never fails its neighbours. Two kinds
    are not: that of a stateful model, whose state has moved on, and one that has given replies
    already. Every entry ends exactly once, with a reply or an error, unless it was cancelled.

    A batch of a decoupled model gives any number of replies before it ends, and may let go of its
    device long before. Its entries are told each, and then of the end, without a reply.
    """

    def __init__(self, policy: Policy, executor: Executor, clock: Clock, metrics: Metrics) -> None:
        self._policy = policy
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._going: dict[Batch, Completion | None] = {}
        self._quarantine = Quarantine()
        self._turn_is_due = False
        self._timer: Timer | None = None
        self._timer_due = 0.0

    def submit(self, entry: Entry) -> None:
        """Queue an entry.

        :raises DeadlineTooShort: when even an idle device would not be done in time.
        :raises Overloaded: when there is too much work.
        :raises InputQuarantined: when these inputs did harm lately. ``done`` is not called in any
            of these cases.
        """
        now = self._clock.now()
        if self._quarantine.active:
            self._quarantine.check(entry, now)
        for evicted, error in self._policy.offer(entry, now):
            self._finish(evicted, None, error)
        if not self._turn_is_due and not self._policy.is_settled(now):
            self._turn_is_due = True
            self._clock.call_soon(self._turn)

    def cancel(self, entry: Entry) -> str:
        """Forget an entry; its ``done`` will not be called. Idempotent, also after its end.

        :returns: where it was: ``queued`` or ``running``.
        """
        return "queued" if self._policy.cancel(entry) else "running"

    def drain(self) -> None:
        """Let everything that waits leave as soon as a device is free."""
        self._policy.drain()
        self._turn()

    def _turn(self) -> None:
        self._turn_is_due = False
        now = self._clock.now()
        turn = self._policy.turn(now)
        for batch in turn.batches:
            self._executor.start(batch)
            self._metrics.batch_started(batch)
        for entry, error in turn.refused:
            self._finish(entry, None, error)
        self._sleep_until(self._policy.next_due(now))

    def _sleep_until(self, due: float | None) -> None:
        # A timer that fires early costs one empty turn; re-arming it on every turn would cost
        # more, because most deadlines are far away and never reached.
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(due, self._wake)
        self._timer_due = due

    def _wake(self) -> None:
        self._timer = None
        self._turn()

    # -- what the executor tells ----------------------------------------------------------------

    def completed(self, batch: Batch, completion: Completion) -> None:
        """End a batch: give the device its next one first, then answer."""
        if batch in self._going:
            self._completed_going(batch, completion)
            return
        now = self._clock.now()
        if completion.error is None:
            self._leave_device(batch, completion, now)
            if not self._policy.is_settled(now):
                self._turn()
            if completion.outputs is None:
                self._end(batch, completion)
            else:
                self._answer(batch, completion)
            return
        # Of a stateful model even what was never begun is lost: the state that it continues is.
        requeues = isinstance(completion.error, WorkerLost) and not batch.key.stateful
        if requeues and self._policy.requeue(batch, now):
            self._turn()  # another device may have it
            return
        # Of a batch that failed nobody knows how long the worker was at it.
        self._policy.completed(batch, now)
        self._fail(batch, completion.error)
        self._turn()

    def _leave_device(self, batch: Batch, completion: Completion, now: float) -> None:
        worked = completion.copied_out - completion.started
        # A staged batch waited for the one before it; that was no overhead.
        overhead = 0.0 if batch.staged else now - batch.formed_at - worked
        self._policy.completed(batch, now, worked, overhead)

    def produced(self, batch: Batch, completion: Completion) -> None:
        """Pass on one of several replies of a batch, to each of its entries."""
        detached = self._going.setdefault(batch, None)
        live, _ = self._stamp(batch, completion if completion.started else detached or completion)
        assert completion.outputs is not None  # noqa: S101  # the executor's contract
        for members, replies in self._replies(live, completion.outputs):
            for (entry, _), reply in zip(members, replies, strict=True):
                if entry.state is not State.RUNNING:
                    continue  # whoever was told just before has cancelled it
                if isinstance(reply, JitneyError):
                    self._finish(entry, None, reply)
                elif entry.partial is not None:
                    entry.partial(entry, reply)
        for entry, _ in live:
            entry.timing = None  # it counts as answered with its end, unless that is an error

    def detached(self, batch: Batch, completion: Completion) -> None:
        """Give the device of a batch something else to do; the batch goes on without it."""
        self._going[batch] = completion
        self._leave_device(batch, completion, self._clock.now())
        self._turn()

    def _completed_going(self, batch: Batch, completion: Completion) -> None:
        """End a batch of which there were replies, or that has let go of its device."""
        detached, error = self._going.pop(batch), completion.error
        if detached is None:  # it still holds its device
            now = self._clock.now()
            if error is None:
                self._leave_device(batch, completion, now)
            else:
                self._policy.completed(batch, now)
            self._turn()
        if error is None:
            self._end(batch, detached or completion)
            return
        # Never again in parts: its entries would be given replies twice.
        self._metrics.batch_failed(batch, error)
        for entry in batch.entries:
            self._finish_running(entry, None, error)

    def device_up(self, device: str) -> None:
        """Note that a device can take batches."""
        self._policy.device_up(device)

    def device_down(self, device: str) -> None:
        """Note that a device is gone."""
        self._policy.device_down(device)

    def device_loading(self, device: str, *, loading: bool) -> None:
        """Note that a device runs no batches, or runs them again."""
        self._policy.device_loading(device, loading=loading)
        if not loading:
            self._turn()

    def model_ready(
        self, device: str, model: ModelRef, profile: LatencyProfile | None = None
    ) -> None:
        """Note that a model can run on a device, and how long it took there when it was loaded."""
        self._policy.model_ready(device, model, profile)
        self._turn()

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Note that a model can no longer run on a device."""
        self._policy.model_gone(device, model)

    def abandon(self, model: ModelRef, why: str) -> None:
        """Fail what waits for a model that no device will run any more."""
        for entry in self._policy.abandon(model):
            self._finish(entry, None, ModelNotReady(why))

    def refuse_rest(self) -> int:
        """Fail everything that still waits, at the end of a drain; return how many there were."""
        count = 0
        for model in self._policy.figures.waiting_models():
            for entry in self._policy.abandon(model):
                self._finish(entry, None, Draining("the server is shutting down"))
                count += 1
        return count

    # -- ends -----------------------------------------------------------------------------------

    def _answer(self, batch: Batch, completion: Completion) -> None:
        outputs = completion.outputs
        assert outputs is not None  # noqa: S101  # the caller looked
        live, awaited = self._stamp(batch, completion)
        for members, replies in self._replies(live, outputs):
            for (entry, _), reply in zip(members, replies, strict=True):
                if isinstance(reply, JitneyError):
                    entry.timing = None
                    self._finish_running(entry, None, reply)
                elif entry.state is State.RUNNING:  # as there, without the cost of two calls
                    entry.state = State.DONE
                    entry.done(entry, reply, None)
        # After the callers were woken, so that their replies leave before this is counted; and so
        # it is known how long that takes.
        self._clock.call_soon(lambda: self._note_done(batch, completion, awaited))

    def _note_done(self, batch: Batch, completion: Completion, awaited: int) -> None:
        self._policy.replied(batch, self._clock.now() - completion.copied_out)
        self._metrics.batch_done(batch, completion, awaited)

    def _end(self, batch: Batch, completion: Completion) -> None:
        """End the entries of a batch that has had all its replies.

        :param completion: how long the device was at it.
        """
        live, awaited = self._stamp(batch, completion)
        for entry, _ in live:
            self._finish_running(entry, None, None)
        self._clock.call_soon(lambda: self._metrics.batch_done(batch, completion, awaited))

    def _stamp(self, batch: Batch, completion: Completion) -> tuple[Members, int]:
        """Set the timings of those that are waited for.

        :returns: them, and how many rows of them are still in time.
        """
        live = [placed for placed in place(batch) if placed[0].state is State.RUNNING]
        now = self._clock.now()
        stages, started, ended = completion.stages, completion.started, completion.copied_out
        awaited = 0
        for entry, _ in live:
            queue = max(0.0, started - entry.arrived)
            entry.timing = Timing(queue, *stages, now - entry.arrived)
            if entry.deadline >= ended:
                awaited += entry.rows
        return live, awaited

    def _replies(
        self, live: Members, outputs: BatchOutputs
    ) -> Iterator[tuple[Members, Sequence[object]]]:
        """Yield what to tell whom, carrier by carrier; those whose carrier fails are ended."""
        for carrier, members in runs_of_carriers(live):
            try:
                replies = carrier.reply(
                    [placed for _, placed in members],
                    outputs,
                    [entry.timing for entry, _ in members if entry.timing is not None],
                )
            except Exception as error:  # noqa: BLE001  # a carrier is somebody else's code
                self._refuse_replies([entry for entry, _ in members], error)
                continue
            yield members, replies

    def _refuse_replies(self, entries: list[Entry], error: Exception) -> None:
        """End entries whose rows were computed and could not be made into replies."""
        if not isinstance(error, JitneyError):
            ids = ", ".join(entry.request.id for entry in entries)
            model = entries[0].key.model
            facts = {"model": model.name, "version": model.version, "request_id": ids}
            error = InferenceFailed(numbered(log, "replies could not be made", error, **facts))
        for entry in entries:
            entry.timing = None
            self._finish_running(entry, None, error)

    def _fail(self, batch: Batch, error: JitneyError) -> None:
        self._metrics.batch_failed(batch, error)
        now = self._clock.now()
        live = [entry for entry in batch.entries if entry.state is State.RUNNING]
        late: list[Entry] = []
        if isinstance(error, WorkerLost) and not self._policy.runs(batch.key.model):
            # For some a new worker comes too late: told now, they may be in time elsewhere.
            returns = now + error.back_in
            late = [entry for entry in live if entry.deadline < returns]
            live = [entry for entry in live if entry.deadline >= returns]
        parts = parts_of(batch, live, error)
        for part in parts:
            self._policy.retry(part)
        if not parts:
            if len(live) == 1:
                self._quarantine.note(live[0], now, harm(batch, error))
            late += live
        for entry in late:
            self._finish_running(entry, None, error)

    def _finish_running(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        # Whoever was told just before may have cancelled its neighbour.
        if entry.state is State.RUNNING:
            self._finish(entry, reply, error)

    def _finish(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        entry.state = State.DONE
        entry.done(entry, reply, error)
