"""Golden samples: inputs of a model and the answers that its author got, kept in the model file.

A worker feeds them to a freshly loaded model and compares, so that a file that loads but computes
something else (a flipped bit, another build of torch, a wrong conversion) is refused before it
answers anybody.

The bytes: the length of the header (8 bytes, unsigned, little-endian), the header (JSON, UTF-8),
then the data of all tensors in the order of the header, without gaps. Rejected: pickle (it runs
code) and ``.npz`` (needs numpy, knows neither BF16 nor BYTES).
"""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.signature import MAX_NAME, MAX_RANK, MAX_TENSORS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXTRA_FILE", "Sample", "SampleTensor", "read_samples", "write_samples"]

EXTRA_FILE: Final = "jitney.samples"
"""The name under which a packed model holds its samples (``_extra_files``)."""

FORMAT_VERSION: Final = 1
MAX_SAMPLES: Final = 64
MAX_HEADER_BYTES: Final = 1 << 20
MAX_BYTES: Final = 256 << 20
LENGTH_BYTES: Final = 8
PREFIX_BYTES: Final = 4
"""What each element of BYTES is preceded by: its length, as in the protocol's raw contents."""


@dataclass(frozen=True, slots=True)
class SampleTensor:
    """One input or output of a sample.

    ``shape`` includes the batch dimension; ``data`` are the elements, row-major and little-endian,
    exactly as the protocol's raw contents have them (BYTES: each element behind its length).

    Invariant: datatype, shape and the length of ``data`` agree; there is no instance otherwise.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        """Check the invariant.

        :raises ModelError: when it does not hold.
        """
        if not isinstance(self.name, str) or not 0 < len(self.name) <= MAX_NAME:
            msg = f"sample: a name has 1 to {MAX_NAME} characters, got {reprlib.repr(self.name)}"
            raise ModelError(msg)
        if len(self.shape) > MAX_RANK:
            msg = f"sample {self.name!r}: {len(self.shape)} dimensions, at most {MAX_RANK}"
            raise ModelError(msg)
        for size in self.shape:
            if not _is_count(size):
                msg = f"sample {self.name!r}: {reprlib.repr(size)} is no size of a dimension"
                raise ModelError(msg)
        count = math.prod(self.shape)
        if self.datatype is DataType.BYTES:
            self._check_elements(count)
        elif len(self.data) != count * self.datatype.item_size:
            msg = (
                f"sample {self.name!r}: {self.datatype.value} {list(self.shape)} takes "
                f"{count * self.datatype.item_size} bytes, got {len(self.data)}"
            )
            raise ModelError(msg)

    def _check_elements(self, count: int) -> None:
        found, position, end = 0, 0, len(self.data)
        while position + PREFIX_BYTES <= end:
            prefix = self.data[position : position + PREFIX_BYTES]
            position += PREFIX_BYTES + int.from_bytes(prefix, "little")
            found += 1
        if position != end or found != count:
            msg = (
                f"sample {self.name!r}: BYTES {list(self.shape)} takes {count} elements, each "
                f"behind its length in {PREFIX_BYTES} bytes; the data are not that"
            )
            raise ModelError(msg)


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs and the outputs that belong to them, both in the order of the model's signature."""

    inputs: list[SampleTensor]
    outputs: list[SampleTensor]


def write_samples(samples: Sequence[Sample]) -> bytes:
    """Return the bytes that ``read_samples`` reads.

    :raises ModelError: when there are more, or larger, than a file may hold.
    """
    if len(samples) > MAX_SAMPLES:
        msg = f"samples: {len(samples)} given, a model file holds at most {MAX_SAMPLES}"
        raise ModelError(msg)
    tensors = [tensor for sample in samples for tensor in (*sample.inputs, *sample.outputs)]
    table = {
        "format": FORMAT_VERSION,
        "samples": [
            {
                "inputs": [_to_json(tensor) for tensor in sample.inputs],
                "outputs": [_to_json(tensor) for tensor in sample.outputs],
            }
            for sample in samples
        ],
    }
    header = json.dumps(table, separators=(",", ":")).encode()
    total = LENGTH_BYTES + len(header) + sum(len(tensor.data) for tensor in tensors)
    if len(header) > MAX_HEADER_BYTES or total > MAX_BYTES:
        msg = (
            f"samples: {total} bytes, a model file holds at most {MAX_BYTES}; "
            "give fewer samples or fewer rows"
        )
        raise ModelError(msg)
    length = len(header).to_bytes(LENGTH_BYTES, "little")
    return b"".join((length, header, *(tensor.data for tensor in tensors)))


def _to_json(tensor: SampleTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.value,
        "shape": list(tensor.shape),
        "nbytes": len(tensor.data),
    }


def read_samples(data: bytes) -> list[Sample]:
    """Read what ``write_samples`` wrote; no bytes at all are no samples.

    :raises ModelError: when anything does not fit; nothing is allocated on the word of the header.
    """
    if not data:
        return []
    if len(data) > MAX_BYTES:
        msg = f"samples: {len(data)} bytes, at most {MAX_BYTES} are read"
        raise ModelError(msg)
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + size
    if len(data) < LENGTH_BYTES or size > MAX_HEADER_BYTES or start > len(data):
        msg = "samples: cut short, or not golden samples at all; pack the model again"
        raise ModelError(msg)
    try:
        table = json.loads(data[LENGTH_BYTES:start].decode())
    except (ValueError, RecursionError):
        msg = "samples: the header is no JSON; pack the model again"
        raise ModelError(msg) from None
    if not isinstance(table, dict) or table.get("format") != FORMAT_VERSION:
        msg = f"samples: this server reads format {FORMAT_VERSION}; pack the model again"
        raise ModelError(msg)
    reader = _Reader(data, start)
    samples = [
        Sample(reader.tensors(item.get("inputs")), reader.tensors(item.get("outputs")))
        for item in _tables(table.get("samples"), MAX_SAMPLES)
    ]
    if reader.position != len(data):
        msg = f"samples: {len(data) - reader.position} bytes are left over; pack the model again"
        raise ModelError(msg)
    return samples


class _Reader:
    """Takes tensors off the data, front to back."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def tensors(self, value: object) -> list[SampleTensor]:
        return [self._tensor(table) for table in _tables(value, MAX_TENSORS)]

    def _tensor(self, table: dict[str, Any]) -> SampleTensor:
        nbytes, shape = table.get("nbytes"), table.get("shape")
        if not _is_count(nbytes) or nbytes > len(self.data) - self.position:
            msg = "samples: a tensor reaches past the end; pack the model again"
            raise ModelError(msg)
        if not isinstance(shape, list):
            msg = f"samples: a shape is a list, got {reprlib.repr(shape)}"
            raise ModelError(msg)
        datatype = DataType.__members__.get(str(table.get("datatype")))
        if datatype is None:
            msg = f"samples: unknown datatype {reprlib.repr(table.get('datatype'))}"
            raise ModelError(msg)
        end = self.position + nbytes
        name: Any = table.get("name")  # SampleTensor refuses what is no text
        tensor = SampleTensor(name, datatype, tuple(shape), self.data[self.position : end])
        self.position = end
        return tensor


def _is_count(value: object) -> TypeGuard[int]:
    # The upper bound is the protocol's int64; it also keeps products printable.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _tables(value: object, limit: int) -> list[dict[str, Any]]:
    if (
        not isinstance(value, list)
        or len(value) > limit
        or not all(isinstance(item, dict) for item in value)
    ):
        msg = f"samples: expected a list of at most {limit} tables; pack the model again"
        raise ModelError(msg)
    return value
