"""Turns what happened into lines of the file: the part of the audit log that has no thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.audit.file import AuditFile
    from jitney.audit.record import Fact

__all__ = ["DAMAGED", "GAP", "ROTATED", "TORN", "AuditWriter", "Happening"]

TORN: Final = "audit.torn"
"""The line before it is the beginning of one: the server ended while it was written."""
DAMAGED: Final = "audit.damaged"
"""What is before it, up to the last record, was not written by the log."""
GAP: Final = "audit.gap"
"""So many records were lost here, because they could not be written for too long."""
ROTATED: Final = "audit.rotated"
"""The first record of a file that goes on where another ends."""


class Happening(NamedTuple):
    """Something to be recorded; ``seconds`` since the epoch."""

    seconds: float
    event: str
    principal: str
    facts: Mapping[str, Fact]


class AuditWriter:
    """Appends to one chain, over every file of it.

    ``write`` either records all that it is given, or nothing, and may then be called again with
    the same; the chain never skips a number.
    """

    def __init__(self, file: AuditFile, max_bytes: int) -> None:
        """Write nothing yet.

        :param max_bytes: the size at which a file is put aside; a file is larger than that by
            what was written at once.
        """
        self.chain = file.chain
        self._file = file
        self._max_bytes = max_bytes
        self._before: list[tuple[str, dict[str, Fact]]] = []
        """What the next record has to say first, until it is on the disk."""
        if (remains := file.remains) is not None:
            event = TORN if remains.torn else DAMAGED
            self._before.append((event, {"bytes": remains.size, "sha256": remains.sha256}))

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<AuditWriter {self.chain!r} {self._file!r}>"

    def write(self, happenings: Sequence[Happening]) -> None:
        """Record what happened.

        :raises OSError: when it could not be written.
        """
        if not happenings:
            return
        self._file.end_line()
        if self._file.size >= self._max_bytes and self.chain.seq:
            self._before.append((ROTATED, {"from": self._file.rotate(self.chain.seq)}))
        chain, now = self.chain.copy(), happenings[0].seconds
        lines = [chain.add(now, event, "", facts) for event, facts in self._before]
        lines += [chain.add(*happening) for happening in happenings]
        self._file.append(b"".join(lines))
        self.chain = chain
        self._before.clear()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
