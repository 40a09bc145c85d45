"""Inputs that did harm again and again, and are not run for a while."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from jitney.errors import InputQuarantined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.batch import Entry
    from jitney.types import Buffer

    Sample = tuple[str, int, object, int, int, bytes]
    """The model's name and version, the types and shapes of its inputs, the rows and the bytes of
    them, and pieces of them."""

__all__ = ["Quarantine"]

MOST_HARM: Final = 2
"""Workers ended, or batches failed, after which inputs are refused."""
SECONDS: Final = 60.0
"""How long harm counts, and how long inputs are refused after the last of it."""
MOST_BYTES: Final = 1 << 20
"""Larger requests are not looked at: a digest of them would hold up everybody else."""
MOST_CASES: Final = 1024
PIECE: Final = 64
PIECES: Final = 8
"""Bytes of a sample's piece, and how many pieces of each input it has."""


class _Case:
    """Inputs that did harm: their digest, how much, and until when that counts."""

    __slots__ = ("digest", "harm", "until")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.harm = 0
        self.until = 0.0


class Quarantine:
    """Remembers inputs by their digest, and refuses those that did harm more than once.

    Callers repeat what fails, and a request that ends a worker would do so with every attempt. It
    is pure: it is told the time.

    While nobody did harm, ``active`` is False and nothing is to be asked. While somebody did, a
    request costs a sample of its bytes (microseconds), and only one that has the sample of a known
    case a digest. Bounded: 1,024 cases, the oldest of which is forgotten first.
    """

    __slots__ = ("_cases", "active")

    def __init__(self) -> None:
        self._cases: dict[Sample, _Case] = {}
        self.active = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Quarantine {len(self._cases)} inputs>"

    def check(self, entry: Entry, now: float) -> None:
        """Do nothing for inputs that may run.

        :raises InputQuarantined: for those that may not.
        """
        data = _bytes_of(entry)
        case = None if data is None else self._cases.get(_sample(entry, data))
        if data is None or case is None or case.harm < MOST_HARM:
            self._expire(now)
            return
        if now < case.until and case.digest == _digest(data):
            msg = (
                "these inputs ended a worker process or failed the batch they were in, several "
                f"times; they are not run again for {case.until - now:.0f} s"
            )
            raise InputQuarantined(msg)
        self._expire(now)

    def note(self, entry: Entry, now: float, harm: int) -> None:
        """Count harm that an entry did, whose data is still there."""
        data = _bytes_of(entry)
        if not harm or data is None:
            return
        self._expire(now)
        sample, digest = _sample(entry, data), _digest(data)
        case = self._cases.pop(sample, None)
        if case is None or case.digest != digest:
            case = _Case(digest)
        case.harm += harm
        case.until = now + SECONDS
        self._cases[sample] = case  # the last: they are in the order in which they expire
        if len(self._cases) > MOST_CASES:
            del self._cases[next(iter(self._cases))]
        self.active = True

    def _expire(self, now: float) -> None:
        while self._cases:
            oldest = next(iter(self._cases))
            if now < self._cases[oldest].until:
                return
            del self._cases[oldest]
        self.active = False


def _bytes_of(entry: Entry) -> Sequence[bytes | bytearray | memoryview] | None:
    """Return the data of a request; None if it is large, or not in its message.

    What is in memory that a client shares may be something else by the time that it is read.
    """
    data: Sequence[Buffer] = entry.request.data
    parts = [part for part in data if isinstance(part, bytes | bytearray | memoryview)]
    if len(parts) < len(data) or not parts or entry.nbytes > MOST_BYTES:
        return None
    return parts


def _sample(entry: Entry, data: Sequence[bytes | bytearray | memoryview]) -> Sample:
    pieces = []
    for part in data:
        step = max(PIECE, len(part) // PIECES)
        pieces += [bytes(part[at : at + PIECE]) for at in range(0, len(part), step)]
        pieces.append(bytes(part[-PIECE:]))
    # Not by its load: a model that is loaded anew is most often the same.
    name, version, _ = entry.key.model
    return name, version, entry.key.inputs, entry.rows, entry.nbytes, b"".join(pieces)


def _digest(data: Sequence[bytes | bytearray | memoryview]) -> bytes:
    digest = blake2b(digest_size=16)
    for part in data:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
