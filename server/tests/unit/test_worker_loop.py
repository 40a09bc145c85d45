"""The worker's loop, in this process, with a model that only listens."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from jitney.datatypes import DataType
from jitney.execution import wire
from jitney.execution.slots import SlotMemory
from jitney.execution.worker_loop import Worker
from jitney.runtime.interface import Execution, InputView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


STAMPS = (1.0, 2.0, 3.0, 4.0)


class Listening:
    """A runtime with one model, which notes what it is given and has no outputs."""

    name = description = "listening"

    def __init__(self) -> None:
        self.given: list[list[tuple[tuple[int, ...], bytes] | None]] = []

    def memory(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    def execute(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Note the inputs of a batch."""
        del rows, out, now
        self.given.append([view and (view.shape, bytes(view.data)) for view in inputs])
        return Execution(*STAMPS, [])


def test_an_input_that_is_left_out_reaches_the_model_as_none() -> None:
    """It takes no bytes of the slot, and the others stay where they are."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = SlotMemory.create(1, 4096)
    memory.inputs[0][64:67] = b"abc"
    runtime = Listening()
    worker = Worker(theirs, memory, runtime)  # type: ignore[arg-type]  # it is never asked to load
    worker._instances[5] = runtime  # type: ignore[assignment]  # likewise
    present = wire.Tensor(DataType.UINT8, (3, 1), 64, 3)
    with ours, theirs:
        ours.send(wire.write_run(9, 5, 3, 0, (None, present, None)))
        ours.send(wire.write_note(wire.Kind.STOP))

        assert worker.run() == 0
        done = wire.read(ours.recv(wire.MAX_MESSAGE))
    memory.close_fd()

    assert runtime.given == [[None, ((3, 1), b"abc"), None]]
    assert done == wire.Done(9, 3, 0, STAMPS, 0, 0, ())
