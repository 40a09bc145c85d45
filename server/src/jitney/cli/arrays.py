"""Inputs written on the command line: JSON, or files of NumPy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney_client import Bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney_client.protocol import inference

__all__ = ["Array", "Input", "cast", "read_inputs"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Input: TypeAlias = "Array | Bfloat16"

_DTYPES: Final[dict[DataType, Any]] = {
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
    DataType.UINT16: np.uint16,
    DataType.UINT32: np.uint32,
    DataType.UINT64: np.uint64,
    DataType.INT8: np.int8,
    DataType.INT16: np.int16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.FP16: np.float16,
    DataType.FP32: np.float32,
    DataType.FP64: np.float64,
    # Rounded when it is sent: NumPy has no such type.
    DataType.BF16: np.float32,
    DataType.BYTES: np.object_,
}


def read_inputs(
    given: Sequence[str], metadata: inference.ModelMetadataResponse
) -> dict[str, Input]:
    """Read ``NAME=VALUE`` for each input.

    JSON takes the datatype that the model declares; a file keeps its own, because a wrong one there
    is a mistake that the server should name.

    :raises ConfigError: when an input is no such text, or its value does not fit the datatype.
    """
    datatypes = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    inputs: dict[str, Input] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in datatypes:
            msg = f"--input {text[:60]!r}: expected NAME=VALUE with NAME one of " + (
                ", ".join(datatypes) or "none: the model takes no inputs"
            )
            raise ConfigError(msg)
        if name in inputs:
            msg = f"--input {name}: given twice"
            raise ConfigError(msg)
        datatype = DataType(datatypes[name])
        array = _load(value.removeprefix("@"), name) if _is_file(value) else _parse(value, name)
        if not _is_file(value):
            array = cast(array, datatype, f"--input {name}")
        bf16 = datatype is DataType.BF16 and array.dtype == np.float32
        inputs[name] = Bfloat16(array) if bf16 else array
    return inputs


def cast(array: Array, datatype: DataType, where: str) -> Array:
    """Return ``array`` as the datatype has it, if that keeps what was meant.

    Whole numbers may become floating point, nothing else changes its kind: 1.5 is no INT64, and 1
    is no BOOL.

    :raises ConfigError: when it would not.
    """
    kinds = "iu" if datatype.is_integer else "iuf" if datatype.is_float else "b"
    kinds = "US" if datatype is DataType.BYTES else kinds
    if array.size and array.dtype.kind not in kinds:
        msg = f"{where}: the model takes {datatype.value}, got {array.dtype.name}"
        raise ConfigError(msg)
    if datatype.is_integer and array.size:
        limits = np.iinfo(_DTYPES[datatype])
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            msg = f"{where}: {datatype.value} holds {limits.min} to {limits.max}, got others"
            raise ConfigError(msg)
    return array.astype(_DTYPES[datatype])


def _is_file(value: str) -> bool:
    return value.startswith("@") or value.endswith(".npy")


def _load(file: str, name: str) -> Array:
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        msg = f"--input {name}: {file} cannot be read ({error.strerror or error})"
        raise ConfigError(msg) from None
    except (ValueError, EOFError) as error:
        msg = f"--input {name}: {file} is not an array of NumPy: {error}"
        raise ConfigError(msg) from None
    if not isinstance(array, np.ndarray):
        msg = f"--input {name}: {file} holds several arrays; save one with numpy.save"
        raise ConfigError(msg)
    return array


def _parse(value: str, name: str) -> Array:
    try:
        return np.array(json.loads(value))
    except (ValueError, RecursionError) as error:  # not JSON, or rows of different lengths
        msg = f"--input {name}: expected JSON such as [[1, 2], [3, 4]], or @FILE.npy: {error}"
        raise ConfigError(msg) from None
