"""Batches that are run before anybody waits for one, and not measured.

They are what the sweep over the buckets does not know of: the operator's own samples, and batches
without optional inputs, which are other programs to a compiler.
"""

from __future__ import annotations

import functools
import math
import time
from typing import TYPE_CHECKING

import torch

from jitney.datatypes import DataType
from jitney.errors import InputRejected, JitneyError
from jitney.load_options import LEAST_WARMUP_RUNS
from jitney.runtime.buckets import bucket_table
from jitney.runtime.faults import RAISED, SIGNATURE, classify, model_error, summary
from jitney.runtime.random_inputs import RandomInputs, take
from jitney.runtime.scratch import Scratch
from jitney.runtime.tensors import Value, decode_texts, tensor_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.latency_profile import LatencyProfile
    from jitney.runtime.forward import Forward
    from jitney.signature import TensorSpec
    from jitney.warmup_sample import WarmupInput, WarmupSample

__all__ = ["Rehearsal"]

CPU = torch.device("cpu")


class Rehearsal:
    """Runs batches the way they are run later, from page-locked memory and back into it."""

    def __init__(
        self, forward: Forward, profile: LatencyProfile, progress: Callable[[str], None]
    ) -> None:
        """Rehearse with the batch sizes that a profile has.

        :param progress: is called with a few words before each step.
        """
        self._forward = forward
        self._profile = profile
        self._progress = progress
        self._table = bucket_table(profile.sizes) if profile.padded else None
        self._scratch = Scratch(page_locked=forward.device.torch_device.type == "cuda")

    def without_optional(self, bare: RandomInputs) -> None:
        """Run every bucket of a device that compiles them, else the smallest, without some inputs.

        :raises Exception: what the model raises.
        """
        self._progress("warm up without optional inputs")
        maker = bare.on(CPU)
        sizes = self._profile.sizes
        for rows in sizes if self._forward.device.pads else sizes[:1]:
            self._run(maker.make(rows), maker.shapes(rows), rows, LEAST_WARMUP_RUNS)

    def play(self, samples: Sequence[WarmupSample]) -> None:
        """Run the operator's samples, in parts where they are larger than the largest batch.

        :raises ModelError: naming the sample that the model does not take.
        """
        for sample in samples:
            self._progress(f"warm up with the sample {sample.name}")
            try:
                self._play(sample)
            except JitneyError as exc:
                text = f"warm-up sample {sample.name!r}: {exc}"
                raise model_error(SIGNATURE, text) from None
            except Exception as exc:
                if classify(exc) != "model":
                    raise
                text = f"warm-up sample {sample.name!r}: the model raised: {summary(exc)}"
                raise model_error(RAISED, text) from None

    def _play(self, sample: WarmupSample) -> None:
        batched, largest = self._forward.signature.batched, self._profile.sizes[-1]
        rows = sample.rows if batched else 1
        maker, values = self._values(sample, rows)
        for start in range(0, rows, largest):
            chosen = range(start, min(rows, start + largest))
            part = take(values, rows, chosen) if batched else values
            self._run(part, maker.shapes(len(chosen)), len(chosen), sample.count)

    def _run(
        self,
        values: Sequence[Value | None],
        shapes: Sequence[tuple[int, ...]],
        rows: int,
        times: int,
    ) -> None:
        forward = self._forward
        bucket = self._table[rows] if self._table else rows
        with forward.device.active(), forward.mode():
            for _ in range(times):
                # Filled anew for each run: the model may write its inputs.
                views = self._scratch.fill(forward.signature.inputs, shapes, values)
                run = functools.partial(forward.run, views, rows, bucket, now=time.monotonic)
                self._scratch.run(run)

    def _values(self, sample: WarmupSample, rows: int) -> tuple[RandomInputs, list[Value | None]]:
        """Return the values of a sample, and what knows their shapes."""
        signature = self._forward.signature
        given = {one.name: one for one in sample.inputs}
        if unknown := sorted(given.keys() - {spec.name for spec in signature.inputs}):
            msg = f"the model has no input {unknown[0]!r}"
            raise model_error(SIGNATURE, msg)
        row_shapes = [_row_shape(spec, given.get(spec.name)) for spec in signature.inputs]
        absent = frozenset(spec.name for spec in signature.inputs if spec.name not in given)
        maker = RandomInputs(signature, row_shapes, CPU, absent)
        values = maker.make(rows)
        shapes = maker.shapes(rows)
        for index, spec in enumerate(signature.inputs):
            one = given.get(spec.name)
            if one is not None and one.source != "random":
                values[index] = _value(spec, one, shapes[index], rows)
        return maker, values


def _row_shape(spec: TensorSpec, given: WarmupInput | None) -> tuple[int, ...]:
    if given is None:
        if not spec.optional:
            msg = f"the input {spec.name!r} is missing"
            raise model_error(SIGNATURE, msg)
        return tuple(max(size, 1) for size in spec.dims)  # of what is left out: never looked at
    shape, dims = given.shape, spec.dims
    if len(shape) != len(dims) or any(
        wanted not in (-1, size) for size, wanted in zip(shape, dims, strict=True)
    ):
        msg = f"input {spec.name!r}: a row has the shape {list(dims)}, the sample {list(shape)}"
        raise model_error(SIGNATURE, msg)
    return shape


def _value(spec: TensorSpec, given: WarmupInput, shape: tuple[int, ...], rows: int) -> Value:
    count, data = math.prod(shape), given.data
    if spec.datatype is DataType.BYTES:
        if given.source == "zero":
            return [""] * count
        try:
            return decode_texts(spec.name, data, count)
        except InputRejected:
            return decode_texts(spec.name, data * rows, count)  # one row, to be repeated
    size = count * spec.datatype.item_size
    if given.source == "zero":
        data = bytes(size)
    elif len(data) * rows == size:
        data *= rows
    if len(data) != size:
        msg = (
            f"input {spec.name!r}: {spec.datatype.value} {list(shape)} takes {size} bytes, or "
            f"{size // rows} for one row to be repeated; the sample has {len(data)}"
        )
        raise model_error(SIGNATURE, msg)
    return tensor_from(bytearray(data), spec.datatype, shape)
