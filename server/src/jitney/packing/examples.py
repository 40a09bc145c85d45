"""Example inputs of a model, and what its answers to them say about its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.notation import write_tensor
from jitney.runtime.tensors import DTYPES, Value, encode_texts, value_from
from jitney.samples import SampleTensor
from jitney.signature import BATCH, TensorSpec

__all__ = [
    "Example",
    "infer_outputs",
    "name_results",
    "random_example",
    "read_example",
    "read_values",
    "write_values",
]

DATATYPES: Final = {dtype: datatype for datatype, dtype in DTYPES.items()}
LARGEST: Final = (1 << 63) - 2
"""The largest value that ``torch.randint`` can be asked for."""


@dataclass(slots=True)
class Example:
    """Inputs in the order of the specs (None where an optional one is left out).

    ``sizes`` has the sizes of the named dimensions, ``"N"`` among them.
    """

    values: list[Value | None]
    sizes: dict[str, int] = field(default_factory=dict)


def random_example(specs: Sequence[TensorSpec], rows: int, seed: int, nth: int) -> Example:
    """Make an example up: floats from N(0, 1), whole numbers 0 and 1, or within the spec's bounds.

    :param nth: which example of several this is; sizes that vary differ from one to the next.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = {BATCH: rows}
    values: list[Value | None] = []
    for spec in specs:
        shape = []
        for size in spec.shape:
            if isinstance(size, str):
                sizes.setdefault(size, 3 + 2 * len(sizes) + 3 * nth)
                shape.append(sizes[size])
            else:
                shape.append(4 + nth if size == -1 else size)
        values.append(_random_value(spec, shape, generator))
    return Example(values, sizes)


def _random_value(spec: TensorSpec, shape: list[int], generator: torch.Generator) -> Value:
    if spec.datatype is DataType.BYTES:
        return [f"text {index}" for index in range(math.prod(shape))]
    dtype = DTYPES[spec.datatype]
    if spec.datatype.is_float:
        if spec.low is not None and spec.high is not None:
            unit = torch.rand(shape, generator=generator)
            return (spec.low + unit * (spec.high - spec.low)).to(dtype)
        value = torch.randn(shape, generator=generator)
        if spec.low is not None or spec.high is not None:
            value = value.clamp(spec.low, spec.high)
        return value.to(dtype)
    low = int(spec.low) if spec.low is not None else min(0, int(spec.high or 0))
    high = int(spec.high) if spec.high is not None else max(1, low)
    drawn = torch.randint(low, min(high, LARGEST) + 1, shape, generator=generator)
    return drawn.to(dtype)


def read_example(
    specs: Sequence[TensorSpec], given: Mapping[str, Value] | Sequence[Value], nth: int
) -> Example:
    """Check an example that somebody gave.

    :raises ConfigError: when it does not fit the specs.
    """
    where = f"samples[{nth}]"
    if not isinstance(given, Mapping):
        if len(given) != len(specs):
            msg = f"{where}: expected {len(specs)} inputs, got {len(given)}"
            raise ConfigError(msg)
        given = {spec.name: value for spec, value in zip(specs, given, strict=True)}
    if unknown := sorted(set(given) - {spec.name for spec in specs}):
        msg = f"{where}: no input {unknown[0]!r}; there are {', '.join(s.name for s in specs)}"
        raise ConfigError(msg)
    example = Example([])
    for spec in specs:
        value = given.get(spec.name)
        if value is not None:
            _shape_of(spec, value, example.sizes, f"{where}.{spec.name}")
        elif not spec.optional:
            msg = f"{where}: the input {spec.name!r} is missing"
            raise ConfigError(msg)
        example.values.append(value)
    return example


def _shape_of(spec: TensorSpec, value: Value, sizes: dict[str, int], where: str) -> tuple[int, ...]:
    """Return the shape, checked against the spec and the sizes that are known; learn new ones."""
    if isinstance(value, torch.Tensor):
        shape = tuple(value.shape)
        datatype = DATATYPES.get(value.dtype)
    else:
        shape = _shape_of_texts(spec, value, sizes)
        datatype = DataType.BYTES
    fits = datatype is spec.datatype and len(shape) == len(spec.shape)
    for size, actual in zip(spec.shape, shape, strict=False):
        expected = sizes.setdefault(size, actual) if isinstance(size, str) else size
        fits = fits and expected in {-1, actual}
    if not fits:
        got = f"{datatype.value if datatype else value.dtype}{list(shape)}"  # type: ignore[union-attr]  # None comes from a tensor only
        msg = f"{where}: expected {write_tensor(spec)}, got {got}"
        if known := {name: size for name, size in sizes.items() if name in spec.shape}:
            msg += f" where {', '.join(f'{name} = {size}' for name, size in known.items())}"
        raise ConfigError(msg)
    return shape


def _shape_of_texts(spec: TensorSpec, texts: list[str], sizes: dict[str, int]) -> tuple[int, ...]:
    """Return the shape of a flat list: the spec's, with its one unknown size from the length."""
    dims = [sizes.get(size, -1) if isinstance(size, str) else size for size in spec.shape]
    if dims.count(-1) == 1:
        rest = math.prod(size for size in dims if size != -1)
        dims[dims.index(-1)] = len(texts) // max(rest, 1)
    return tuple(dims) if math.prod(dims) == len(texts) else (len(texts),)


def write_values(
    specs: Sequence[TensorSpec], values: Sequence[Value | None], sizes: Mapping[str, int]
) -> list[SampleTensor]:
    """Return values as protocol bytes; what was left out is left out.

    :raises ConfigError: when a value does not fit its spec.
    """
    tensors = []
    known = dict(sizes)
    for spec, value in zip(specs, values, strict=True):
        if value is None:
            continue
        shape = _shape_of(spec, value, known, spec.name)
        if isinstance(value, torch.Tensor):
            # By way of bytes, because numpy has no BF16; flat, because a scalar has no such view.
            flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            data = flat.numpy().tobytes()
        else:
            data = b"".join(encode_texts(value))
        tensors.append(SampleTensor(spec.name, spec.datatype, shape, data))
    return tensors


def read_values(specs: Sequence[TensorSpec], tensors: Sequence[SampleTensor]) -> list[Value | None]:
    """Return what ``write_values`` wrote, in the order of the specs."""
    by_name = {tensor.name: tensor for tensor in tensors}
    values: list[Value | None] = []
    for spec in specs:
        tensor = by_name.get(spec.name)
        if tensor is None:
            values.append(None)
            continue
        cpu = torch.device("cpu")
        values.append(value_from(tensor.name, tensor.data, tensor.datatype, tensor.shape, cpu))
    return values


def name_results(result: object) -> dict[str, Value]:
    """Return what a model returned by name: a dict's keys, a named tuple's fields, or positions.

    :raises ConfigError: when it is, or holds, anything but tensors and lists of texts.
    """
    if isinstance(result, Mapping):
        named = dict(result)
    elif isinstance(result, torch.Tensor) or (
        isinstance(result, list) and all(isinstance(item, str) for item in result)
    ):
        named = {"OUTPUT__0": result}
    elif isinstance(result, tuple | list):
        names = getattr(result, "_fields", [f"OUTPUT__{nth}" for nth in range(len(result))])
        named = dict(zip(names, result, strict=True))
    else:
        named = {"OUTPUT__0": result}
    for name, value in named.items():
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not texts and not (isinstance(value, torch.Tensor) and value.dtype in DATATYPES):
            msg = (
                f"the output {name!r} is {_kind(value)}; "
                "a served model returns tensors and lists of texts"
            )
            raise ConfigError(msg)
    return named


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__


def infer_outputs(
    inputs: Sequence[TensorSpec],
    examples: Sequence[Example],
    answers: Sequence[Mapping[str, Value]],
) -> tuple[TensorSpec, ...]:
    """Describe the outputs by comparing the answers to several examples.

    A size is taken for a name of the inputs where it is equal to that name's size in every example,
    for fixed where it never changes, and for varying otherwise.

    :raises ConfigError: when outputs come and go, or do not have a row per row of the inputs.
    """
    batched = inputs[0].batched
    specs = []
    for name in answers[0]:
        if any(answer.keys() != answers[0].keys() for answer in answers):
            msg = "the model returns other keys for other inputs; its outputs must be fixed"
            raise ConfigError(msg)
        values = [answer[name] for answer in answers]
        shapes = [
            _plain_shape(value, example) for value, example in zip(values, examples, strict=True)
        ]
        first = values[0]
        datatype = DATATYPES[first.dtype] if isinstance(first, torch.Tensor) else DataType.BYTES
        if len({len(shape) for shape in shapes}) > 1:
            msg = f"the output {name!r} has another number of dimensions for other inputs"
            raise ConfigError(msg)
        rows = [example.sizes[BATCH] for example in examples] if batched else []
        if batched and [shape[:1] for shape in shapes] != [(count,) for count in rows]:
            msg = (
                f"the output {name!r} has the shape {list(shapes[-1])} for {rows[-1]} rows; "
                'a model that takes no batches is described without "N" in its shapes'
            )
            raise ConfigError(msg)
        axes = list(zip(*shapes, strict=True))[batched:]
        shape = [_size_of(axis, examples) for axis in axes]
        specs.append(TensorSpec(name, datatype, (BATCH, *shape) if batched else tuple(shape)))
    return tuple(specs)


def _plain_shape(value: Value, example: Example) -> tuple[int, ...]:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    rows = example.sizes.get(BATCH, 0)
    if rows and len(value) != rows and len(value) % rows == 0:
        return (rows, len(value) // rows)
    return (len(value),)


def _size_of(axis: Sequence[int], examples: Sequence[Example]) -> int | str:
    for name in examples[0].sizes:
        if name != BATCH and [example.sizes.get(name) for example in examples] == list(axis):
            return name
    return axis[0] if len(set(axis)) == 1 and axis[0] > 0 else -1
