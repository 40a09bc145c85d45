"""What the server tells a worker about a model that is to be loaded."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from typing import Any, Final

from jitney.errors import ConfigError
from jitney.signature import Signature
from jitney.warmup_sample import WarmupSample, check_warmup, read_warmup

__all__ = ["OPTIMISE", "LoadOptions"]

OPTIMISE: Final = ("auto", "optimised", "frozen", "off")
"""``auto`` takes the fastest form that passes the comparison; ``optimised`` and ``frozen`` take the
first that passes, starting there; ``off`` keeps the model as it is in its file."""

LEAST_WARMUP_RUNS: Final = 3
"""Torch's executor observes the first run and compiles in the second, so two tell nothing."""

MOST_BUCKETS: Final = 64

_KINDS: Final[dict[str, type]] = {
    "name": str,
    "version": int,
    "max_batch_size": int,
    "batching_required": bool,
    "optimise": str,
    "warmup_runs": int,
    "sweep_seconds": float,
    "default_slo_seconds": float,
    "inference_mode": bool,
    "cudnn": bool,
    "stateful": bool,
    "shared": bool,
}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How one version of a model is to be loaded; travels to the worker as JSON.

    ``max_batch_size`` counts rows; it is ignored when the signature has no batch dimension.
    ``batching_required`` refuses a model that fails the proof of batchability instead of giving it
    one request at a time. ``warmup_runs`` is the most that each bucket is run before it is
    measured, and ``sweep_seconds`` how long runs may take in all before less of them have to do.
    ``default_slo_seconds`` is what requests without a deadline are promised, 0 where it is nothing:
    around the batch size that it allows, a device that pads gets more buckets. ``buckets`` are
    batch sizes that the operator wants to be measured and used besides our own.
    ``inference_mode`` False runs the model under ``no_grad`` only; ``cudnn`` False runs it without
    cuDNN. A ``stateful`` model keeps state between runs on purpose, and is told by control inputs
    which row is which: it is not asked to prove that rows do not mix, nor that runs repeat, and is
    never padded. One that is not ``shared`` is given the rows of one request at a time, and not
    asked to prove anything of them. ``warmup`` are batches to be run besides those that the worker
    makes up.

    :raises ConfigError: on a value that is out of range, naming the option.
    """

    name: str
    version: int
    signature: Signature
    max_batch_size: int
    batching_required: bool = False
    optimise: str = "auto"
    warmup_runs: int = 10
    sweep_seconds: float = 5.0
    default_slo_seconds: float = 0.0
    inference_mode: bool = True
    cudnn: bool = True
    stateful: bool = False
    shared: bool = True
    buckets: tuple[int, ...] = ()
    warmup: tuple[WarmupSample, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.signature.batched and self.max_batch_size < 1:
            msg = f"max_batch_size: expected a number of rows >= 1, got {self.max_batch_size}"
            raise ConfigError(msg)
        if self.optimise not in OPTIMISE:
            msg = f"optimise: expected one of {', '.join(OPTIMISE)}, got {self.optimise!r}"
            raise ConfigError(msg)
        if self.warmup_runs < LEAST_WARMUP_RUNS:
            msg = f"warmup_runs: expected at least {LEAST_WARMUP_RUNS}, got {self.warmup_runs}"
            raise ConfigError(msg)
        if not 0 < self.sweep_seconds < math.inf:
            msg = f"sweep_seconds: expected a number above 0, got {self.sweep_seconds}"
            raise ConfigError(msg)
        if not 0 <= self.default_slo_seconds < math.inf:
            msg = f"default_slo_seconds: expected a number >= 0, got {self.default_slo_seconds}"
            raise ConfigError(msg)
        if len(self.buckets) > MOST_BUCKETS or any(rows < 1 for rows in self.buckets):
            msg = (
                f"buckets: expected at most {MOST_BUCKETS} numbers of rows >= 1, "
                f"got {list(self.buckets)}"
            )
            raise ConfigError(msg)
        check_warmup(self.warmup)

    def to_json(self) -> dict[str, Any]:
        """Return the table that ``from_json`` reads."""
        table: dict[str, Any] = {key: getattr(self, key) for key in _KINDS}
        table["signature"] = self.signature.to_json()
        table["buckets"] = list(self.buckets)
        table["warmup"] = [sample.to_json() for sample in self.warmup]
        return table

    @classmethod
    def from_json(cls, table: object) -> LoadOptions:
        """Read the JSON form, strictly: every key is known, and those without default are there.

        :raises ConfigError: naming the key that is wrong.
        """
        if not isinstance(table, dict):
            msg = f"load options: expected a table, got {type(table).__name__}"
            raise ConfigError(msg)
        if unknown := sorted(set(table) - set(_KINDS) - {"signature", "buckets", "warmup"}):
            msg = f"{unknown[0]}: unknown key"
            raise ConfigError(msg)
        if missing := sorted({"name", "version", "signature", "max_batch_size"} - set(table)):
            msg = f"{missing[0]}: missing"
            raise ConfigError(msg)
        values: dict[str, Any] = {}
        for key, kind in _KINDS.items():
            if key not in table:
                continue
            value = table[key]
            # `type is`, because a bool is an int to isinstance.
            if type(value) is not kind:
                msg = f"{key}: expected {kind.__name__}, got {value!r}"
                raise ConfigError(msg)
            values[key] = value
        buckets = table.get("buckets", [])
        if not isinstance(buckets, list) or not all(type(rows) is int for rows in buckets):
            msg = f"buckets: expected a list of numbers of rows, got {reprlib.repr(buckets)}"
            raise ConfigError(msg)
        return cls(
            signature=Signature.from_json(table["signature"]),
            buckets=tuple(buckets),
            warmup=read_warmup(table.get("warmup", [])),
            **values,
        )
