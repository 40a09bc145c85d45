"""Sequences through the real scheduler: shared batches, with gaps where nobody is."""

from __future__ import annotations

import struct
from typing import Any

from sequences import CONTROLS, REF, make_config

from jitney.datatypes import DataType
from jitney.errors import WorkerLost
from jitney.scheduling.batch import Batch, BatchKey, Entry
from jitney.scheduling.placement import gather, place
from jitney.scheduling.policy import Policy
from jitney.scheduling.scheduler import Scheduler
from jitney.sequencing import Sequencer, fill
from jitney.signature import TensorSpec
from jitney.telemetry.metrics import Metrics
from jitney.testing import EchoCarrier, Ends, FakeClock, PuppetExecutor
from jitney.types import Request, RequestHeader, TensorHeader

CONFIG = make_config()
INPUTS = ((DataType.FP32, (1,)), *((control.datatype, (1,)) for control in CONTROLS))
KEY = BatchKey(
    REF,
    INPUTS,
    (TensorSpec("y", DataType.FP32, ("N", 1)),),
    max_rows=4,
    max_bytes=4096,
    stateful=True,
    fill=fill(CONFIG, INPUTS),
)


class Server:
    """A sequencer, a scheduler and a device that ends batches when it is told to."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.executor = PuppetExecutor(self.clock)
        self.scheduler = Scheduler(Policy(), self.executor, self.clock, Metrics())
        self.executor.listener = self.scheduler
        self.scheduler.device_up("cpu")
        self.scheduler.model_ready("cpu", REF)
        self.sequencer = Sequencer(self.scheduler, self.clock)
        self.ends = Ends()

    def send(self, sequence: int, value: float, flags: str = "") -> Entry:
        """Submit a request, whose id is its value."""
        parameters: dict[str, Any] = {"sequence_id": sequence}
        parameters |= {"sequence_start": "s" in flags, "sequence_end": "e" in flags}
        tensors = (TensorHeader("x", DataType.FP32, (1, 1)),)
        header = RequestHeader("m", "", tensors, parameters=parameters)
        data = [struct.pack("<f", value)]
        request = Request(header, data, EchoCarrier(), id=f"{value:g}")
        entry = Entry(request, KEY, 1, 4, self.clock.now(), self.ends)
        self.sequencer.submit(entry, CONFIG)
        return entry

    def turn(self) -> list[list[float]]:
        """End the batch at work, if there is one; return the inputs of the next as numbers."""
        if self.executor.pending:
            self.executor.complete_next()
        self.clock.run_soon()
        (batch,) = self.executor.pending
        return seen(batch)


def seen(batch: Batch) -> list[list[float]]:
    """Return the inputs of a batch as numbers."""
    regions = [bytearray(datatype.item_size * batch.rows) for datatype, _ in INPUTS]
    gather(place(batch), [memoryview(region) for region in regions])
    formats = {DataType.FP32: "f", DataType.INT32: "i", DataType.BOOL: "?"}
    return [
        [float(number) for number in struct.unpack(f"<{batch.rows}{formats[datatype]}", region)]
        for region, (datatype, _) in zip(regions, INPUTS, strict=True)
    ]


def test_sequences_share_batches_each_in_its_row() -> None:
    """A row whose sequence sends nothing is a gap: not ready, and nobody's."""
    server = Server()
    for sequence, value in ((1, 10), (2, 20), (3, 30)):
        server.send(sequence, value, "s")
    server.send(2, 21)
    values, starts, ready, ends = server.turn()
    assert ([10, 20, 30], [1, 1, 1], [1, 1, 1], [0, 0, 0]) == (values, starts, ready, ends)

    values, starts, ready, ends = server.turn()
    assert ([0, 21], [0, 0], [0, 1], [0, 0]) == (values, starts, ready, ends)
    server.send(3, 31, "e")
    values, starts, ready, ends = server.turn()
    assert ([0, 0, 31], [0, 0, 1], [0, 0, 1]) == (values, ready, ends)

    server.executor.complete_next()
    assert {f"{n}": struct.pack("<f", n) for n in (10, 20, 21, 30, 31)} == {
        name: reply.outputs["y"] for name, reply in server.ends.replies.items()
    }


def test_a_lost_worker_leaves_nothing_behind() -> None:
    """What ran and what waited is ended, and a new sequence is served by the next worker."""
    server = Server()
    server.send(1, 10, "s")
    server.send(1, 11)
    server.send(2, 20, "s")
    server.clock.run_soon()
    server.executor.fail_next(WorkerLost("gone"))
    assert {"10", "11", "20"} == set(server.ends.errors)

    server.send(1, 12, "s")
    server.clock.run_soon()
    server.executor.complete_next()
    assert {"12"} == set(server.ends.replies)
