"""Inputs written on the command line: JSON, or files of NumPy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.scoring.npz_source import FAULTS
from jitney_client import Bfloat16

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney_client.protocol import inference

__all__ = ["Array", "Input", "cast", "read_inputs"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Input: TypeAlias = "Array | Bfloat16"

NPY: Final = ".npy"
NPZ: Final = ".npz"
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
    """Read ``NAME=VALUE`` for each input, or ``FILE.npz`` for all that such a file has.

    JSON takes the datatype that the model declares; a file keeps its own, because a wrong one there
    is a mistake that the server should name.

    :raises ConfigError: when an input is no such text, or its value does not fit the datatype.
    """
    datatypes = {tensor.name: DataType(tensor.datatype) for tensor in metadata.inputs}
    inputs: dict[str, Input] = {}
    for text in given:
        name, separator, value = text.partition("=")
        file = text.removeprefix("@")
        if file.endswith(NPZ) and name not in datatypes:
            found = _of_archive(file, datatypes)
        elif separator and name in datatypes:
            found = {name: _value(value, name, datatypes[name])}
        else:
            known = ", ".join(datatypes) or "none: the model takes no inputs"
            msg = f"--input {text[:60]!r}: expected NAME=VALUE with NAME one of {known}; or a .npz"
            raise ConfigError(msg)
        for each, array in found.items():
            if each in inputs:
                msg = f"--input {each}: given twice"
                raise ConfigError(msg)
            bf16 = datatypes[each] is DataType.BF16 and array.dtype == np.float32
            inputs[each] = Bfloat16(array) if bf16 else array
    return inputs


def _value(value: str, name: str, datatype: DataType) -> Array:
    """Return what stands behind the name of an input."""
    where = f"--input {name}"
    if not (value.startswith("@") or value.endswith((NPY, NPZ))):
        return cast(_parse(value, where), datatype, where)
    file = value.removeprefix("@")
    loaded = _load(file, where)
    if isinstance(loaded, np.ndarray):
        return loaded
    if name not in loaded:
        msg = f"{where}: {file} has no array of that name; it has {', '.join(loaded)}"
        raise ConfigError(msg)
    return loaded[name]


def _of_archive(file: str, datatypes: Mapping[str, DataType]) -> dict[str, Array]:
    """Return the arrays of a file that are inputs; what else it has may be what is expected."""
    where = f"--input {file}"
    loaded = _load(file, where)
    found = {} if isinstance(loaded, np.ndarray) else loaded
    found = {name: array for name, array in found.items() if name in datatypes}
    if not found:
        msg = f"{where}: none of its arrays is called {' or '.join(datatypes)}"
        raise ConfigError(msg)
    return found


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


def _load(file: str, where: str) -> Array | dict[str, Array]:
    """Return the array of a file, or its arrays by name."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        msg = f"{where}: {file} cannot be read ({error.strerror or error})"
        raise ConfigError(msg) from None
    except FAULTS as error:
        msg = f"{where}: {file} is not an array of NumPy: {str(error) or type(error).__name__}"
        raise ConfigError(msg) from None


def _parse(value: str, where: str) -> Array:
    try:
        return np.array(json.loads(value))
    except (ValueError, RecursionError) as error:  # not JSON, or rows of different lengths
        msg = f"{where}: expected JSON such as [[1, 2], [3, 4]], or @FILE.npy: {error}"
        raise ConfigError(msg) from None
