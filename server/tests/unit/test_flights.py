"""Batches on their way, and which of them a worker was at."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from jitney.execution.flights import Flights
from jitney.execution.slots import SlotMemory, Slots
from jitney.scheduling.batch import Batch, Reason
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from jitney.execution.link import WorkerLink

KEY = make_key(max_rows=4)


class Link:
    """A link to nobody: it has slots, and what is sent is lost."""

    def __init__(self) -> None:
        memory = SlotMemory.create(3, 4096)
        memory.close_fd()
        self.slots = Slots(memory)

    def send(self, message: bytes) -> None:
        """Lose a message."""


def flights(*serials: int) -> Flights:
    """Return some flights."""
    found, link = Flights(), cast("WorkerLink", Link())
    for serial in serials:
        batch = Batch(KEY, [make_entry(KEY)], 1, Reason.IDLE, "cpu", 0.0)
        found.send(link, 1, serial, batch, 0.0)
    return found


def test_the_batch_at_hand_is_the_one_that_was_begun() -> None:
    """The first where the worker says nothing; none where it had not come to it yet."""
    three = flights(5, 7, 9)

    found = [one and one.serial for one in map(three.at, (None, 0, 4, 5, 7, 9))]

    assert [5, None, None, 5, 7, 9] == found
    assert None is flights().at(5)


def test_a_worker_cannot_name_a_batch_that_there_is_not() -> None:
    """It may have written anything; the first one is not let off for that."""
    three = flights(5, 7, 9)

    assert [5, 5] == [one and one.serial for one in map(three.at, (8, 1 << 63))]
