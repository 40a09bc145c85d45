"""What a sequencer tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SequencerStatistics"]


@dataclass(frozen=True, slots=True)
class SequencerStatistics:
    """What is where.

    ``active`` sequences have a place, of which ``idle`` have no request at the moment; those of the
    ``backlog`` wait for a place. ``waiting`` counts requests that the scheduler has not got yet.
    """

    active: int
    idle: int
    backlog: int
    waiting: int
