"""Built-in models as an executor and a loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.builtin import BuiltinSpec, device_of
from jitney.errors import JitneyError, ModelError, WorkerLost
from jitney.execution.builtin.echo import Echo
from jitney.execution.builtin.identity import Identity
from jitney.execution.builtin.lane import Lane
from jitney.execution.builtin.repeat import Repeat
from jitney.execution.builtin.rules import check, delay_of
from jitney.execution.builtin.trial import delayed, measure
from jitney.execution.executor import Completion
from jitney.execution.pool import DeviceStatistics
from jitney.load_report import Golden, LoadReport

if TYPE_CHECKING:
    from jitney.clock import Clock
    from jitney.execution.builtin.course import Handler
    from jitney.execution.executor import Listener
    from jitney.execution.loading import LoadSpec
    from jitney.scheduling.batch import Batch
    from jitney.signature import Signature
    from jitney.types import ModelRef

__all__ = ["BuiltinExecutor"]


class BuiltinExecutor:
    """Runs built-in models in the server process: an ``Executor`` and a ``Loader``.

    Each version has a device of its own (``builtin.device_of``), which is there as long as a load
    of that version is. Nothing here blocks: a batch is a few copies, and what takes time by order
    is a timer. So a device is a queue and not a thread, and one that has a lot to do slows the
    event loop down for all: they are for tests and as targets of load tests, not for work.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._listener: Listener
        self._handlers: dict[ModelRef, Handler] = {}
        self._lanes: dict[str, Lane] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<BuiltinExecutor {', '.join(map(str, self._handlers)) or 'of nothing'}>"

    def attach(self, listener: Listener) -> None:
        """Say who is told; to be called before anything else."""
        self._listener = listener

    # -- models ---------------------------------------------------------------------------------

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Try a model out and put it on its device; return the report, or what was wrong."""
        ref, device = spec.ref, device_of(spec.ref)
        try:
            handler, report = self._prepare(spec)
        except JitneyError as error:
            refusal = ModelError(str(error))
            self._listener.model_refused(device, ref, refusal)
            return {device: refusal}
        self._forget_empty_lanes()
        is_new = not self._refs_on(device)
        self._handlers[ref] = handler
        if device not in self._lanes:
            self._lanes[device] = Lane(self._listener, self._clock)
        if is_new:
            self._listener.device_up(device)
        self._listener.model_loaded(device, ref, report)
        return {device: report}

    def unload(self, ref: ModelRef) -> None:
        """Drop a model, and its device with the last one on it; what was started still ends."""
        if self._handlers.pop(ref, None) is None:
            return
        device = device_of(ref)
        self._listener.model_gone(device, ref)
        if not self._refs_on(device):
            self._listener.device_down(device)
        self._forget_empty_lanes()

    def _refs_on(self, device: str) -> list[ModelRef]:
        return [ref for ref in self._handlers if device_of(ref) == device]

    def _forget_empty_lanes(self) -> None:
        used = {device_of(ref) for ref in self._handlers}
        self._lanes = {
            device: lane
            for device, lane in self._lanes.items()
            if device in used or not lane.is_empty
        }

    def _prepare(self, spec: LoadSpec) -> tuple[Handler, LoadReport]:
        assert spec.builtin is not None  # noqa: S101  # whoever routes it here has looked
        builtin, options = spec.builtin, spec.options
        check(builtin, options.signature)
        began = self._clock.now()
        handler = _make(builtin, options.signature)
        # The delay is known: it is added and not waited for.
        bare = _make(BuiltinSpec(builtin.handler), options.signature)
        rows = options.max_batch_size if options.signature.batched else 1
        try:
            latency = measure(bare, spec.ref, options.signature, rows, self._clock)
        except MemoryError:
            msg = "a row of its inputs does not fit into memory"
            raise ModelError(msg) from None
        latency = delayed(latency, handler.delay)
        held = f", held for {handler.delay * 1e3:g} ms by its parameter" if handler.delay else ""
        report = LoadReport(
            form="builtin",
            why=f"it has no file: the server itself runs it{held}",
            batchable=True,
            batchable_why="a built-in handler treats every row by itself",
            max_batch_size=rows if options.signature.batched else 0,
            deterministic=True,
            mutated_state=(),
            mutated_inputs=(),
            golden=Golden(0, 0.0),
            latency=latency,
            memory_bytes=0,
            load_seconds=self._clock.now() - began,
            warnings=(),
        )
        return handler, report

    # -- batches --------------------------------------------------------------------------------

    def start(self, batch: Batch) -> None:
        """Run a batch after those before it on its device."""
        handler, lane = self._handlers.get(batch.key.model), self._lanes.get(batch.device)
        if handler is None or lane is None:
            error = WorkerLost("this model was just unloaded")
            self._clock.call_soon(lambda: self._listener.completed(batch, Completion(None, error)))
            return
        lane.start(batch, handler)

    def stop(self) -> None:
        """End what is still running with an error."""
        for lane in self._lanes.values():
            lane.stop(WorkerLost("the server stopped"))

    def statistics(self) -> list[DeviceStatistics]:
        """Return the current figures of every device, in the order of the loads; on any thread."""
        described = {device_of(ref): h.description for ref, h in list(self._handlers.items())}
        return [
            DeviceStatistics(device, "up", "", f"built-in {text}", 0, False, {})  # noqa: FBT003
            for device, text in described.items()
        ]


def _make(spec: BuiltinSpec, signature: Signature) -> Handler:
    if spec.handler == "identity":
        return Identity(delay_of(spec))
    return Repeat(signature) if spec.handler == "repeat" else Echo()
