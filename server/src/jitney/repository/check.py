"""Does a request keep a model's contract? Worked out once per header, then remembered.

The texts are those that public clients of the protocol compare; our own additions come after them.
All arithmetic is on Python's integers, which do not overflow, and nothing is allocated from a size
that a request claims: the sizes are only compared with the bytes that came.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.datatypes import DataType
from jitney.errors import BatchTooLarge, InvalidRequest
from jitney.strings import LENGTH, blocks, first_not_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.signature import Signature, TensorSpec
    from jitney.types import Buffer, Bytes, RequestHeader, TensorHeader

__all__ = ["Checked", "check_data", "check_header"]

MAX_STRINGS: Final = 16 << 20
"""Elements of a BYTES tensor."""
MAX_SINGLES: Final = 1 << 20
"""Of those, the ones that are no part of a run of equally long ones. They are walked one by one on
the event loop, at about 80 ns each, and nobody else is served meanwhile."""
FEW: Final = 64
"""Elements that are decoded faster one by one than NumPy is called."""
CLASSIFIABLE: Final = frozenset({DataType.FP32, DataType.FP64}) | {
    datatype for datatype in DataType if datatype.is_integer
}
"""Outputs whose highest elements may be asked for, instead of the tensor."""

LARGEST: Final = (1 << 63) - 1
WIDEST: Final = 8
"""Bytes of the widest element."""


class Checked(NamedTuple):
    """What follows from a header and a signature.

    ``dims`` are the dimensions of one row of each input, in the model's order, None for an optional
    input that was left out; ``order`` and ``outputs`` are as in ``types.Placed``; ``sizes`` has,
    for each input of the *request*, its exact length in bytes, or for BYTES the negative of the
    number of its elements, minus 1.
    """

    rows: int
    dims: tuple[tuple[int, ...] | None, ...]
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
    if missing := [s.name for s in specs if s.name not in given and not s.optional]:
        raise _incomplete(model, specs, given, missing)
    dims: list[tuple[int, ...] | None] = []
    order, rows, sizes = [], 0, [0] * len(given)
    variables: dict[str, tuple[int, str]] = {}
    for spec in specs:
        at = given.get(spec.name, -1)
        if at < 0:
            dims.append(None)
            continue
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


def check_data(
    header: RequestHeader, sizes: Sequence[int], data: Sequence[Buffer], *, text: bool = True
) -> int:
    """Check the bytes of a request against the sizes that its header announced.

    BYTES must be at hand, not in a ``RemoteBuffer``: there they could change after the check.

    :param text: elements of BYTES have to be UTF-8. A TorchScript text is a C++ string that torch
        refuses to make from anything else, so such an element would fail in the worker, where
        nobody knows whose it was.
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
            strings = data[i]
            assert isinstance(strings, bytes | bytearray | memoryview)  # noqa: S101  # see above
            _check_strings(header.inputs[i].name, header.model_name, -size - 1, strings, text=text)
        total += length
    return total


def _incomplete(
    model: str, specs: Sequence[TensorSpec], given: Iterable[str], missing: Iterable[str]
) -> InvalidRequest:
    given = list(given)
    least = sum(not spec.optional for spec in specs)
    expected = f"{least} inputs"
    if least != len(specs):
        expected = f"number of inputs between {least} and {len(specs)}"
    return InvalidRequest(
        f"expected {expected} but got {len(given)} inputs for model '{model}'. "
        f"Got input(s) {_listed(given)}, but missing required input(s) {_listed(missing)}. "
        "Please provide all required input(s)."
    )


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
    for name, classes in zip(header.outputs, header.classes, strict=False):
        spec = signature.outputs[index[name]]
        if classes and spec.datatype not in CLASSIFIABLE:
            msg = (
                "class result not available for output due to unsupported type "
                f"'{spec.datatype.value}'"
            )
            raise InvalidRequest(msg)
    return tuple(sorted(chosen))


def _check_strings(name: str, model: str, expected: int, data: Bytes, *, text: bool) -> None:
    """Walk the length prefixes of a BYTES tensor, and see whether its elements are UTF-8."""
    if min(expected, len(data) // LENGTH.size) > MAX_STRINGS:
        msg = (
            f"input '{name}' for model '{model}' has {expected} string elements, at most "
            f"{MAX_STRINGS} are allowed in a request"
        )
        raise InvalidRequest(msg)
    if text and bytes(data).isascii():
        text = False  # every element is; one of 128 bytes or more hides that behind its length
    count = singles = at = 0
    # One more than expected, to see that there are too many.
    for starts, at in blocks(data, expected + 1):
        count += len(starts)
        if at > len(data):
            msg = (
                f"incomplete string element {count - 1} of inference input '{name}' for model "
                f"'{model}': it ends {at - len(data)} bytes behind the data"
            )
            raise InvalidRequest(msg)
        singles += len(starts) if isinstance(starts, list) else FEW  # as long as a run takes
        if singles > MAX_SINGLES:
            msg = (
                f"input '{name}' for model '{model}' has more than {MAX_SINGLES} string elements "
                "of different lengths; send them in several requests"
            )
            raise InvalidRequest(msg)
        if text and (wrong := _not_text(data, starts, at)) is not None:
            wrong += count - len(starts)
            msg = f"string element {wrong} of input '{name}' for model '{model}' is not UTF-8"
            raise InvalidRequest(msg)
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


def _not_text(data: Bytes, starts: range | list[int], end: int) -> int | None:
    if len(starts) > FEW:
        return first_not_text(data, starts, end)
    for i, start in enumerate(starts):
        (length,) = LENGTH.unpack_from(data, start)
        at = start + LENGTH.size
        try:
            str(data[at : at + length], "utf-8")
        except UnicodeDecodeError:
            return i
    return None


def _listed(names: Iterable[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _joined(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
