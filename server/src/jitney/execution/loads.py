"""The models of one device: what its process has, will not have, and is just loading."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jitney.errors import JitneyError, ModelError
from jitney.execution import wire
from jitney.execution.ending import Cause
from jitney.load_report import LoadReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jitney.execution.deaths import Deaths
    from jitney.execution.executor import Listener
    from jitney.execution.loading import LoadSpec
    from jitney.execution.worker_life import WorkerLife
    from jitney.types import ModelRef

    Result = LoadReport | ModelError

__all__ = ["CurrentLoad", "Loads"]


@dataclass(slots=True, eq=False)
class CurrentLoad:
    """A load that was asked of a worker.

    ``begun`` is False when the worker ended before it came to it: it takes messages in order, so
    whatever it was sent before is to blame.
    """

    serial: int
    spec: LoadSpec
    result: asyncio.Future[Result]
    begun: bool = True


class Loads:
    """Brings the models that a device should have onto its process, one after the other.

    ``instances`` has the serial of the load of each model that the process reported as loaded;
    ``refused`` are those that it will not be asked for again; ``current`` is the one at hand.
    """

    def __init__(
        self,
        device: str,
        specs: Mapping[ModelRef, LoadSpec],
        serials: Iterator[int],
        deaths: Deaths,
        timeout: float,
    ) -> None:
        """Hold nothing yet.

        :param specs: what the device should have; somebody else adds to it and takes away.
        :param timeout: seconds that one load may take.
        """
        self._device = device
        self._specs = specs
        self._serials = serials
        self._deaths = deaths
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._outcomes: dict[ModelRef, asyncio.Future[Result]] = {}
        self.listener: Listener
        self.current: CurrentLoad | None = None
        self.instances: dict[ModelRef, int] = {}
        self.refused: dict[ModelRef, ModelError] = {}
        self._seconds: dict[ModelRef, float] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Loads of {self._device}, {len(self.instances)} of {len(self._specs)}>"

    def seconds(self) -> float:
        """Return how long the loads of all its models took, which they will again."""
        return sum(self._seconds.values())

    def next(self) -> LoadSpec | None:
        """Return what is to be loaded next, None for nothing."""
        for ref, spec in self._specs.items():
            if ref not in self.instances and ref not in self.refused:
                return spec
        return None

    def outcome(self, ref: ModelRef) -> asyncio.Future[Result]:
        """Return what will be known of the first load of a model."""
        return self._outcomes.setdefault(ref, self._loop.create_future())

    def settle_rest(self, why: str) -> None:
        """Say of everything of which nothing is known that it cannot be loaded."""
        for ref in self._specs:
            self._settle(ref, ModelError(f"device {self._device} failed: {why}"))

    def _settle(self, ref: ModelRef, result: Result) -> None:
        outcome = self.outcome(ref)
        if not outcome.done():
            outcome.set_result(result)

    def refuse(self, ref: ModelRef, error: ModelError) -> None:
        """Ask for a model no more."""
        self.refused[ref] = error
        self.listener.model_refused(self._device, ref, error)

    def forget(self, ref: ModelRef, life: WorkerLife | None) -> None:
        """Drop a model that was taken out of the specs; batches already sent still run.

        One that is being loaded is dropped when that has ended.
        """
        self.refused.pop(ref, None)
        outcome = self._outcomes.pop(ref, None)
        if outcome is not None and not outcome.done():
            outcome.set_result(ModelError("it was unloaded before it was loaded"))
        self._seconds.pop(ref, None)
        serial = self.instances.pop(ref, None)
        if serial is not None:
            self.listener.model_gone(self._device, ref)
            if life is not None:
                life.link.send(wire.write_note(wire.Kind.UNLOAD, serial))

    async def load(self, spec: LoadSpec, life: WorkerLife, on_end: Callable[[], None]) -> None:
        """Load one model.

        :param on_end: called when the worker is free for batches again.
        """
        serial = 0
        result: Result | None
        try:
            with await self._loop.run_in_executor(None, spec.open) as sealed:
                if not life.link.alive:
                    return  # the next worker will be asked
                # Drawn only now: serials are in the order in which messages are sent, which is
                # how it is known what a worker was at when it ended.
                serial = next(self._serials)
                load = CurrentLoad(serial, spec, self._loop.create_future())
                self.current = load
                document = spec.options.to_json()
                self.listener.device_loading(self._device, loading=True)
                life.link.send(wire.write_note(wire.Kind.LOAD, serial, document), (sealed.fd,))
            await asyncio.wait(
                (load.result, life.gone),
                timeout=self._timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            result = self._result(load, life)
        except ModelError as error:  # the file is not there, or not what it was
            result = error
        except wire.WireError as error:
            result = ModelError(f"its signature is too long to be sent to a worker: {error}")
        except OSError as error:
            result = ModelError(f"its file could not be opened ({error.strerror})")
        finally:
            self.current = None
            self.listener.device_loading(self._device, loading=False)
            on_end()
        if result is not None:
            self._note(life, spec, serial, result)

    def _result(self, load: CurrentLoad, life: WorkerLife) -> Result | None:
        """Return how a load ended, None when the next worker is to be asked."""
        ref = load.spec.ref
        if load.result.done():
            return load.result.result()
        if not life.gone.done():
            life.link.kill(f"model {ref} hung while it was loaded", Cause.OUTSIDE)
            return ModelError(f"it was not loaded within {self._timeout:g} s")
        ending = life.gone.result()
        outside = ending.cause is Cause.OUTSIDE
        if not load.begun or self._deaths.note_while_loading(ref, outside=outside):
            return None
        return ModelError(f"the worker process ended while it loaded the model: {ending.why}")

    def _note(self, life: WorkerLife, spec: LoadSpec, serial: int, result: Result) -> None:
        if self._specs.get(spec.ref) is not spec:  # it was unloaded meanwhile
            if isinstance(result, LoadReport):
                life.link.send(wire.write_note(wire.Kind.UNLOAD, serial))
            return
        if isinstance(result, LoadReport) and not life.link.alive:
            return  # it ended a moment after it reported: the next worker will be asked
        if isinstance(result, ModelError):
            self.refuse(spec.ref, result)
        else:
            self.instances[spec.ref] = serial
            self._seconds[spec.ref] = result.load_seconds
            self._deaths.forgive(spec.ref)
            self.listener.model_loaded(self._device, spec.ref, result)
        self._settle(spec.ref, result)

    def on_note(self, note: wire.Note) -> None:
        """Take note of what the worker says of a load.

        :raises WireError: when it is about no load, or not as it should be.
        """
        load = self.current
        if load is None or load.serial != note.serial:
            msg = f"a {note.kind.name} of no load"
            raise wire.WireError(msg)
        document = note.document
        if note.kind is wire.Kind.PROGRESS:
            load.spec.progress(self._device, str(document.get("text", ""))[:500])
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
