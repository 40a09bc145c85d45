"""What a model gave: checked against its signature in every batch, then written into a slot.

A model may return something else for the next batch than it did for the last (a traced
``view(2, -1)`` turns four rows into two without an error), so nothing is taken on trust.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import torch

from jitney.errors import InferenceFailed, OutputTooLarge
from jitney.runtime.interface import WrittenOutput
from jitney.runtime.tensors import DTYPES, encode_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.runtime.device import Device
    from jitney.runtime.tensors import Value
    from jitney.signature import Signature, TensorSpec

__all__ = ["OutputContract", "WrittenOutput", "cut", "write_outputs"]

ALIGNMENT: Final = 64
NO_OFFSETS: Final = -1
OFFSET_BYTES: Final = 8


class OutputContract:
    """The declared outputs, ready to be compared with actual ones."""

    def __init__(self, signature: Signature) -> None:
        self.specs = signature.outputs
        self.batched = signature.batched
        self._dtypes = [DTYPES.get(spec.datatype) for spec in self.specs]
        self._dims = [spec.dims for spec in self.specs]
        self._fixed = [-1 not in dims for dims in self._dims]

    def check(self, values: Sequence[Value], rows: int) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs, batch dimension included.

        :param rows: how many rows the model was given; not looked at without batch dimension.
        :raises InferenceFailed: naming the output that is not as declared, expected and got.
        """
        if len(values) != len(self.specs):
            msg = f"the model returned {len(values)} outputs, its signature has {len(self.specs)}"
            raise InferenceFailed(msg)
        shapes: list[tuple[int, ...]] = []
        for index, value in enumerate(values):
            dims = self._dims[index]
            if isinstance(value, torch.Tensor):
                shape = value.shape
                expected = (rows, *dims) if self.batched else dims
                # Two cases: all sizes are known, as nearly always; or some vary.
                same = shape == expected if self._fixed[index] else _fits(shape, expected)
                if not same or value.dtype is not self._dtypes[index]:
                    raise self._failure(index, f"{str(value.dtype)[6:]} {list(shape)}", rows)
                shapes.append(tuple(shape))
            else:
                texts_shape = self._shape_of_texts(value, dims, rows)
                if texts_shape is None:
                    found = f"{len(value)} texts" if isinstance(value, list) else type(value)
                    raise self._failure(index, str(found), rows)
                shapes.append(texts_shape)
        return shapes

    def _shape_of_texts(
        self, value: object, dims: tuple[int, ...], rows: int
    ) -> tuple[int, ...] | None:
        # A list has no shape: one varying dimension follows from its length, two do not.
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            return None
        shape = (rows, *dims) if self.batched else dims
        varying = [index for index, size in enumerate(shape) if size == -1]
        known = math.prod(size for size in shape if size != -1)
        if not varying:
            return shape if len(value) == known else None
        if len(varying) > 1 or not known or len(value) % known:
            return None
        return tuple(len(value) // known if size == -1 else size for size in shape)

    def _failure(self, index: int, found: str, rows: int) -> InferenceFailed:
        spec = self.specs[index]
        expected = [rows, *spec.dims] if self.batched else list(spec.dims)
        return InferenceFailed(
            f"output {spec.name!r}: expected {spec.datatype.value} {expected}, "
            f"the model returned {found}"
        )


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )


def cut(
    values: Sequence[Value], shapes: Sequence[tuple[int, ...]], rows: int
) -> tuple[list[Value], list[tuple[int, ...]]]:
    """Return the first ``rows`` rows of each output, and their shapes: what padding added goes."""
    kept: list[Value] = []
    for value, shape in zip(values, shapes, strict=True):
        kept.append(
            value[: rows * math.prod(shape[1:])] if isinstance(value, list) else value[:rows]
        )
    return kept, [(rows, *shape[1:]) for shape in shapes]


def write_outputs(
    specs: Sequence[TensorSpec],
    values: Sequence[Value],
    shapes: Sequence[tuple[int, ...]],
    out: memoryview,
    device: Device,
    *,
    batched: bool,
) -> list[WrittenOutput]:
    """Queue the copies of checked outputs into ``out``; they stand there when the device settled.

    :raises OutputTooLarge: telling the bytes needed, before anything is written.
    """
    written: list[WrittenOutput] = []
    encoded: dict[int, list[bytes]] = {}
    end = 0
    for index, spec in enumerate(specs):
        value, shape, offset = values[index], shapes[index], -(-end // ALIGNMENT) * ALIGNMENT
        at = NO_OFFSETS
        if isinstance(value, list):
            encoded[index] = encode_texts(value)
            nbytes = sum(map(len, encoded[index]))
            end = offset + nbytes
            if batched:
                at = -(-end // ALIGNMENT) * ALIGNMENT
                end = at + OFFSET_BYTES * (shape[0] + 1)
        else:
            nbytes = value.nbytes
            end = offset + nbytes
        written.append(WrittenOutput(spec.datatype, shape, offset, nbytes, at))
    if end > len(out):
        msg = f"the outputs take {end} bytes, a slot has {len(out)}; see --slot-bytes"
        raise OutputTooLarge(msg)
    for index, place in enumerate(written):
        value = values[index]
        if isinstance(value, list):
            _write_texts(encoded[index], place, out)
        elif place.nbytes:
            target = torch.frombuffer(
                out, dtype=value.dtype, count=value.numel(), offset=place.offset
            )
            device.fetch(target.view(place.shape), value)
    return written


def _write_texts(elements: list[bytes], place: WrittenOutput, out: memoryview) -> None:
    out[place.offset : place.offset + place.nbytes] = b"".join(elements)
    if place.row_offsets_at == NO_OFFSETS:
        return
    width = math.prod(place.shape[1:])
    ends = [0, *itertools.accumulate(map(len, elements))]
    rows = place.shape[0]
    offsets = b"".join(
        ends[row * width].to_bytes(OFFSET_BYTES, "little") for row in range(rows + 1)
    )
    out[place.row_offsets_at : place.row_offsets_at + len(offsets)] = offsets
