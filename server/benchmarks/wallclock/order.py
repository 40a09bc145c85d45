"""What a load generator is told and what it saw: files between two processes of one machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Kind", "Order", "Seen", "read_seen", "write_schedule", "write_seen"]


class Kind(NamedTuple):
    """What calls of one kind have in common: the model, whose they are, and their deadline.

    ``timeout_ms`` is what they tell gRPC; 0 tells nothing.
    """

    model: str
    tenant: str = ""
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A run of a generator.

    ``schedule`` is the file of ``write_schedule``, ``out`` where the file of ``Seen`` is to be.
    Calls that have not ended ``grace`` seconds after the last was sent are lost. ``tenant_key`` is
    the metadata key of tenants.
    """

    address: str
    schedule: str
    out: str
    kinds: tuple[Kind, ...]
    connections: int
    grace: float
    tenant_key: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Order:
        """Read the JSON form."""
        return cls(**{**table, "kinds": tuple(Kind(*kind) for kind in table["kinds"])})


def write_schedule(path: Path, at: Sequence[float], kinds: Sequence[int]) -> None:
    """Write when each call is sent, in seconds from the start, and of which kind it is."""
    with path.open("wb") as file:
        np.savez(file, at=np.asarray(at, np.float64), kind=np.asarray(kinds, np.uint16))


def read_schedule(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read what ``write_schedule`` wrote."""
    with np.load(path) as arrays:
        return arrays["at"], arrays["kind"]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What became of every call, by its number; all times in seconds from the start of the run.

    ``at`` is when it was to be sent and ``sent`` when it was; ``code`` is its gRPC status, or one
    of ``connection``'s; ``reason`` indexes ``reasons``, the server's words. ``wrong`` counts OK
    replies that were not the echo of their request; ``cpu_seconds`` is the generator's own.
    """

    at: np.ndarray
    kind: np.ndarray
    sent: np.ndarray
    ended: np.ndarray
    code: np.ndarray
    reason: np.ndarray
    reasons: tuple[str, ...]
    wrong: int
    cpu_seconds: float


def write_seen(path: str, seen: Seen) -> None:
    """Write a file for ``read_seen``."""
    arrays = {name: getattr(seen, name) for name in ARRAYS}
    with open(path, "wb") as file:  # noqa: PTH123  # as the other process named it
        np.savez(
            file,
            reasons=np.array(seen.reasons or ("",)),
            numbers=np.array((seen.wrong, seen.cpu_seconds)),
            **arrays,
        )


ARRAYS = ("at", "kind", "sent", "ended", "code", "reason")


def read_seen(path: str) -> Seen:
    """Read what ``write_seen`` wrote."""
    with np.load(path) as file:
        wrong, cpu_seconds = file["numbers"].tolist()
        arrays = {name: file[name] for name in ARRAYS}
        reasons = tuple(file["reasons"].tolist())
    return Seen(**arrays, reasons=reasons, wrong=int(wrong), cpu_seconds=cpu_seconds)
