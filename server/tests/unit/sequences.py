"""A sequencer between tests and a scheduler that does what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jitney.datatypes import DataType
from jitney.scheduling.batch import NO_DEADLINE, NORMAL, BatchKey, Entry, State
from jitney.sequence import Control, ControlKind, SequenceConfig
from jitney.sequencing import Sequencer
from jitney.sequencing.step import Step
from jitney.signature import TensorSpec
from jitney.testing import Ends, FakeClock
from jitney.types import ModelRef, Request, RequestHeader, TensorHeader

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Done
    from jitney.sequencing.live_sequence import LiveSequence

__all__ = ["CONTROLS", "REF", "SequenceBench", "make_config", "make_sequence_key"]

REF = ModelRef("m", 1)
IDLE = 2.0
"""Seconds after which sequences of tests are forgotten."""
CONTROLS = (
    Control("START", ControlKind.START, DataType.INT32),
    Control("READY", ControlKind.READY, DataType.FP32),
    Control("END", ControlKind.END, DataType.BOOL),
)


def make_config(*controls: Control, **fields: Any) -> SequenceConfig:
    """Return a config of the direct strategy with START, READY and END."""
    defaults: dict[str, Any] = {"controls": controls or CONTROLS, "max_idle": IDLE}
    return SequenceConfig(**defaults | fields)


def make_sequence_key(max_rows: int = 2, **fields: Any) -> BatchKey:
    """Return the key of a model of one number in and one out, and those controls."""
    inputs = tuple((control.datatype, (1,)) for control in CONTROLS)
    defaults: dict[str, Any] = {
        "model": REF,
        "inputs": ((DataType.INT32, (1,)), *inputs),
        "outputs": (TensorSpec("y", DataType.INT32, ("N", 1)),),
        "max_rows": max_rows,
        "max_bytes": 4096,
        "stateful": True,
    }
    return BatchKey(**defaults | fields)


class Blob(bytearray):
    """Data that can be watched going away."""


class SequenceBench:
    """Lets tests submit requests of sequences, and be the scheduler that gets them.

    ``queued`` are the steps that the scheduler has and has not started, ``running`` those that it
    has; ``handed`` are the ids of all requests that it ever got, in order; ``refuses`` is the error
    with which it refuses. ``ends`` is what became of requests; ``done`` is told.
    """

    def __init__(self, key: BatchKey | None = None, **fields: Any) -> None:
        self.clock = FakeClock()
        self.key = key or make_sequence_key()
        self.config = make_config(**fields)
        self.ends = Ends()
        self.done: Done = self.ends
        self.queued: list[Step] = []
        self.running: list[Step] = []
        self.handed: list[str] = []
        self.refuses: JitneyError | None = None
        self.sequencer = Sequencer(self, self.clock)

    # What the sequencer needs.

    def submit(self, entry: Entry) -> None:
        """Queue an entry, unless entries are refused."""
        assert isinstance(entry, Step)
        if self.refuses is not None:
            raise self.refuses
        self.queued.append(entry)
        self.handed.append(entry.request.id)

    def cancel(self, entry: Entry) -> str:
        """Forget an entry."""
        was = entry.state
        entry.state = State.DONE
        for entries in (self.queued, self.running):
            if entry in entries:
                entries.remove(entry)
        return "queued" if was is State.QUEUED else "running"

    # What tests do.

    def send(
        self,
        sequence: int | str,
        name: str,
        flags: str = "",
        *,
        rows: int = 1,
        deadline: float = NO_DEADLINE,
        start_by: float = NO_DEADLINE,
        priority: int = NORMAL,
        key: BatchKey | None = None,
        partial: Callable[[Entry, object], None] | None = None,
    ) -> Entry:
        """Submit a request of a sequence.

        :param flags: ``s`` for a START, ``e`` for an END, or both.
        """
        flags_said = {"sequence_start": "s" in flags, "sequence_end": "e" in flags}
        header = RequestHeader(
            "m",
            "",
            (TensorHeader("x", DataType.INT32, (rows, 1)),),
            parameters={"sequence_id": sequence, **flags_said},
        )
        data = [Blob(4 * rows)]
        request = Request(header, data, self, id=name)  # type: ignore[arg-type]  # not gathered
        entry = Entry(
            request,
            key or self.key,
            rows,
            4 * rows,
            self.clock.now(),
            self.done,
            deadline=deadline,
            start_by=start_by,
            priority=priority,
        )
        entry.partial = partial
        self.sequencer.submit(entry, self.config)
        return entry

    def start(self, *names: str) -> list[Step]:
        """Start queued entries, all of them if none is named; return them."""
        started = [step for step in self.queued if not names or step.request.id in names]
        for step in started:
            self.queued.remove(step)
            step.state = State.RUNNING
        self.running += started
        return started

    def end(self, *names: str, error: JitneyError | None = None) -> None:
        """End entries, all that the scheduler has if none is named."""
        steps = [*self.queued, *self.running]
        for step in steps:
            if (not names or step.request.id in names) and step.state is not State.DONE:
                for entries in (self.queued, self.running):
                    if step in entries:
                        entries.remove(step)
                step.state = State.DONE
                step.done(step, None if error else f"reply {step.request.id}", error)
        self.clock.run_soon()

    @property
    def at_work(self) -> dict[str, int]:
        """The rows of what the scheduler has, by request."""
        return {step.request.id: step.row for step in (*self.queued, *self.running)}

    def live(self, sequence: int | str) -> LiveSequence | None:
        """Return a sequence of the model, if there is one."""
        roster = self.sequencer._rosters.get(REF)
        return roster.sequences.get(sequence) if roster else None
