"""What a load generator is told: an order, and files with its requests and their schedule."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jitney.loadgen.seen import Array

__all__ = [
    "Order",
    "Request",
    "Tls",
    "read_blobs",
    "read_schedule",
    "write_blobs",
    "write_schedule",
]


class Request(NamedTuple):
    """A request that may be sent any number of times.

    ``message`` is its number in the file of messages, ``metadata`` what is sent beside it.
    """

    message: int
    metadata: tuple[tuple[str, str], ...] = ()


class Tls(NamedTuple):
    """Files to encrypt with, all in PEM form; without ``ca`` the usual authorities are trusted."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A run of one generator.

    ``schedule`` is a file of ``write_schedule``, whose kinds are numbers of ``requests``. Without a
    ``concurrency`` it is an open loop. With one it is a closed loop: so many calls at once, each
    followed by the next, for ``seconds`` or until ``count`` calls were made. Their kinds are those
    of the schedule, over and over; its moments mean nothing.

    ``messages`` is a file of ``write_blobs``, ``out`` where that of ``Seen`` is to be, ``replies``
    where the different replies are to be. Calls that have not ended ``grace`` seconds after the
    last was sent are lost. ``slo`` only tells what the reports of progress call in time.
    """

    address: str
    path: str
    messages: str
    requests: tuple[Request, ...]
    schedule: str
    out: str
    replies: str
    connections: int
    grace: float
    concurrency: int = 0
    seconds: float = 0.0
    count: int = 0
    slo: float = 0.0
    tls: Tls | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Order:
        """Read the JSON form."""
        requests = tuple(
            Request(message, tuple((key, value) for key, value in metadata))
            for message, metadata in table["requests"]
        )
        tls = None if table["tls"] is None else Tls(*table["tls"])
        return cls(**{**table, "requests": requests, "tls": tls})


def write_schedule(path: Path, at: Sequence[float], kinds: Sequence[int]) -> None:
    """Write when each call is sent, in seconds from the start, and of which kind it is."""
    with path.open("wb") as file:
        np.savez(file, at=np.asarray(at, np.float64), kind=np.asarray(kinds, np.uint32))


def read_schedule(path: str) -> tuple[Array, Array]:
    """Read what ``write_schedule`` wrote."""
    with np.load(path) as arrays:
        return arrays["at"], arrays["kind"]


def write_blobs(path: str, blobs: Sequence[bytes], owners: Sequence[int] = ()) -> None:
    """Write byte strings, and optionally a number beside each."""
    ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
    data = np.frombuffer(b"".join(blobs), np.uint8)
    with open(path, "wb") as file:  # noqa: PTH123  # as the other process named it
        np.savez(file, ends=ends, data=data, owners=np.asarray(owners, np.int64))


def read_blobs(path: str) -> tuple[list[bytes], list[int]]:
    """Read what ``write_blobs`` wrote: the byte strings and the numbers."""
    with np.load(path) as file:
        data, ends = file["data"].tobytes(), file["ends"].tolist()
        owners = file["owners"].tolist()
    starts = [0, *ends][: len(ends)]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)], owners
