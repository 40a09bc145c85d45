"""What loading a model found out about it: for the operator, the metrics and the scheduler."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from jitney.errors import ModelError

__all__ = ["Golden", "LoadReport"]


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
    cannot be batched, 0 for one without batch dimension. ``buckets`` are the batch sizes that were
    warmed, ascending; ``warmup`` has the duration in seconds of the last run of each.
    ``mutated_state`` names the attributes that a run writes, ``mutated_inputs`` the inputs.
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
    buckets: tuple[int, ...]
    warmup: dict[int, float]
    memory_bytes: int
    load_seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; the keys of ``warmup`` become texts, as JSON wants them."""
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
            "buckets": list(self.buckets),
            "warmup": {str(rows): seconds for rows, seconds in self.warmup.items()},
            "memory_bytes": self.memory_bytes,
            "load_seconds": self.load_seconds,
            "warnings": list(self.warnings),
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
                buckets=tuple(map(_rows, table["buckets"])),
                warmup={int(rows): float(seconds) for rows, seconds in table["warmup"].items()},
                memory_bytes=_count(table["memory_bytes"]),
                load_seconds=float(table["load_seconds"]),
                warnings=_texts(table["warnings"]),
            )
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            msg = f"a load report is malformed: {error}"
            raise ModelError(msg) from error


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
