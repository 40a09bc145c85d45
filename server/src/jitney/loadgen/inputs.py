"""What calls are made of: inputs that are drawn from a model's metadata, or read from a file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

import numpy as np

from jitney.errors import ConfigError
from jitney_client import Bfloat16
from jitney_client.protocol import inference as pb
from jitney_client.tensors import encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jitney.loadgen.seen import Array

__all__ = ["Call", "Choice", "drawn", "from_file", "message"]

VARYING: Final = 16
"""What a dimension is that may have any size."""
TEXTS: Final = 10_000
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(np.float32),  # rounded when it is sent: NumPy has no such type
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    **{
        f"{kind.upper()}{n}": np.dtype(f"{kind}{n}")
        for kind in ("int", "uint")
        for n in (8, 16, 32, 64)
    },
    "BYTES": np.dtype(object),
}


@dataclass(frozen=True, slots=True)
class Call:
    """Inputs of a call by name, batch dimension included, and the outputs where they are known."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """How inputs are made: how many different ones, of how many rows, and what is in them.

    ``shapes`` are the dimensions of one row by input, for those that vary; ``ranges`` the lowest
    and highest values. Floats are uniform between 0 and 1 otherwise, and integers 0 or 1: they are
    mostly ids, and an id that does not exist is an error of the model.
    """

    variants: int = 32
    rows: int = 1
    zeros: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seed: int = 7


def drawn(metadata: pb.ModelMetadataResponse, *, batched: bool, choice: Choice) -> list[Call]:
    """Return calls with inputs that the metadata allows.

    :param batched: whether the first dimension of every input is the batch.
    :raises ConfigError: when ``choice`` names what the model does not have, or does not fit.
    """
    names = {tensor.name for tensor in metadata.inputs}
    for flag, given in (("--shape", choice.shapes), ("--range", choice.ranges)):
        if unknown := sorted(set(given) - names):
            msg = f"{flag} {unknown[0]}: the model has the inputs {', '.join(sorted(names))}"
            raise ConfigError(msg)
    rng = np.random.default_rng(choice.seed)
    return [
        Call({t.name: _drawn(t, rng, batched=batched, choice=choice) for t in metadata.inputs})
        for _ in range(1 if choice.zeros else choice.variants)
    ]


def from_file(
    file: Path, metadata: pb.ModelMetadataResponse, *, batched: bool, rows: int
) -> list[Call]:
    """Return calls with the arrays of an ``.npz``, named as the model's inputs and outputs.

    The first axis of every array counts rows where the model has a batch dimension, ``rows`` of
    which make a call, and calls otherwise. Outputs are what is expected; they may be left out.

    :raises ConfigError: when the file is none, or its arrays do not fit each other or the model.
    """
    arrays = _load(file)
    inputs = [tensor.name for tensor in metadata.inputs]
    outputs = [tensor.name for tensor in metadata.outputs if tensor.name in arrays]
    if unknown := sorted(set(arrays) - {*inputs, *outputs}):
        msg = f"--inputs {file}: {unknown[0]!r} is no input or output of the model"
        raise ConfigError(msg)
    if missing := sorted(set(inputs) - set(arrays)):
        msg = f"--inputs {file}: no array {missing[0]!r}; the model takes {', '.join(inputs)}"
        raise ConfigError(msg)
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        msg = f"--inputs {file}: the first axes differ: {found}"
        raise ConfigError(msg)
    step = rows if batched else 1
    count = min(lengths.values()) // step
    if not count:
        msg = f"--inputs {file}: fewer than {step} rows, so not one call"
        raise ConfigError(msg)

    def cut(names: Sequence[str], number: int) -> dict[str, Array]:
        parts = (number * step, (number + 1) * step) if batched else (number,)
        return {n: arrays[n][slice(*parts)] if batched else arrays[n][number] for n in names}

    datatypes = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    for name in inputs:
        if DTYPES[datatypes[name]].kind != "O" and arrays[name].dtype != DTYPES[datatypes[name]]:
            arrays[name] = _cast(arrays[name], datatypes[name], f"--inputs {file}: {name}")
    return [Call(cut(inputs, number), cut(outputs, number)) for number in range(count)]


def message(
    metadata: pb.ModelMetadataResponse, call: Call, *, version: str = "", priority: int = 0
) -> bytes:
    """Return the request of a call, as it is sent."""
    request = pb.ModelInferRequest(model_name=metadata.name, model_version=version)
    datatypes = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    for name, array in call.inputs.items():
        tensor = encode(Bfloat16(array) if datatypes[name] == "BF16" else array)
        request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(bytes(tensor.data))
    if priority:
        # Triton reads this one as a number that is never negative.
        request.parameters["priority"].uint64_param = priority
    return request.SerializeToString(deterministic=True)


def _drawn(
    tensor: pb.ModelMetadataResponse.TensorMetadata,
    rng: np.random.Generator,
    *,
    batched: bool,
    choice: Choice,
) -> Array:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        msg = f"input {tensor.name}: no values are known for the datatype {tensor.datatype}"
        raise ConfigError(msg)
    dims = tuple(tensor.shape[1:] if batched else tensor.shape)
    given = choice.shapes.get(tensor.name, tuple(VARYING if d < 0 else d for d in dims))
    if len(given) != len(dims) or any(
        d not in (-1, size) for d, size in zip(dims, given, strict=True)
    ):
        msg = f"--shape {tensor.name}: a row has {list(dims)} (-1 varies), got {list(given)}"
        raise ConfigError(msg)
    shape = (choice.rows, *given) if batched else given
    low, high = choice.ranges.get(tensor.name, (0.0, 1.0))
    if dtype.kind == "O":
        texts = [
            b"%d" % n
            for n in rng.integers(
                0 if choice.zeros else TEXTS, size=math.prod(shape), endpoint=True
            )
        ]
        array: Array = np.empty(len(texts), object)
        array[:] = texts
        return array.reshape(shape)
    if choice.zeros:
        return np.zeros(shape, dtype)
    if dtype.kind == "f":
        return rng.uniform(low, high, shape).astype(dtype)
    return rng.integers(math.ceil(low), math.floor(high), shape, endpoint=True).astype(dtype)


def _load(file: Path) -> dict[str, Array]:
    try:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            msg = "it holds a single array; save with numpy.savez"
            raise ValueError(msg)  # noqa: TRY301, TRY004  # one handler for what is no such file
        with arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        msg = f"--inputs {file}: cannot be read ({error.strerror or error})"
        raise ConfigError(msg) from None
    except (ValueError, EOFError, BadZipFile) as error:
        msg = f"--inputs {file}: not an .npz of NumPy: {error}"
        raise ConfigError(msg) from None


def _cast(array: Array, datatype: str, where: str) -> Array:
    dtype = DTYPES[datatype]
    # Whole numbers and floats of another width are what people save; nothing else is guessed.
    if array.dtype.kind not in ("iuf" if dtype.kind == "f" else "iu") or dtype.kind == "b":
        msg = f"{where}: the model takes {datatype}, got {array.dtype}"
        raise ConfigError(msg)
    cast = array.astype(dtype)
    if dtype.kind != "f" and (cast != array).any():
        msg = f"{where}: a value does not fit {datatype}"
        raise ConfigError(msg)
    return cast
