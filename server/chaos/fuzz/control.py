"""Control messages between server and worker, in both directions, and what they say of slots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.execution import wire
from jitney.execution.exchange import read_done
from jitney.execution.slots import SlotMemory, Slots
from jitney.execution.wire import Done, Failed, Failure, Kind, Run, Tensor
from jitney.scheduling.batch import Batch, Reason
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ControlReader", "corpus"]

SLOTS: Final = 4
SLOT_BYTES: Final = 1 << 16
ROWS: Final = 2
STAMPS: Final = (1.0, 2.0, 3.0, 4.0)
DEVICE: Final = "cpu"


class ControlReader:
    """Reads a message as each side does, and every byte of the outputs that it promises."""

    def __init__(self) -> None:
        self._memory = SlotMemory.create(SLOTS, SLOT_BYTES)
        self._slots = Slots(self._memory)
        key = make_key(dims=(2,))
        entries = [make_entry(key, id=str(number)) for number in range(ROWS)]
        self._batch = Batch(key, entries, ROWS, Reason.FULL, DEVICE, 0.0)

    def read(self, data: bytes) -> bool:
        """Read a message; where it answers a batch, look at all that it says about it."""
        try:
            message = wire.read(data)
            if isinstance(message, Done):
                self._look_at(message)
        except wire.WireError:
            return False
        if isinstance(message, Run):
            for tensor in message.inputs:
                assert tensor is None or _sound(tensor)
        return True

    def settle(self) -> None:
        """Check nothing: reading holds nothing."""

    def _look_at(self, done: Done) -> None:
        if done.slot >= SLOTS:
            msg = "no such slot"  # as who knows the batch says first
            raise wire.WireError(msg)
        completion = read_done(self._batch, self._slots, done)
        assert completion.outputs is not None
        for output in completion.outputs.outputs:
            assert len(bytes(output.data)) == len(output.data) <= SLOT_BYTES


def corpus() -> Sequence[bytes]:
    """Return messages of every kind, of both directions."""
    x = Tensor(DataType.FP32, (ROWS, 2), 0, 16)
    texts = Tensor(DataType.BYTES, (ROWS,), 64, 12, 128)
    done = Done(7, ROWS, 1, STAMPS, 1 << 20, 1 << 21, (x,))
    return [
        wire.write_run(7, 3, ROWS, 1, (x, None, texts)),
        wire.write_done(done),
        wire.write_done(done._replace(outputs=(x, texts))),
        wire.write_failed(Failed(7, 1, Failure.INPUT, STAMPS, "the model raised")),
        wire.write_note(Kind.HELLO, 0, {"device": DEVICE, "pinned": False, "memory": {"total": 1}}),
        wire.write_note(Kind.LOADED, 5, {"form": "plain", "latency": {"sizes": [1, 2]}}),
        wire.write_note(Kind.REFUSED, 5, {"reason": "MODEL_INVALID", "text": "no"}),
        wire.write_note(Kind.STOP),
    ]


def _sound(tensor: Tensor) -> bool:
    size = tensor.datatype.item_size
    return all(n >= 0 for n in tensor.shape) and (
        not size or tensor.nbytes == math.prod(tensor.shape) * size
    )
