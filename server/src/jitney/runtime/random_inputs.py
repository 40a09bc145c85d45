"""Inputs made up for warm-up and proofs: seeded, random, and inside the declared ranges.

Random, because zeros hide what mixes rows or ignores its input. Integers default to 0 … 1: they are
mostly ids, and an id that does not exist reads out of bounds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from jitney.datatypes import DataType
from jitney.runtime.faults import SIGNATURE, model_error
from jitney.runtime.tensors import DTYPES, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.samples import Sample
    from jitney.signature import Signature, TensorSpec

__all__ = ["RandomInputs", "row_shapes", "take"]

SIZES: Final = (8, 16, 32, 64, 128, 224)
"""What to try for dimensions that vary: small, then what models with strides and pooling need."""

Shape = tuple[int, ...]

_WIDEST: Final = 1 << 31  # randint counts in int64, which the bounds of a UINT64 may leave


def row_shapes(signature: Signature, samples: Sequence[Sample]) -> list[list[Shape]]:
    """Return guesses of what one row of each input looks like, the best first.

    Golden samples show sizes that work. Otherwise everything that varies gets the same small size,
    so that equal names have equal sizes; larger ones follow, in case the model cannot take that.
    """
    guesses: list[list[Shape]] = []
    for sample in samples[:1]:
        shapes = {tensor.name: tensor.shape for tensor in sample.inputs}
        if shapes.keys() >= {spec.name for spec in signature.inputs}:
            first = 1 if signature.batched else 0
            guesses.append([shapes[spec.name][first:] for spec in signature.inputs])
    for size in SIZES:
        guess = [
            tuple(size if dim == -1 else dim for dim in spec.dims) for spec in signature.inputs
        ]
        if guess not in guesses:
            guesses.append(guess)
    return guesses


class RandomInputs:
    """Makes inputs of given row shapes; equal rows and seeds give equal values.

    The first rows of a larger batch are *not* those of a smaller one (torch draws long tensors in
    another order than short ones): who compares sizes cuts them out of one batch with ``take``.
    """

    def __init__(
        self,
        signature: Signature,
        shapes: Sequence[Shape],
        device: torch.device,
        absent: frozenset[str] = frozenset(),
    ) -> None:
        """Make inputs; those whose names are ``absent`` are left out."""
        self._signature = signature
        self._specs = signature.inputs
        self._batched = signature.batched
        self._shapes = shapes
        self._device = device
        self._absent = absent

    def on(self, device: torch.device) -> RandomInputs:
        """Return a maker of the same inputs on another device."""
        return RandomInputs(self._signature, self._shapes, device, self._absent)

    def bare(self) -> RandomInputs | None:
        """Return a maker of the same without optional inputs; None where none is optional."""
        absent = frozenset(spec.name for spec in self._specs if spec.optional)
        if not absent:
            return None
        return RandomInputs(self._signature, self._shapes, self._device, absent)

    def shapes(self, rows: int) -> list[Shape]:
        """Return the shape of each input of a batch, batch dimension included."""
        return [(rows, *dims) if self._batched else dims for dims in self._shapes]

    def make(self, rows: int, seed: int = 0) -> list[Value | None]:
        """Return one value per input, of ``rows`` rows where there is a batch dimension.

        What is left out is None.

        :raises ModelError: if an input's bounds leave no value.
        """
        generator = torch.Generator().manual_seed(seed)
        values: list[Value | None] = []
        for spec, shape in zip(self._specs, self.shapes(rows), strict=True):
            if spec.name in self._absent:
                values.append(None)
            elif spec.datatype is DataType.BYTES:
                # Digits, because models that take texts often parse them, and to others any do.
                numbers = torch.randint(10_000, (math.prod(shape),), generator=generator)
                values.append([str(number) for number in numbers.tolist()])
            else:
                values.append(_numbers(spec, shape, generator).to(self._device))
        return values


def _numbers(spec: TensorSpec, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    dtype = DTYPES[spec.datatype]
    if spec.low is not None and spec.high is not None and spec.low > spec.high:
        msg = f"input {spec.name!r}: low {spec.low} is above high {spec.high}; correct the bounds"
        raise model_error(SIGNATURE, msg)
    if not spec.datatype.is_float:
        low, high = _whole_bounds(spec)
        # int64 first: randint does not know every type.
        return torch.randint(low, high + 1, shape, generator=generator).to(dtype)
    if spec.low is not None and spec.high is not None:
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (spec.low + (spec.high - spec.low) * uniform).to(dtype)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if spec.low is not None:
        normal = spec.low + normal.abs()
    elif spec.high is not None:
        normal = spec.high - normal.abs()
    return normal.to(dtype)


def _whole_bounds(spec: TensorSpec) -> tuple[int, int]:
    high = None if spec.high is None else math.floor(spec.high)
    low = min(0, high or 0) if spec.low is None else math.ceil(spec.low)
    high = max(1, low) if high is None else high
    if spec.datatype is DataType.BOOL:
        low, high = max(0, low), min(1, high)
    if low > high:
        msg = f"input {spec.name!r}: no {spec.datatype.value} lies between its bounds; correct them"
        raise model_error(SIGNATURE, msg)
    return low, min(high, low + _WIDEST)


def take(values: Sequence[Value | None], rows: int, chosen: Sequence[int]) -> list[Value | None]:
    """Return the chosen rows of values that have ``rows`` rows, in the order asked for."""
    taken: list[Value | None] = []
    for value in values:
        if value is None:
            taken.append(None)
        elif isinstance(value, list):
            width = len(value) // rows
            taken.append([t for row in chosen for t in value[row * width : (row + 1) * width]])
        else:
            taken.append(value[list(chosen)])
    return taken
