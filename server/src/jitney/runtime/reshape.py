"""Rows whose dimensions the model has otherwise than its clients: the same elements, seen twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed

if TYPE_CHECKING:
    import torch

    from jitney.runtime.tensors import Value
    from jitney.signature import TensorSpec

__all__ = ["Reshape", "reshape_input", "reshape_output"]


class Reshape(NamedTuple):
    """How a tensor is viewed with other dimensions; the batch dimension stays as it is.

    ``before`` and ``after`` are the dimensions of one row; the n-th -1 of both is the same size,
    which ``signature.fits_reshape`` makes possible. ``lead`` is 1 with a batch dimension, else 0.
    """

    side: str
    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    lead: int

    def __call__(self, value: Value) -> Value:
        """Return a value in its other shape; texts are a flat list and stay so.

        What is no tensor at all passes: the contract of the outputs, which comes next, refuses it.

        :raises InferenceFailed: if it does not have the dimensions ``before``.
        """
        shape: torch.Size | None = getattr(value, "shape", None)
        if shape is None or isinstance(value, list):
            return value
        rows, row = shape[: self.lead], shape[self.lead :]
        # Looked at here, because `reshape` takes any shape with as many elements.
        if len(row) != len(self.before) or any(
            wanted not in (-1, size) for size, wanted in zip(row, self.before, strict=True)
        ):
            expected = [*(["rows"] * self.lead), *self.before]
            msg = (
                f"{self.side} {self.name!r}: expected {', '.join(map(str, expected))} before it is "
                f"reshaped, got {', '.join(map(str, shape))}"
            )
            raise InferenceFailed(msg)
        varying = iter(size for size, wanted in zip(row, self.before, strict=True) if wanted == -1)
        return value.reshape(*rows, *(next(varying) if n == -1 else n for n in self.after))


def reshape_input(spec: TensorSpec) -> Reshape | None:
    """Return what turns a client's tensor into the model's; None where they are the same."""
    if spec.reshape is None or spec.datatype is DataType.BYTES:
        return None
    return Reshape("input", spec.name, spec.dims, spec.model_dims, int(spec.batched))


def reshape_output(spec: TensorSpec) -> Reshape | None:
    """Return what turns the model's tensor into a client's; None where they are the same."""
    if spec.reshape is None or spec.datatype is DataType.BYTES:
        return None
    return Reshape("output", spec.name, spec.model_dims, spec.dims, int(spec.batched))
