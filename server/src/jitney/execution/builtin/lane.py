"""The device of a built-in model: one batch after the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from jitney.execution.builtin.course import Course

if TYPE_CHECKING:
    from jitney.clock import Clock
    from jitney.errors import JitneyError
    from jitney.execution.builtin.course import Handler
    from jitney.execution.executor import Completion, Listener
    from jitney.scheduling.batch import Batch

__all__ = ["Lane"]


class Lane:
    """Runs batches in the order in which they came, each in a turn of the loop of its own.

    What has detached goes on beside them, in any number.
    """

    def __init__(self, listener: Listener, clock: Clock) -> None:
        self._listener = listener
        self._clock = clock
        self._waiting: deque[tuple[Course, Handler]] = deque()
        self._running: Course | None = None
        self._detached: set[Course] = set()
        self._due = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return (
            f"<Lane {len(self._waiting)} waiting, {int(self._running is not None)} running, "
            f"{len(self._detached)} detached>"
        )

    @property
    def is_empty(self) -> bool:
        """Whether it holds no batch."""
        return self._running is None and not self._waiting and not self._detached

    def start(self, batch: Batch, handler: Handler) -> None:
        """Take a batch on; it begins in a later turn of the loop, after those before it."""
        self._waiting.append((Course(batch, self, self._clock), handler))
        self._next_soon()

    def stop(self, error: JitneyError) -> None:
        """End everything with an error."""
        courses = [*self._detached, *(course for course, _ in self._waiting)]
        if self._running is not None:
            courses.append(self._running)
        self._waiting.clear()
        for course in courses:
            course.fail(error)

    def _next_soon(self) -> None:
        if self._waiting and self._running is None and not self._due:
            self._due = True
            self._clock.call_soon(self._next)

    def _next(self) -> None:
        self._due = False
        if self._waiting and self._running is None:
            self._running, handler = self._waiting.popleft()
            self._running.begin(handler)

    # -- what courses tell ----------------------------------------------------------------------

    def produced(self, course: Course, completion: Completion) -> None:
        """Pass one of several replies on."""
        self._listener.produced(course.batch, completion)

    def detached(self, course: Course, completion: Completion) -> None:
        """Take up the next batch: this one goes on without the device."""
        self._detached.add(course)
        self._release(course)
        self._listener.detached(course.batch, completion)

    def completed(self, course: Course, completion: Completion) -> None:
        """Take up the next batch, unless this one gave the device back before."""
        self._detached.discard(course)
        self._release(course)
        self._listener.completed(course.batch, completion)

    def _release(self, course: Course) -> None:
        if self._running is course:
            self._running = None
        self._next_soon()
