"""One batch on its way through a built-in model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from jitney.bugs import numbered
from jitney.errors import InferenceFailed, JitneyError
from jitney.execution.executor import Completion
from jitney.scheduling.batch import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.clock import Clock, Timer
    from jitney.scheduling.batch import Batch
    from jitney.types import BatchOutputs

__all__ = ["Course", "Handler", "Owner"]

log = logging.getLogger(__name__)


class Handler(Protocol):
    """What a built-in model does with its batches.

    ``description`` is a line for people; ``delay`` are the seconds that every batch takes by order
    of the operator, beside what it takes by itself.
    """

    description: str
    delay: float

    def begin(self, course: Course) -> None:
        """Begin with ``course.batch``, and see to its end, at once or later.

        It must not block. What it raises ends the batch, here and in what the course calls back.
        """


class Owner(Protocol):
    """Whom a course tells: it keeps the device, and passes everything on to a ``Listener``."""

    def completed(self, course: Course, completion: Completion) -> None:
        """Note that a batch ended."""

    def produced(self, course: Course, completion: Completion) -> None:
        """Note one of several replies of a batch that goes on."""

    def detached(self, course: Course, completion: Completion) -> None:
        """Note that a batch needs its device no longer."""


class Course:
    """A batch from its start to its one end.

    Invariants:

    - its owner is told ``completed`` exactly once, and ``detached`` at most once, before it;
    - after the end nothing is told and nothing is called back;
    - a handler that fails ends its batch with an error, and nothing else.
    """

    __slots__ = (
        "_copied_in",
        "_device",
        "_ended",
        "_owner",
        "_timer",
        "batch",
        "clock",
        "started",
    )

    def __init__(self, batch: Batch, owner: Owner, clock: Clock) -> None:
        self.batch = batch
        self.clock = clock
        self.started = 0.0
        self._owner = owner
        self._copied_in = 0.0
        self._device: Completion | None = None
        self._ended = False
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = "ended" if self._ended else "detached" if self.is_detached else "on its device"
        return f"<Course of {self.batch!r}, {state}>"

    @property
    def is_detached(self) -> bool:
        """Whether its device is free for the next batch."""
        return self._device is not None

    @property
    def is_moot(self) -> bool:
        """Whether nobody waits any more: it ended, or every request was cancelled."""
        return self._ended or all(entry.state is State.DONE for entry in self.batch.entries)

    # -- what handlers call ---------------------------------------------------------------------

    def copied_in(self) -> None:
        """Stamp the moment at which the inputs are there."""
        self._copied_in = self.clock.now()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call back at a moment; there is one at a time."""
        self._timer = self.clock.call_at(when, lambda: self._go_on(call))

    def soon(self, call: Callable[[], None]) -> None:
        """Call back after the events that are at hand."""
        self.clock.call_soon(lambda: self._go_on(call))

    def produce(self, outputs: BatchOutputs) -> None:
        """Tell one of several replies."""
        if not self._ended:
            self._owner.produced(self, self._stamped(outputs))

    def detach(self) -> None:
        """Give the device back and go on without it."""
        self._device = self._stamped(None)
        self._owner.detached(self, self._device)

    def end(self, outputs: BatchOutputs | None) -> None:
        """End well, None when everything has been produced; idempotent.

        What was detached ends with the stamps of that moment: the device did no more.
        """
        self._end(self._device or self._stamped(outputs))

    # -- what the lane calls --------------------------------------------------------------------

    def begin(self, handler: Handler) -> None:
        """Let a handler begin."""
        self.started = self._copied_in = self.clock.now()
        self._go_on(lambda: handler.begin(self))

    def fail(self, error: JitneyError) -> None:
        """End with an error; idempotent."""
        self._end(Completion(None, error))

    def _go_on(self, call: Callable[[], None]) -> None:
        if self._ended:
            return
        try:
            call()
        except JitneyError as error:
            if self._ended:
                raise
            self.fail(error)
        except Exception as error:
            # Behind it stand carriers, which are somebody else's code: one batch ends, not the
            # server. Once it has ended, whoever was told of that is to blame, and hears of it.
            if self._ended:
                raise
            model = self.batch.key.model
            facts = {"model": model.name, "version": model.version}
            self.fail(InferenceFailed(numbered(log, "a batch failed", error, **facts)))

    def _stamped(self, outputs: BatchOutputs | None) -> Completion:
        now = self.clock.now()
        return Completion(outputs, None, self.started, self._copied_in, now, now)

    def _end(self, completion: Completion) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.completed(self, completion)
