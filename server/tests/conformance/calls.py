"""Requests as users of ``tritonclient`` write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["add_sub", "error_of", "tensor", "tensors"]


def tensor(name: str, array: np.ndarray[Any, Any], datatype: str = "") -> triton.InferInput:
    """Return an input that holds an array."""
    given = triton.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def tensors(**arrays: np.ndarray[Any, Any]) -> list[triton.InferInput]:
    """Return an input for each array, by name."""
    return [tensor(name, array) for name, array in arrays.items()]


def add_sub(rows: int = 1, dtype: type = np.int32) -> list[triton.InferInput]:
    """Return the inputs of ``simple``: 0 … 15 in each row, and ones."""
    values = np.tile(np.arange(16, dtype=dtype), (rows, 1))
    return tensors(INPUT0=values, INPUT1=np.ones_like(values))


def outputs(*names: str, **options: Any) -> Sequence[triton.InferRequestedOutput]:
    """Return what to ask for."""
    return [triton.InferRequestedOutput(name, **options) for name in names]


def error_of(call: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    """Return status and message of the error that a call must end with."""
    try:
        call(*arguments, **options)
    except Exception as error:  # noqa: BLE001  # which class it is differs between the clients
        return str(error.status()), str(error.message())  # type: ignore[attr-defined]
    msg = "the call succeeded"
    raise AssertionError(msg)
