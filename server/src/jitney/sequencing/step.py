"""A request of a sequence, on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.scheduling.batch import NO_DEADLINE, Entry, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Done
    from jitney.sequencing.correlation import Correlation
    from jitney.sequencing.live_sequence import LiveSequence

__all__ = ["Step"]


class Step(Entry):
    """A request of a sequence, as the scheduler gets it.

    It is ``whole``, the entry that came from the engine, with the control inputs as further data.
    ``sequence`` is None once the sequence was forgotten while this was running. ``limit`` is until
    when it may wait for its predecessors.
    """

    __slots__ = ("id", "limit", "sequence", "starts", "whole")

    def __init__(
        self, whole: Entry, said: Correlation, controls: Sequence[bytes], done: Done
    ) -> None:
        request = whole.request
        derived = request.with_data([*request.data, *controls])
        first = len(request.data)
        super().__init__(
            derived,
            whole.key,
            whole.rows,
            whole.nbytes + sum(map(len, controls)),
            whole.arrived,
            done,
            deadline=whole.deadline,
            start_by=whole.start_by,
            priority=whole.priority,
            tenant=whole.tenant,
            inputs=(*whole.inputs, *range(first, first + len(controls))),
            outputs=whole.outputs,
        )
        if whole.partial is not None:
            self.partial = _told_of(whole)
        self.whole = whole
        self.id = said.id
        self.starts = said.starts
        self.sequence: LiveSequence | None = None
        late = whole.key.delays_late
        waits_on = bool(late) and late[whole.priority]
        self.limit = whole.deadline if waits_on else min(whole.deadline, whole.start_by)

    def finish(self, reply: object, error: JitneyError | None) -> None:
        """Tell whoever submitted the whole that it has ended."""
        self.whole.state = State.DONE
        self.whole.done(self.whole, reply, error)

    def let_late(self, now: float) -> None:
        """Let it wait on behind all others where it is late, and that is what late ones do.

        Those that do not are not late here: they ended at their limit.
        """
        if self.start_by < now and self.limit >= self.deadline:
            self.start_by = NO_DEADLINE
            self.is_timed = self.deadline != NO_DEADLINE


def _told_of(whole: Entry) -> Callable[[Entry, object], None]:
    """Return what passes the replies of a request that has several on to its caller.

    No method of the step: that would refer to itself, and keep its tensors until the collector of
    cycles comes by.
    """

    def told(_: Entry, reply: object) -> None:
        if whole.partial is not None:
            whole.partial(whole, reply)

    return told
