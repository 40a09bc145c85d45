"""What loading a model found out about it: for the operator, the metrics and the scheduler."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from jitney.errors import ModelError
from jitney.latency_profile import LatencyProfile

__all__ = ["Golden", "LoadReport"]

MOST_SIZES: Final = 256
"""Sizes of a profile that are read from a worker; ladders have a tenth of that."""


@dataclass(frozen=True, slots=True)
class Golden:
    """How many golden samples were compared, and the largest difference of any element."""

    samples: int
    max_error: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of all checks of one load.

    ``form`` is what runs: ``optimised``, ``frozen`` or ``plain``; ``why`` says in one sentence why,
    with the measured speed. ``max_batch_size`` is the limit in rows that held: 1 for a model that
    cannot be batched, 0 for one without batch dimension. ``latency`` is what the warm-up measured;
    ``peak_bytes`` the most memory of the device that was in use at once while it ran each size
    (on the CPU, of the worker process), or nothing where nobody looked. ``mutated_state`` names the
    attributes that a run writes, ``mutated_inputs`` the inputs.
    """

    form: str
    why: str
    batchable: bool
    batchable_why: str
    max_batch_size: int
    deterministic: bool
    mutated_state: tuple[str, ...]
    mutated_inputs: tuple[str, ...]
    golden: Golden
    latency: LatencyProfile
    memory_bytes: int
    load_seconds: float
    warnings: tuple[str, ...]
    peak_bytes: tuple[int, ...] = ()

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that were warmed, ascending; a device that pads runs no others."""
        return self.latency.sizes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "form": self.form,
            "why": self.why,
            "batchable": self.batchable,
            "batchable_why": self.batchable_why,
            "max_batch_size": self.max_batch_size,
            "deterministic": self.deterministic,
            "mutated_state": list(self.mutated_state),
            "mutated_inputs": list(self.mutated_inputs),
            "golden": {"samples": self.golden.samples, "max_error": self.golden.max_error},
            "latency": {
                "sizes": list(self.latency.sizes),
                "seconds": list(self.latency.seconds),
                "spread": list(self.latency.spread),
                "padded": self.latency.padded,
            },
            "memory_bytes": self.memory_bytes,
            "load_seconds": self.load_seconds,
            "warnings": list(self.warnings),
            "peak_bytes": list(self.peak_bytes),
        }

    @classmethod
    def from_json(cls, table: object) -> LoadReport:
        """Read the JSON form as a worker sent it, which a model may have had a hand in.

        :raises ModelError: when a key is missing, unknown, or not what it should be.
        """
        if not isinstance(table, dict) or set(table) != {f.name for f in dataclasses.fields(cls)}:
            msg = "a load report has other keys than it should"
            raise ModelError(msg)
        try:
            golden = table["golden"]
            return cls(
                form=_text(table["form"]),
                why=_text(table["why"]),
                batchable=bool(table["batchable"]),
                batchable_why=_text(table["batchable_why"]),
                max_batch_size=_rows(table["max_batch_size"]),
                deterministic=bool(table["deterministic"]),
                mutated_state=_texts(table["mutated_state"]),
                mutated_inputs=_texts(table["mutated_inputs"]),
                golden=Golden(_rows(golden["samples"]), float(golden["max_error"])),
                latency=_latency(table["latency"]),
                memory_bytes=_count(table["memory_bytes"]),
                load_seconds=float(table["load_seconds"]),
                warnings=_texts(table["warnings"]),
                peak_bytes=tuple(map(_count, _list(table["peak_bytes"]))),
            )
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            msg = f"a load report is malformed: {error}"
            raise ModelError(msg) from error


def _latency(table: dict[str, Any]) -> LatencyProfile:
    """Read a profile; a scheduler divides by what is in it, so it is not taken on trust."""
    if set(table) != {"sizes", "seconds", "spread", "padded"}:
        msg = "a latency profile has other keys than it should"
        raise ValueError(msg)
    sizes = tuple(map(_rows, _list(table["sizes"])))
    seconds = tuple(map(_seconds, _list(table["seconds"])))
    spread = tuple(map(_seconds, _list(table["spread"])))
    if not sizes or not len(sizes) == len(seconds) == len(spread):
        msg = f"{len(sizes)} sizes, {len(seconds)} durations, {len(spread)} spreads"
        raise ValueError(msg)
    if sizes[0] < 1 or not all(low < high for low, high in pairwise(sizes)):
        msg = "the sizes of a latency profile do not ascend from 1"
        raise ValueError(msg)
    if not min(seconds) > 0 or type(table["padded"]) is not bool:
        msg = "a latency profile without durations, or neither padded nor exact"
        raise ValueError(msg)
    return LatencyProfile(sizes, seconds, spread, table["padded"])


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MOST_SIZES:
        raise TypeError(type(value))
    return value


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]  # a number
        raise ValueError(value)
    return float(value)  # type: ignore[arg-type]  # likewise


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value[:4000]


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(value)
    return tuple(map(_text, value[:100]))


def _count(value: object, bits: int = 63) -> int:
    if type(value) is not int or value < 0 or value.bit_length() > bits:
        raise ValueError(value)
    return value


def _rows(value: object) -> int:
    return _count(value, 31)
