"""How long a built-in model takes, found out by running it."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING, Final

from jitney.execution.builtin.course import Course
from jitney.latency_profile import LatencyProfile
from jitney.scheduling.batch import Batch, BatchKey, Entry, Reason, State
from jitney.types import Request, RequestHeader, TensorHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.clock import Clock
    from jitney.errors import JitneyError
    from jitney.execution.builtin.course import Handler
    from jitney.execution.executor import Completion
    from jitney.signature import Signature, TensorSpec
    from jitney.types import BatchOutputs, ModelRef, Placed, Timing

__all__ = ["delayed", "measure"]

RUNS: Final = 5
MOST_BYTES: Final = 16 << 20
MOST_ROWS: Final = 1024
"""Bounds of the largest batch that is run: it is run on the event loop."""
LEAST_SECONDS: Final = 1e-6
"""A clock that is coarser than the run would say 0, and a scheduler divides by it."""
PREFIX: Final = 4


def measure(
    handler: Handler, model: ModelRef, signature: Signature, max_rows: int, clock: Clock
) -> LatencyProfile:
    """Run a handler on one row and on many, some of them all zero; return its latency.

    :param handler: without a delay; what varies in its shapes is 1.
    :raises JitneyError: when it fails.
    """
    row_bytes = sum(len(_zeros(spec)) for spec in signature.inputs)
    many = min(max_rows, MOST_ROWS, MOST_BYTES // max(1, row_bytes))
    sizes = (1, many) if many > 1 else (1,)
    taken = []
    for rows in sizes:
        batch = _batch(model, signature, rows)
        taken.append([_run(handler, batch, clock) for _ in range(RUNS)])
    seconds = tuple(max(LEAST_SECONDS, statistics.median(runs)) for runs in taken)
    return LatencyProfile(
        sizes,
        seconds,
        tuple(
            statistics.pstdev(runs) / median for runs, median in zip(taken, seconds, strict=True)
        ),
    )


def delayed(latency: LatencyProfile, delay: float) -> LatencyProfile:
    """Add what every batch takes besides, in seconds, whose length is certain.

    A spread is a share of the duration, and microseconds vary by more than themselves: kept as it
    is, it would make a plan of more than a second of 300 ms.
    """
    if not delay:
        return latency
    seconds = tuple(measured + delay for measured in latency.seconds)
    columns = zip(latency.seconds, latency.spread, seconds, strict=True)
    return dataclasses.replace(
        latency,
        seconds=seconds,
        spread=tuple(spread * measured / whole for measured, spread, whole in columns),
    )


class _Watch:
    """A course's owner that notes how long it kept its device, and runs into its error."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def produced(self, course: Course, completion: Completion) -> None:
        """Let a reply go."""

    def detached(self, course: Course, completion: Completion) -> None:
        """Note the end of the device's part, and lose interest in the rest."""
        self.seconds = completion.copied_out - completion.started
        for entry in course.batch.entries:
            entry.state = State.DONE

    def completed(self, course: Course, completion: Completion) -> None:
        """Note the end, unless the device's part ended before."""
        if completion.error is not None:
            raise completion.error
        if not course.is_detached:
            self.seconds = completion.copied_out - completion.started


class _Zeros:
    """The carrier of requests that nobody sent."""

    def gather(self, placed: Sequence[Placed], inputs: Sequence[memoryview]) -> None:
        """Copy the rows together, as a transport would."""
        for i, region in enumerate(inputs):
            region[:] = b"".join([bytes(p.request.data[p.order[i]]) for p in placed])  # type: ignore[arg-type]  # ours

    def reply(
        self,
        placed: Sequence[Placed],
        outputs: BatchOutputs,  # noqa: ARG002  # the protocol's
        timings: Sequence[Timing],  # noqa: ARG002  # likewise
    ) -> Sequence[object]:
        """Answer nobody; it is not called."""
        return [None for _ in placed]


def _run(handler: Handler, batch: Batch, clock: Clock) -> float:
    for entry in batch.entries:
        entry.state = State.RUNNING
    watch = _Watch()
    Course(batch, watch, clock).begin(handler)
    return watch.seconds


def _batch(model: ModelRef, signature: Signature, rows: int) -> Batch:
    specs = signature.inputs
    lead = (1,) if signature.batched else ()
    tensors = tuple(TensorHeader(s.name, s.datatype, (*lead, *_dims(s))) for s in specs)
    header = RequestHeader(model.name, "", tensors)
    request = Request(header, [_zeros(spec) for spec in specs], _Zeros())
    key = BatchKey(
        model,
        tuple((spec.datatype, _dims(spec)) for spec in specs),
        signature.outputs,
        max_rows=rows,
        max_bytes=MOST_BYTES,
        batched=signature.batched,
    )
    order = range(len(specs))
    # A request for each row: those who are alone are served without a copy, and most are not.
    entries = [Entry(request, key, 1, 0, 0.0, _forget, inputs=order) for _ in range(rows)]
    return Batch(key, entries, rows, Reason.IDLE, "", 0.0)


def _forget(entry: Entry, reply: object, error: JitneyError | None) -> None:
    """Take note of nothing."""


def _dims(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if size == -1 else size for size in spec.dims)


def _zeros(spec: TensorSpec) -> bytes:
    return bytes(math.prod(_dims(spec)) * (spec.datatype.item_size or PREFIX))
