"""A reply for each element: the smallest decoupled model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from jitney.errors import InputRejected
from jitney.execution.builtin.tensors import element_ends, gather, shape_of
from jitney.types import BatchOutputs, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.execution.builtin.course import Course
    from jitney.signature import Signature, TensorSpec

__all__ = ["Repeat"]

BURST: Final = 32
"""Replies that are made in one turn of the loop; others shall have theirs between two bursts."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether anybody still waits; a delay may last for weeks."""
UINT32: Final = 4


class Repeat:
    """Gives element ``i`` of IN in a reply of its own, with ``i`` as IDX.

    Reply ``i`` is made DELAY[i] milliseconds after the one before it, the first one that long after
    the start. The device is held for WAIT milliseconds from the start, and free while replies
    follow, so many requests are under way at once. A request ends with its last reply, though not
    before WAIT has passed: its end would give the device away.
    """

    description = "repeat: gives each element in a reply of its own"
    delay = 0.0

    def __init__(self, signature: Signature) -> None:
        """Serve a signature that ``rules.check`` has passed."""
        self._at = {spec.name: i for i, spec in enumerate(signature.inputs)}

    def begin(self, course: Course) -> None:
        """Read the request, of which there is one: there is no batch dimension.

        :raises InputRejected: when there are not as many delays as elements.
        """
        inputs, batch = gather(course.batch), course.batch
        course.copied_in()
        values, delays, wait = (inputs[self._at[name]] for name in ("IN", "DELAY", "WAIT"))
        count, count_of_delays = (
            math.prod(shape_of(batch, self._at[name])) for name in ("IN", "DELAY")
        )
        if count != count_of_delays:
            msg = (
                "expected as many elements in input 'DELAY' as in input 'IN', "
                f"got {count_of_delays} and {count}"
            )
            raise InputRejected(msg)
        spec = batch.key.inputs[self._at["IN"]]
        size = spec[0].item_size if spec is not None else 0
        ends = range(size, (count + 1) * size, size) if size else element_ends(values, count)
        _Repetition(course, values, ends, delays, _seconds(wait, 0)).step()


class _Repetition:
    """One request under way; ``step`` does what is due, and asks to be called for the rest."""

    def __init__(
        self,
        course: Course,
        values: memoryview,
        ends: Sequence[int],
        delays: memoryview,
        wait: float,
    ) -> None:
        self._course = course
        self._values = values
        self._ends = ends
        self._delays = delays
        self._free_at = course.started + wait
        self._next = 0
        self._due = course.started + _seconds(delays, 0) if ends else math.inf

    def step(self) -> None:
        course, now = self._course, self._course.clock.now()
        last = self._next + BURST
        while self._due <= now and self._next < last:
            if course.is_moot:
                break
            self._produce()
        if course.is_moot or (self._due == math.inf and self._free_at <= now):
            course.end(None)
            return
        if self._free_at <= now and not course.is_detached:
            course.detach()
        if self._due <= now:
            course.soon(self.step)
            return
        soonest = self._due if course.is_detached else min(self._due, self._free_at)
        course.at(min(soonest, now + LOOK_EVERY), self.step)

    def _produce(self) -> None:
        i = self._next
        batch = self._course.batch
        value = self._values[self._ends[i - 1] if i else 0 : self._ends[i]]
        index = memoryview(i.to_bytes(UINT32, "little"))
        data = {"OUT": value, "IDX": index}
        outputs = [_single(spec, data[spec.name]) for spec in batch.key.outputs]
        self._next += 1
        more = self._next < len(self._ends)
        # From when it was due and not from now: what was late shall not make the rest later.
        self._due = self._due + _seconds(self._delays, self._next) if more else math.inf
        self._course.produce(BatchOutputs(outputs, batch.rows, batched=False))


def _single(spec: TensorSpec, data: memoryview) -> OutputTensor:
    offsets = None if spec.datatype.item_size else (0, len(data))
    return OutputTensor(spec.name, spec.datatype, (1,), data, offsets, spec.labels)


def _seconds(milliseconds: memoryview, at: int) -> float:
    return int.from_bytes(milliseconds[UINT32 * at : UINT32 * (at + 1)], "little") / 1000
