"""Does a request keep a model's contract? Worked out once per header, then remembered.

The texts are those that public clients of the protocol compare; our own additions come after them.
All arithmetic is on Python's integers, which do not overflow, and nothing is allocated from a size
that a request claims: the sizes are only compared with the bytes that came.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import BatchTooLarge, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.signature import Signature, TensorSpec
    from jitney.types import Buffer, RequestHeader, TensorHeader

__all__ = ["Checked", "check_data", "check_header"]

MAX_STRINGS: Final = 100_000
"""Elements of a BYTES tensor. They are walked one by one on the event loop, at about half a
microsecond each, and nobody else is served meanwhile."""

LARGEST: Final = (1 << 63) - 1
WIDEST: Final = 8
"""Bytes of the widest element."""


class Checked(NamedTuple):
    """What follows from a header and a signature.

    ``dims`` are the dimensions of one row of each input, in the model's order; ``order`` and
    ``outputs`` are as in ``types.Placed``; ``sizes`` has, for each input of the *request*, its
    exact length in bytes, or for BYTES the negative of the number of its elements, minus 1.
    """

    rows: int
    dims: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    outputs: tuple[int, ...]
    sizes: tuple[int, ...]


def check_header(header: RequestHeader, signature: Signature, max_rows: int) -> Checked:
    """Check everything about a request but its bytes.

    :param max_rows: the batch limit of the model; ignored when the signature has no batch
        dimension.
    :raises InvalidRequest: naming the input or output, what was expected and what came.
    :raises BatchTooLarge: when it has more rows than ``max_rows``.
    """
    model = header.model_name
    given = _by_name(header)
    specs = signature.inputs
    known = {spec.name for spec in specs}
    for name in given:
        if name not in known:
            msg = f"unexpected inference input '{name}' for model '{model}'"
            raise InvalidRequest(msg)
    if missing := [spec.name for spec in specs if spec.name not in given]:
        msg = (
            f"expected {len(specs)} inputs but got {len(given)} inputs for model '{model}'. "
            f"Got input(s) {_listed(given)}, but missing required input(s) {_listed(missing)}. "
            "Please provide all required input(s)."
        )
        raise InvalidRequest(msg)
    dims, order, rows, sizes = [], [], 0, [0] * len(given)
    variables: dict[str, tuple[int, str]] = {}
    for spec in specs:
        at = given[spec.name]
        tensor = header.inputs[at]
        _check_tensor(tensor, spec, model, variables)
        if signature.batched:
            _check_rows(tensor, rows, max_rows, model)
            rows = tensor.shape[0]
        elements = math.prod(tensor.shape)
        if not elements:
            _check_empty(tensor, model)
        size = spec.datatype.item_size
        sizes[at] = elements * size if size else -elements - 1
        dims.append(tensor.shape[1:] if signature.batched else tensor.shape)
        order.append(at)
    outputs = _check_outputs(header, signature)
    return Checked(rows or 1, tuple(dims), tuple(order), outputs, tuple(sizes))


def check_data(header: RequestHeader, sizes: Sequence[int], data: Sequence[Buffer]) -> int:
    """Check the bytes of a request against the sizes that its header announced.

    :returns: the sum of their lengths.
    :raises InvalidRequest: naming the input, the length expected and the length that came.
    """
    total = 0
    for i, size in enumerate(sizes):
        length = len(data[i])
        if size >= 0:
            if length != size:
                msg = (
                    f"input byte size mismatch for input '{header.inputs[i].name}' for model "
                    f"'{header.model_name}'. Expected {size}, got {length}"
                )
                raise InvalidRequest(msg)
        else:
            _check_strings(header.inputs[i].name, header.model_name, -size - 1, data[i])
        total += length
    return total


def _by_name(header: RequestHeader) -> dict[str, int]:
    given: dict[str, int] = {}
    for i, tensor in enumerate(header.inputs):
        if tensor.name in given:
            msg = f"input '{tensor.name}' already exists in request"
            raise InvalidRequest(msg)
        given[tensor.name] = i
    return given


def _check_tensor(
    tensor: TensorHeader, spec: TensorSpec, model: str, variables: dict[str, tuple[int, str]]
) -> None:
    if tensor.datatype is not spec.datatype:
        msg = (
            f"inference input '{spec.name}' data-type is '{tensor.datatype.value}', "
            f"but model '{model}' expects '{spec.datatype.value}'"
        )
        raise InvalidRequest(msg)
    wanted = spec.wire_shape
    fits = len(tensor.shape) == len(wanted) and all(
        have >= 0 and want in (-1, have) for have, want in zip(tensor.shape, wanted, strict=True)
    )
    if not fits:
        msg = (
            f"unexpected shape for input '{spec.name}' for model '{model}'. "
            f"Expected [{_joined(wanted)}], got [{_joined(tensor.shape)}]."
        )
        raise InvalidRequest(msg)
    row = tensor.shape[1:] if spec.batched else tensor.shape
    for size, name in zip(row, spec.row_shape, strict=True):
        if not isinstance(name, str):
            continue
        seen, where = variables.setdefault(name, (size, spec.name))
        if seen != size:
            msg = (
                f"unexpected shape for input '{spec.name}' for model '{model}'. "
                f"Its dimension {name} is {size}, but that of input '{where}' is {seen}."
            )
            raise InvalidRequest(msg)


def _check_empty(tensor: TensorHeader, model: str) -> None:
    """Refuse a tensor without elements whose strides no 64-bit number can hold.

    Its bytes, none, agree with any other dimensions; native code that multiplies them may overflow.
    """
    if math.prod(size or 1 for size in tensor.shape) * WIDEST > LARGEST:
        msg = (
            f"input '{tensor.name}' for model '{model}' has the shape "
            f"[{_joined(tensor.shape)}], whose strides are too large"
        )
        raise InvalidRequest(msg)


def _check_rows(tensor: TensorHeader, rows: int, max_rows: int, model: str) -> None:
    have = tensor.shape[0]
    if have > max_rows:
        msg = f"inference request batch-size must be <= {max_rows} for '{model}', got {have}"
        raise BatchTooLarge(msg)
    if have < 1:
        msg = f"inference request batch-size must be >= 1 for '{model}', got {have}"
        raise InvalidRequest(msg)
    if rows and have != rows:
        msg = (
            f"input '{tensor.name}' batch-size does not match other inputs for '{model}': "
            f"{have} rows, the others have {rows}"
        )
        raise InvalidRequest(msg)


def _check_outputs(header: RequestHeader, signature: Signature) -> tuple[int, ...]:
    """Return the indices of the outputs asked for, in the model's order."""
    if not header.outputs:
        return tuple(range(len(signature.outputs)))
    index = {spec.name: i for i, spec in enumerate(signature.outputs)}
    chosen = set()
    for name in header.outputs:
        if name not in index:
            msg = f"unexpected inference output '{name}' for model '{header.model_name}'"
            raise InvalidRequest(msg)
        if index[name] in chosen:
            msg = f"output '{name}' already exists in request"
            raise InvalidRequest(msg)
        chosen.add(index[name])
    return tuple(sorted(chosen))


def _check_strings(name: str, model: str, expected: int, data: Buffer) -> None:
    """Walk the length prefixes of a BYTES tensor; each element must be UTF-8.

    A TorchScript text is a C++ string that torch refuses to make from anything else, so an element
    that is not UTF-8 would fail in the worker, where nobody knows whose it was.
    """
    if min(expected, len(data) // 4) > MAX_STRINGS:
        msg = (
            f"input '{name}' for model '{model}' has {expected} string elements, at most "
            f"{MAX_STRINGS} are allowed in a request"
        )
        raise InvalidRequest(msg)
    at, count, end = 0, 0, len(data)
    while at < end and count <= expected:
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if start > end or at > end:
            msg = (
                f"incomplete string element {count} of inference input '{name}' for model "
                f"'{model}': it ends {max(start, at) - end} bytes behind the data"
            )
            raise InvalidRequest(msg)
        try:
            str(data[start:at], "utf-8")
        except UnicodeDecodeError:
            msg = f"string element {count} of input '{name}' for model '{model}' is not UTF-8"
            raise InvalidRequest(msg) from None
        count += 1
    if count > expected:
        msg = (
            f"unexpected number of string elements {count} for inference input '{name}' for "
            f"model '{model}', expecting {expected}"
        )
        raise InvalidRequest(msg)
    if count < expected:
        msg = (
            f"expected {expected} string elements for inference input '{name}' for model "
            f"'{model}', got {count}"
        )
        raise InvalidRequest(msg)


def _listed(names: Iterable[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _joined(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
