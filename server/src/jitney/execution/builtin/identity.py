"""What goes in comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.execution.builtin.tensors import gather, row_offsets, shape_of
from jitney.types import BatchOutputs, OutputTensor

if TYPE_CHECKING:
    from jitney.execution.builtin.course import Course
    from jitney.scheduling.batch import Batch

__all__ = ["Identity"]


class Identity:
    """Gives back its inputs, by position: any datatype, any bytes, with or without batches.

    A batch ends ``delay`` seconds after it began, as if a model had been at it for so long.
    """

    description = "identity: gives back what it gets"

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay

    def begin(self, course: Course) -> None:
        """Take the inputs in; end at once, or after the delay."""
        outputs = _returned(course.batch)
        course.copied_in()
        if self.delay:
            course.at(course.started + self.delay, lambda: course.end(outputs))
        else:
            course.end(outputs)


def _returned(batch: Batch) -> BatchOutputs:
    key = batch.key
    tensors = [
        OutputTensor(
            spec.name,
            spec.datatype,
            shape_of(batch, at),
            data,
            None if spec.datatype.item_size else row_offsets(batch, at, data),
            spec.labels,
        )
        for at, (spec, data) in enumerate(zip(key.outputs, gather(batch), strict=True))
    ]
    return BatchOutputs(tensors, batch.rows, key.batched)
