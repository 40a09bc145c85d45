"""Batch buffers: memory that the server process and one worker both map.

All slots of a worker are one anonymous file (memfd). It has no name, so nothing is left behind
when both processes are gone, however they went; and a worker that is replaced gets a new one, so a
late write of the old one lands nowhere. Pages cost memory only once they were written to (a CUDA
worker page-locks them all).
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final

from jitney.execution.wire import Tensor, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALIGNMENT", "Signs", "SlotMemory", "Slots", "aligned"]

ALIGNMENT: Final = 64
"""Bytes; tensors start at multiples of it (a cache line, and what vector kernels like best)."""


def aligned(offset: int) -> int:
    """Round an offset up to the alignment."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


class Signs:
    """What a worker says of itself without a message: that it lives, and what it is at.

    Two numbers in shared memory, each written by one store and by the worker alone: when its loop
    last went round, and the serial of the batch that it began last, 0 for none. A message could say
    neither: one that does not come may mean a worker that hangs, or one that has nothing to say.

    The server believes them only where that does no harm: a worker that lies can look alive, which
    it can by other means, and no batch is given more time for what stands here.

    ``beats`` and ``serials`` have one item each, for the worker to write: by a call it would cost
    three times as much, for every batch.
    """

    __slots__ = ("beats", "serials")

    def __init__(self, region: memoryview) -> None:
        """Take the first 16 bytes of a region."""
        self.beats = region[:8].cast("d")
        self.serials = region[8:16].cast("Q")

    @property
    def beat(self) -> float:
        """When the loop last went round, in monotonic seconds; 0 before the first time."""
        return self.beats[0]

    @property
    def serial(self) -> int:
        """The batch that was begun last; it may have been answered since."""
        return self.serials[0]


class SlotMemory:
    """The mapping of ``count`` slots, each with ``slot_bytes`` for inputs and as many for outputs.

    A page with the worker's ``signs`` comes first. Behind it, slot ``i`` has its inputs at ``2 * i
    * slot_bytes`` and its outputs right behind them. ``inputs[i]`` and ``outputs[i]`` are writable
    byte views.
    """

    def __init__(self, fd: int, count: int, slot_bytes: int) -> None:
        self.fd = fd
        self.count = count
        self.slot_bytes = slot_bytes
        self.mapping = mmap.mmap(fd, mmap.PAGESIZE + 2 * count * slot_bytes)
        self.signs = Signs(memoryview(self.mapping)[: mmap.PAGESIZE])
        whole = memoryview(self.mapping)[mmap.PAGESIZE :]
        self.inputs = [whole[2 * i * slot_bytes : (2 * i + 1) * slot_bytes] for i in range(count)]
        self.outputs = [
            whole[(2 * i + 1) * slot_bytes : (2 * i + 2) * slot_bytes] for i in range(count)
        ]

    @classmethod
    def create(cls, count: int, slot_bytes: int) -> SlotMemory:
        """Make a new anonymous file of the right size and map it."""
        slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        fd = os.memfd_create("jitney-slots", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, mmap.PAGESIZE + 2 * count * slot_bytes)
            return cls(fd, count, slot_bytes)
        except OSError:
            os.close(fd)
            raise

    def close_fd(self) -> None:
        """Close the descriptor; the mapping stays until its last view is gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Slots:
    """Which slots of a worker are free, and checked views into them.

    Invariants: a slot is held by one batch from ``acquire`` to ``release``; a view is only made
    inside its slot.
    """

    def __init__(self, memory: SlotMemory) -> None:
        self.memory = memory
        self._free = list(range(memory.count))

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Slots {len(self._free)} of {self.memory.count} free>"

    def nbytes(self) -> tuple[int, int]:
        """Return the bytes of all slots, inputs and outputs, and of those that are held."""
        one = 2 * self.memory.slot_bytes
        return one * self.memory.count, one * (self.memory.count - len(self._free))

    def acquire(self) -> int:
        """Take a free slot.

        The policy gives a worker one batch to run and one to stage, and a third is being answered,
        so three slots always suffice and an empty list is a bug.
        """
        return self._free.pop()

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)

    def inputs(self, slot: int, tensors: Sequence[Tensor]) -> list[memoryview]:
        """Return the writable regions of a batch's inputs.

        :raises WireError: when one lies outside the slot, which the batch key's limits rule out.
        """
        base = self.memory.inputs[slot]
        if tensors and tensors[-1].offset + tensors[-1].nbytes > len(base):
            msg = (
                f"{tensors[-1].offset + tensors[-1].nbytes} bytes do not fit into a slot of "
                f"{len(base)}"
            )
            raise WireError(msg)
        return [base[tensor.offset : tensor.offset + tensor.nbytes] for tensor in tensors]

    def output(self, slot: int, tensor: Tensor, rows: int) -> tuple[memoryview, list[int] | None]:
        """Return an output's bytes and, for BYTES of a batched model, its checked row offsets.

        :raises WireError: when any of it lies outside the slot.
        """
        base = self.memory.outputs[slot]
        end = tensor.offset + tensor.nbytes
        if end > len(base):
            msg = f"an output ends at {end} of {len(base)}"
            raise WireError(msg)
        data = base[tensor.offset : end]
        if tensor.row_offsets_at < 0:
            return data, None
        table_end = tensor.row_offsets_at + 8 * (rows + 1)
        if table_end > len(base) or tensor.row_offsets_at % 8:
            msg = f"row offsets at {tensor.row_offsets_at}"
            raise WireError(msg)
        # Copied out before they are checked: the worker could change them in between.
        offsets = base[tensor.row_offsets_at : table_end].cast("Q").tolist()
        if offsets[0] != 0 or offsets[-1] != tensor.nbytes or offsets != sorted(offsets):
            msg = "row offsets are not ascending from 0 to the tensor's size"
            raise WireError(msg)
        return data, offsets
