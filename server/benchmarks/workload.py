"""What callers send and what must come back, in a file that the caller's process reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.dialects import DIALECTS, OIP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["INFER", "Workload"]

INFER: Final = OIP.target
LENGTH_BYTES: Final = 8
REMEMBERED: Final = 32
"""Replies known to be right, per request: the rows of a batch of another size may differ in their
last bits, so there are a few. Comparing with them costs less than reading the reply again."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Serialised requests, sent in turn, and their answers.

    ``expected`` are the bytes of the outputs, one after the other: FP32, little-endian, equal
    within ``tolerance`` absolutely, or with 0 of any datatype and equal to the byte. Where
    ``tolerance`` is None, they are whole replies, equal to the byte. ``dialect`` names one of
    ``benchmarks.dialects``.
    """

    requests: Sequence[bytes]
    expected: Sequence[bytes]
    tolerance: float | None = 0.0
    dialect: str = OIP.name

    def echoed(self, reply: bytes) -> Workload:
        """Return the same requests, every one of which is answered by ``reply``."""
        return Workload(self.requests, [reply] * len(self.requests), None, self.dialect)

    def checker(self) -> Checker:
        """Return what checks replies."""
        return Checker(self)

    def write(self, path: Path) -> Path:
        """Write the file that ``read`` reads; return its path."""
        facts = {"tolerance": self.tolerance, "count": len(self.requests), "dialect": self.dialect}
        header = json.dumps(facts).encode()
        with path.open("wb") as file:
            for blob in (header, *self.requests, *self.expected):
                file.write(len(blob).to_bytes(LENGTH_BYTES, "little"))
                file.write(blob)
        return path

    @classmethod
    def read(cls, path: Path) -> Workload:
        """Read what ``write`` wrote."""
        blobs = []
        with path.open("rb") as file:
            while length := file.read(LENGTH_BYTES):
                blobs.append(file.read(int.from_bytes(length, "little")))
        header, *rest = blobs
        table = json.loads(header)
        count = table["count"]
        return cls(rest[:count], rest[count:], table["tolerance"], table["dialect"])


class Checker:
    """Says whether a reply is right; fast for replies that were right before."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._dialect = DIALECTS[workload.dialect]
        self._known: list[list[bytes]] = [[] for _ in workload.requests]

    def is_right(self, which: int, reply: bytes) -> bool:
        """Return whether ``reply`` answers request ``which``."""
        known = self._known[which]
        if reply in known:
            return True
        if not self._read(which, reply):
            return False
        if len(known) < REMEMBERED:
            known.append(reply)
        return True

    def _read(self, which: int, reply: bytes) -> bool:
        expected, tolerance = self._workload.expected[which], self._workload.tolerance
        if tolerance is None:
            return reply == expected
        try:
            data = self._dialect.answer(self._workload.requests[which], reply)
        except ValueError:
            return False
        if data is None:
            return False
        if len(data) != len(expected):
            return False
        if not tolerance:
            return data == expected
        difference = np.frombuffer(data, "<f4") - np.frombuffer(expected, "<f4")
        return bool(np.abs(difference).max() <= tolerance)  # a NaN is never right
