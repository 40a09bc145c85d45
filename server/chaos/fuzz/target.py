"""What is fed with hostile inputs, and what comes of feeding it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from jitney.testing.mutations import mutations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Fed", "Reader", "Target", "feed", "keep", "kept"]

CRASHERS: Final = Path(__file__).parent / "crashers"
SUSPICIOUS: Final = 0.1
"""Seconds of CPU above which an input is fed again."""
MOST_CRASHERS: Final = 20


class Reader(Protocol):
    """Reads inputs, and knows what reading them may raise."""

    def read(self, data: bytes) -> bool:
        """Return whether an input was taken (True) or refused in good order (False).

        Whatever it raises is a fault.
        """

    def settle(self) -> None:
        """Check, after all of them, that nothing of them is left; raise where there is."""


class Target(NamedTuple):
    """``make`` makes a reader, anew in every process; ``corpus`` are inputs to begin with."""

    name: str
    make: Callable[[], Reader]
    corpus: Callable[[], Sequence[bytes]]


@dataclass(slots=True)
class Fed:
    """How a number of inputs ended; ``slowest`` in seconds of CPU."""

    taken: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    crashers: list[bytes] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many inputs there were."""
        return self.taken + self.refused + len(self.crashers)

    def add(self, other: Fed) -> None:
        """Add what another process fed."""
        self.taken += other.taken
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.seconds = max(self.seconds, other.seconds)
        self.faults += other.faults
        self.crashers += other.crashers


def feed(target: Target, count: int, seed: int, inputs: Iterable[bytes] = ()) -> Fed:
    """Feed a new reader with so many wounded inputs.

    :param inputs: and with these first, as they are.
    """
    fed, reader, corpus = Fed(), target.make(), target.corpus()
    began = time.perf_counter()
    for data in (*inputs, *corpus):
        _feed_one(fed, reader, data)
    for data in mutations(corpus, count, seed):
        _feed_one(fed, reader, data)
        if len(fed.crashers) >= MOST_CRASHERS:
            break
    fed.seconds = time.perf_counter() - began
    try:
        reader.settle()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        fed.faults.append(f"at the end: {type(error).__name__}: {error}")
    return fed


def _feed_one(fed: Fed, reader: Reader, data: bytes) -> None:
    taken = _read_one(fed, reader, data)
    if taken > SUSPICIOUS:
        # A virtual machine that stood still, or the collector of cycles: an input that is slow by
        # itself is slow again.
        taken = min(taken, _read_one(Fed(), reader, data))
    fed.slowest = max(fed.slowest, taken)


def _read_one(fed: Fed, reader: Reader, data: bytes) -> float:
    """Feed an input; return the seconds of CPU that it took."""
    # Of this thread: a machine that is busy elsewhere makes no input slow.
    began = time.thread_time()
    try:
        if reader.read(data):
            fed.taken += 1
        else:
            fed.refused += 1
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        fed.crashers.append(data)
        fed.faults.append(f"{type(error).__name__}: {error}"[:300])
    return time.thread_time() - began


def kept(name: str) -> list[bytes]:
    """Return the inputs that once were the finding, to be read again by every run."""
    folder = CRASHERS / name
    return [file.read_bytes() for file in sorted(folder.glob("*.bin"))] if folder.is_dir() else []


def keep(name: str, crasher: bytes) -> Path:
    """Write a finding where ``kept`` finds it; return its file."""
    folder = CRASHERS / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(crasher).hexdigest()[:16]}.bin"
    file.write_bytes(crasher)
    return file
