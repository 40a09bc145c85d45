"""What a model takes and gives: the contract between its author, the server and the worker.

A signature is written as JSON into the model file (``jitney pack``), or as TOML beside it
(``model.toml``); both have the same tables and are read here, strictly. Shapes name the batch
dimension: ``["N", 1, 8, 8]`` is a batch of images, ``["N", "L"]`` a batch of sequences whose length
varies, ``[3, -1]`` has no batch dimension. Equal letters in the inputs must have equal values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from jitney.datatypes import DataType
from jitney.errors import ConfigError

__all__ = ["BATCH", "FORMAT_VERSION", "Signature", "TensorSpec", "fits_reshape"]

BATCH: Final = "N"
"""The name of the batch dimension in shapes."""

FORMAT_VERSION: Final = 1
"""The version of the JSON form; a file with another one is refused."""

MAX_TENSORS: Final = 64
MAX_RANK: Final = 16
MAX_NAME: Final = 128
MAX_LABELS: Final = 100_000


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    ``shape`` has one element per dimension: an int > 0 (fixed), -1 (varies), ``"N"`` (the batch
    dimension, first or absent) or another name (varies, but equally wherever the name occurs).
    ``low`` and ``high`` bound the random values that warm-up and proofs may feed (inclusive).
    ``labels`` are class names of the last dimension of an output. ``reshape`` are the dimensions of
    one row as the model itself takes or gives it, where they differ from those that clients see;
    None where they do not. Both have as many elements; sizes that vary correspond in order, and
    what stands between them has as many elements on both sides (``fits_reshape``).
    """

    name: str
    datatype: DataType
    shape: tuple[int | str, ...]
    optional: bool = False
    low: float | None = None
    high: float | None = None
    labels: tuple[str, ...] = ()
    reshape: tuple[int, ...] | None = None

    @property
    def batched(self) -> bool:
        """Whether the first dimension counts rows."""
        return bool(self.shape) and self.shape[0] == BATCH

    @property
    def row_shape(self) -> tuple[int | str, ...]:
        """The dimensions of one row, names kept."""
        return self.shape[1:] if self.batched else self.shape

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of one row, -1 where they vary."""
        return tuple(size if isinstance(size, int) else -1 for size in self.row_shape)

    @property
    def model_dims(self) -> tuple[int, ...]:
        """The dimensions of one row as the model itself has them, -1 where they vary."""
        return self.dims if self.reshape is None else self.reshape

    @property
    def wire_shape(self) -> tuple[int, ...]:
        """The shape as the protocol's metadata shows it: -1 for the batch and what varies."""
        return (-1, *self.dims) if self.batched else self.dims

    @property
    def row_bytes(self) -> int | None:
        """Bytes of one row, or None where they vary."""
        if -1 in self.dims or self.datatype is DataType.BYTES:
            return None
        return math.prod(self.dims) * self.datatype.item_size

    def to_json(self) -> dict[str, Any]:
        """Return the table that ``from_json`` reads; defaults are left out."""
        table: dict[str, Any] = {
            "name": self.name,
            "datatype": self.datatype.value,
            "shape": list(self.shape),
        }
        if self.optional:
            table["optional"] = True
        for bound in ("low", "high"):
            if (value := getattr(self, bound)) is not None:
                table[bound] = value
        if self.labels:
            table["labels"] = list(self.labels)
        if self.reshape is not None:
            table["reshape"] = list(self.reshape)
        return table

    @classmethod
    def from_json(cls, table: object, where: str) -> TensorSpec:
        """Read one tensor's table.

        :param where: the path of the table, for error texts, such as ``input[0]``.
        :raises ConfigError: on an unknown key, or a value that is not what the key takes.
        """
        if not isinstance(table, dict):
            msg = f"{where}: expected a table with name, datatype and shape, got {table!r}"
            raise ConfigError(msg)
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(table) - known):
            msg = f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
            raise ConfigError(msg)
        name = table.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            msg = (
                f"{where}.name: expected a text of 1 to {MAX_NAME} printable characters, "
                f"got {name!r}"
            )
            raise ConfigError(msg)
        try:
            datatype = DataType(table.get("datatype"))
        except ValueError:
            msg = (
                f"{where}.datatype: expected one of {', '.join(d.value for d in DataType)}, "
                f"got {table.get('datatype')!r}"
            )
            raise ConfigError(msg) from None
        shape = _read_shape(table.get("shape"), f"{where}.shape")
        low, high = _read_bounds(table, where)
        optional = table.get("optional", False)
        if not isinstance(optional, bool):
            msg = f"{where}.optional: expected true or false, got {optional!r}"
            raise ConfigError(msg)
        labels = table.get("labels", [])
        if (
            not isinstance(labels, list | tuple)
            or len(labels) > MAX_LABELS
            or not all(isinstance(label, str) and is_text(label) for label in labels)
        ):
            msg = f"{where}.labels: expected a list of at most {MAX_LABELS} texts"
            raise ConfigError(msg)
        spec = cls(name, datatype, shape, optional, low, high, tuple(labels))
        if "reshape" not in table:
            return spec
        return replace(spec, reshape=_read_reshape(table["reshape"], spec.dims, where))


def _read_bounds(table: dict[str, Any], where: str) -> tuple[float | None, float | None]:
    bounds: list[Any] = []
    for bound in ("low", "high"):
        value = table.get(bound)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            msg = f"{where}.{bound}: expected a finite number, got {value!r}"
            raise ConfigError(msg)
        bounds.append(value)
    if None not in bounds and bounds[0] > bounds[1]:
        msg = f"{where}: low is {bounds[0]}, above high, which is {bounds[1]}"
        raise ConfigError(msg)
    return bounds[0], bounds[1]


def _read_shape(value: object, where: str) -> tuple[int | str, ...]:
    if not isinstance(value, list | tuple):
        msg = f'{where}: expected a list such as ["N", 3, 224, 224], got {value!r}'
        raise ConfigError(msg)
    if len(value) > MAX_RANK:
        msg = f"{where}: {len(value)} dimensions, at most {MAX_RANK} are supported"
        raise ConfigError(msg)
    for position, size in enumerate(value):
        if isinstance(size, str) and size.isidentifier():
            if size == BATCH and position > 0:
                msg = f'{where}: the batch dimension "N" must come first'
                raise ConfigError(msg)
            continue
        if isinstance(size, int) and not isinstance(size, bool) and (size == -1 or size > 0):
            continue
        msg = f"{where}[{position}]: expected a size > 0, -1 or a name, got {size!r}"
        raise ConfigError(msg)
    return tuple(value)


def _read_reshape(value: object, dims: tuple[int, ...], where: str) -> tuple[int, ...]:
    shape = _read_shape(value, f"{where}.reshape")
    reshape = tuple(size for size in shape if isinstance(size, int))
    if len(reshape) != len(shape) or not fits_reshape(dims, reshape):
        msg = (
            f"{where}.reshape: {list(shape)} must have as many elements as a row of the shape, "
            f"{list(dims)}, and a -1 for each size that varies, in the same order"
        )
        raise ConfigError(msg)
    return reshape


def fits_reshape(dims: tuple[int, ...], reshape: tuple[int, ...]) -> bool:
    """Whether every tensor of a row's dimensions ``dims`` is one of ``reshape``, and in one way.

    The n-th -1 of one stands for the n-th -1 of the other, so the sizes between them have to have
    equal products. (Rejected: one -1 that takes what is left. It accepts ``[-1, 4]`` as ``[-1, 3]``
    and finds out in the middle of a batch.)
    """
    return _products(dims) == _products(reshape)


def _products(dims: tuple[int, ...]) -> list[int]:
    products = [1]
    for size in dims:
        if size == -1:
            products.append(1)
        else:
            products[-1] *= size
    return products


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, in the order in which its ``forward`` has them.

    Invariants: names are unique on each side; either every tensor has the batch dimension or
    none has.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    description: str = ""
    batched: bool = field(init=False)

    def __post_init__(self) -> None:
        """Check the invariants.

        :raises ConfigError: when one does not hold.
        """
        for side, specs in (("input", self.inputs), ("output", self.outputs)):
            if not 0 < len(specs) <= MAX_TENSORS:
                msg = f"{side}: expected 1 to {MAX_TENSORS} tensors, got {len(specs)}"
                raise ConfigError(msg)
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names):
                msg = f"{side}: the name {max(names, key=names.count)!r} occurs more than once"
                raise ConfigError(msg)
        kinds = {spec.batched for spec in (*self.inputs, *self.outputs)}
        if len(kinds) > 1:
            msg = 'either every input and output starts with the batch dimension "N", or none does'
            raise ConfigError(msg)
        object.__setattr__(self, "batched", kinds.pop())

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as it stands in a packed model under ``jitney.json``."""
        table: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "input": [spec.to_json() for spec in self.inputs],
            "output": [spec.to_json() for spec in self.outputs],
        }
        if self.description:
            table["description"] = self.description
        return table

    @classmethod
    def from_json(cls, table: object, where: str = "signature") -> Signature:
        """Read the JSON form.

        :raises ConfigError: naming the key that is wrong, with its path.
        """
        if not isinstance(table, dict):
            msg = f"{where}: expected a table, got {type(table).__name__}"
            raise ConfigError(msg)
        if table.get("format") != FORMAT_VERSION:
            msg = (
                f"{where}.format: this server reads format {FORMAT_VERSION}, "
                f"got {table.get('format')!r}"
            )
            raise ConfigError(msg)
        if unknown := sorted(set(table) - {"format", "input", "output", "description"}):
            msg = f"{where}: unknown key {unknown[0]!r}"
            raise ConfigError(msg)
        description = table.get("description", "")
        if not isinstance(description, str) or not is_text(description):
            msg = f"{where}.description: expected a text, got {description!r}"
            raise ConfigError(msg)
        return cls(
            read_tensors(table.get("input"), f"{where}.input"),
            read_tensors(table.get("output"), f"{where}.output"),
            description,
        )


def is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can spell half characters, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_tensors(value: object, where: str) -> tuple[TensorSpec, ...]:
    """Read a list of tensor tables.

    :raises ConfigError: naming the key that is wrong, with its path.
    """
    if not isinstance(value, list | tuple):
        msg = f"{where}: expected a list of tables, got {value!r}"
        raise ConfigError(msg)
    return tuple(TensorSpec.from_json(item, f"{where}[{i}]") for i, item in enumerate(value))
