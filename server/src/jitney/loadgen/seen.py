"""What a load generator saw, as a file between it and whoever judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Array", "Seen", "joined", "read_seen", "write_seen"]

Array = np.ndarray[Any, np.dtype[Any]]
COLUMNS: Final = ("at", "kind", "sent", "ended", "code", "reason")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What became of every call, by its number; all times in seconds from the start of the run.

    ``at`` is when it was to be sent and ``sent`` when it was; ``code`` is its gRPC status, or one
    of ``connection``'s; ``reason`` indexes ``reasons``, the server's words. ``wrong`` counts OK
    replies that were not the answer to their request; ``cpu_seconds`` is the generator's own.
    """

    at: Array
    kind: Array
    sent: Array
    ended: Array
    code: Array
    reason: Array
    reasons: tuple[str, ...]
    wrong: int
    cpu_seconds: float


def write_seen(path: str, seen: Seen) -> None:
    """Write a file for ``read_seen``."""
    columns = {name: getattr(seen, name) for name in COLUMNS}
    with open(path, "wb") as file:  # noqa: PTH123  # as the other process named it
        np.savez(
            file,
            reasons=np.array(seen.reasons or ("",)),
            numbers=np.array((seen.wrong, seen.cpu_seconds)),
            **columns,
        )


def read_seen(path: str) -> Seen:
    """Read what ``write_seen`` wrote."""
    with np.load(path) as file:
        wrong, cpu_seconds = file["numbers"].tolist()
        columns = {name: file[name] for name in COLUMNS}
        reasons = tuple(file["reasons"].tolist())
    return Seen(**columns, reasons=reasons, wrong=int(wrong), cpu_seconds=cpu_seconds)


def joined(parts: Sequence[Seen]) -> Seen:
    """Return what several generators of one run saw, in the order of the schedule."""
    reasons = {"": 0}
    moved = []
    for part in parts:
        places = np.array([reasons.setdefault(word, len(reasons)) for word in part.reasons])
        moved.append(places[part.reason])
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    columns["reason"] = np.concatenate(moved)
    order = np.argsort(columns["at"], kind="stable")
    return Seen(
        **{name: column[order] for name, column in columns.items()},
        reasons=tuple(reasons),
        wrong=sum(part.wrong for part in parts),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
    )
