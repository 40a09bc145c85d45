"""Batches that an operator wants to be run before a model answers anybody."""

from __future__ import annotations

import base64
import binascii
import reprlib
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from jitney.errors import ConfigError

__all__ = ["MOST_DATA_BYTES", "WarmupInput", "WarmupSample", "read_warmup"]

Source: TypeAlias = Literal["zero", "random", "data"]

MOST_DATA_BYTES: Final = 64 << 10
"""Bytes of all data of one model. They travel to the worker inside one control message, which also
holds the signature. Rejected: to send files as descriptors, which would need a second way into the
worker for what random values do nearly as well."""
MOST_SAMPLES: Final = 64
MOST_RUNS: Final = 1000
MOST_ROWS: Final = (1 << 31) - 1
MOST_INPUTS: Final = 64
MOST_RANK: Final = 16


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """Where the values of one input come from.

    ``shape`` is that of one row, as clients see it, or of the whole tensor where the model has no
    batch dimension. ``data``, for the source of that name, is in the protocol's raw form: either
    one row, which is repeated, or all rows.

    :raises ConfigError: when source, shape and data do not agree.
    """

    name: str
    source: Source
    shape: tuple[int, ...]
    data: bytes = b""

    def __post_init__(self) -> None:
        """Check what can be checked without the signature."""
        if self.source not in get_args(Source):
            msg = (
                f"warmup: input {self.name!r}: expected one of {', '.join(get_args(Source))}, "
                f"got {reprlib.repr(self.source)}"
            )
            raise ConfigError(msg)
        if len(self.shape) > MOST_RANK or not all(type(n) is int and n >= 0 for n in self.shape):
            msg = (
                f"warmup: input {self.name!r}: expected a shape of sizes >= 0, "
                f"got {reprlib.repr(list(self.shape))}"
            )
            raise ConfigError(msg)
        if self.data and self.source != "data":
            msg = f"warmup: input {self.name!r}: has data, and its source is {self.source}"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A batch of ``rows`` rows that is run ``count`` times.

    An input that is not among ``inputs`` is left out, which only optional ones may be. ``rows``
    means nothing where the model has no batch dimension.

    :raises ConfigError: naming the sample.
    """

    name: str
    rows: int = 1
    count: int = 1
    inputs: tuple[WarmupInput, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        for what, value, most in (
            ("rows", self.rows, MOST_ROWS),
            ("count", self.count, MOST_RUNS),
        ):
            if not 1 <= value <= most:
                msg = f"warmup {self.name!r}: expected {what} from 1 to {most}, got {value}"
                raise ConfigError(msg)
        names = [given.name for given in self.inputs]
        if len(names) > MOST_INPUTS or len(set(names)) != len(names):
            msg = f"warmup {self.name!r}: {len(names)} inputs; expected each once, and no others"
            raise ConfigError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return the table that ``read_warmup`` reads."""
        return {
            "name": self.name,
            "rows": self.rows,
            "count": self.count,
            "inputs": [
                {
                    "name": given.name,
                    "source": given.source,
                    "shape": list(given.shape),
                    "data": base64.b64encode(given.data).decode(),
                }
                for given in self.inputs
            ],
        }


def check_warmup(samples: tuple[WarmupSample, ...]) -> None:
    """Check that samples can be sent to a worker.

    :raises ConfigError: naming the first sample that is too much.
    """
    if len(samples) > MOST_SAMPLES:
        msg = f"warmup: {len(samples)} samples, at most {MOST_SAMPLES} are run"
        raise ConfigError(msg)
    total = 0
    for sample in samples:
        for given in sample.inputs:
            total += len(given.data)
            if total > MOST_DATA_BYTES:
                msg = (
                    f"warmup {sample.name!r}: with the {len(given.data)} bytes of its input "
                    f"{given.name!r} the samples of this model have {total} bytes of data, at most "
                    f"{MOST_DATA_BYTES} can be used; take random values for large inputs"
                )
                raise ConfigError(msg)


def read_warmup(value: object) -> tuple[WarmupSample, ...]:
    """Read what ``WarmupSample.to_json`` wrote, strictly.

    :raises ConfigError: when it is not that.
    """
    try:
        samples = tuple(map(_sample, _list(value)))
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        msg = f"warmup: malformed ({type(error).__name__}: {reprlib.repr(str(error))})"
        raise ConfigError(msg) from None
    return samples


def _sample(value: object) -> WarmupSample:
    table = _table(value, {"name", "rows", "count", "inputs"})
    inputs = tuple(map(_input, _list(table["inputs"])))
    return WarmupSample(_text(table["name"]), _whole(table["rows"]), _whole(table["count"]), inputs)


def _input(value: object) -> WarmupInput:
    table = _table(value, {"name", "source", "shape", "data"})
    source: Any = _text(table["source"])  # WarmupInput refuses what is none
    data = base64.b64decode(_text(table["data"]), validate=True)
    shape = tuple(map(_whole, _list(table["shape"])))
    return WarmupInput(_text(table["name"]), source, shape, data)


def _table(value: object, keys: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or set(value) != keys:
        raise TypeError(reprlib.repr(value))
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(reprlib.repr(value))
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(reprlib.repr(value))
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(reprlib.repr(value))
    return value
