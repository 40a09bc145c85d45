"""A worker process without torch that behaves, or misbehaves, as its first argument says.

It speaks the real wire format over the real socket and slots; its only model is the identity.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

from jitney.datatypes import DataType
from jitney.execution import wire
from jitney.execution.slots import SlotMemory
from jitney.execution.wire import Done, Failed, Failure, Kind, Tensor

REPORT = {
    "form": "plain",
    "why": "",
    "batchable": True,
    "batchable_why": "",
    "max_batch_size": 4,
    "deterministic": True,
    "mutated_state": [],
    "mutated_inputs": [],
    "golden": {"samples": 0, "max_error": 0.0},
    "latency": {
        "sizes": [1, 2, 4],
        "seconds": [0.001, 0.0015, 0.002],
        "spread": [0.01, 0.02, 0.0],
        "padded": False,
    },
    "memory_bytes": 0,
    "load_seconds": 0.5,
    "warnings": [],
    "peak_bytes": [],
}
STAMPS = (1.0, 2.0, 3.0, 4.0)


def hang() -> None:
    """Do nothing until killed."""
    threading.Event().wait()


def row_offsets(data: bytes) -> list[int]:
    """Return where each element of a BYTES tensor begins, and where the last one ends."""
    offsets = [0]
    while offsets[-1] < len(data):
        (size,) = struct.unpack_from("<I", data, offsets[-1])
        offsets.append(offsets[-1] + 4 + size)
    return offsets


class FakeWorker:
    """The loop of the process; ``way`` is how it behaves."""

    def __init__(self, way: str, channel: socket.socket, memory: SlotMemory) -> None:
        self.way = way
        self.channel = channel
        self.memory = memory
        self.runs = 0

    def run(self) -> int:
        """Answer messages until told to stop."""
        if self.way == "exit":
            return 3
        if self.way == "never up":
            hang()
        if self.way == "garbage":
            self.channel.send(b"Segmentation fault")
            hang()
        self.channel.send(wire.write_note(Kind.HELLO, 0, self.hello()))
        beat = struct.pack("@ll", 0, 250_000)
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, beat)
        while True:
            message, fds = self.receive()
            if not message:
                return 0
            request = wire.read(message)
            if isinstance(request, wire.Run):
                self.run_batch(request)
            elif isinstance(request, wire.Note) and request.kind is Kind.LOAD:
                self.load(request.serial, os.pread(fds[0], 100, 0).decode())
                os.close(fds[0])
            elif isinstance(request, wire.Note) and request.kind is Kind.STOP:
                if self.way == "never ends":
                    hang()
                return 0

    def hello(self) -> dict[str, object]:
        """Return what it says of itself."""
        if self.way == "unable":
            return {"unable": "no module named torch"}
        if self.way == "unable for good":
            return {"unable": "strict, and it cannot be confined", "final": True}
        return {
            "description": f"fake, {self.way}",
            "pinned": True,
            "memory": {"total": 5, "x": ""},
        }

    def receive(self) -> tuple[bytes, array.array[int]]:
        """Wait for a message, and leave signs of life meanwhile."""
        while True:
            self.memory.signs.beats[0] = time.monotonic()
            try:
                message, ancillary, _, _ = self.channel.recvmsg(
                    wire.MAX_MESSAGE, socket.CMSG_LEN(array.array("i").itemsize)
                )
            except BlockingIOError:
                continue
            return message, array.array("i", b"".join(data for _, _, data in ancillary))

    def load(self, serial: int, content: str) -> None:
        """Answer a load; the file of the model may say how."""
        way = content or self.way
        if way == "dies on load":
            os._exit(7)
        if way == "hangs on load":
            hang()
        if way == "takes long":
            threading.Event().wait(1.0)
        if way == "refuses":
            document = {"reason": "MODEL_HOSTILE", "text": "it reads files"}
            self.channel.send(wire.write_note(Kind.REFUSED, serial, document))
            return
        if way == "loads what nobody asked for":
            serial += 1
        progress = {"text": "warming up"}
        self.channel.send(wire.write_note(Kind.PROGRESS, serial, progress))
        report = {"form": 1} if way == "reports nonsense" else REPORT
        self.channel.send(wire.write_note(Kind.LOADED, serial, report))

    def run_batch(self, run: wire.Run) -> None:
        """Run the identity, or do what is to be survived."""
        way = self.way
        if way == "dies before it begins":
            os._exit(7)
        self.memory.signs.serials[0] = run.serial
        self.runs += 1
        self.end()
        if way.startswith("fails: "):
            failure = Failure[way.removeprefix("fails: ")]
            failed = Failed(run.serial, run.slot, failure, STAMPS, "the model raised")
            self.channel.send(wire.write_failed(failed))
            return
        if way == "sends a batch":
            self.channel.send(wire.write_run(run.serial, 1, 1, 0, ()))
            return
        done = Done(run.serial, run.rows, run.slot, STAMPS, 10, 20, self.echo(run))
        first = done.outputs[0]
        if way == "hangs on its second batch":
            done = done._replace(stamps=(1.0, 1.0, 1.0, 1.001))
        lies = {
            "another serial": done._replace(serial=run.serial + 1),
            "another slot": done._replace(slot=(run.slot + 1) % 3),
            "other rows": done._replace(rows=run.rows + 1),
            "no outputs": done._replace(outputs=()),
            "another datatype": done._replace(outputs=(first._replace(datatype=DataType.INT32),)),
            "another shape": done._replace(
                outputs=(Tensor(DataType.FP32, (1, run.rows), 0, 4 * run.rows),)
                if run.rows > 1
                else (Tensor(DataType.FP32, (), 0, 4),)
            ),
            "outside": done._replace(outputs=(first._replace(offset=1 << 40),)),
            "texts without offsets": done._replace(
                outputs=(Tensor(DataType.BYTES, first.shape, 0, first.nbytes),)
            ),
        }
        answer = wire.write_done(lies.get(way, done))
        if way == "crashes behind its answer":
            # With a message that it never reads, so that its channel ends with an error.
            select.select([self.channel], [], [])
            self.channel.send(answer)
            os._exit(7)
        self.channel.send(answer)

    def end(self) -> None:
        """End or hang in the middle of a batch, if it is to."""
        way = self.way
        if self.runs > 1:
            way = way.replace("its second batch", "run")
        if way == "dies on run":
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "crashes on run":
            os._exit(7)
        if way == "closes on run":
            self.channel.shutdown(socket.SHUT_RDWR)
            hang()
        if way == "hangs on run":
            hang()

    def echo(self, run: wire.Run) -> tuple[Tensor, ...]:
        """Copy every input to the outputs, at the same place."""
        inputs, outputs = self.memory.inputs[run.slot], self.memory.outputs[run.slot]
        tensors = []
        for tensor in run.inputs:
            if tensor is None:
                continue
            end = tensor.offset + tensor.nbytes
            outputs[tensor.offset : end] = inputs[tensor.offset : end]
            at = -1
            if tensor.datatype is DataType.BYTES:
                offsets = row_offsets(bytes(inputs[tensor.offset : end]))
                at = len(outputs) - 8 * len(offsets)
                outputs[at:] = struct.pack(f"<{len(offsets)}Q", *offsets)
            tensors.append(tensor._replace(row_offsets_at=at))
        return tuple(tensors)


def main() -> int:
    """Run on the inherited descriptors; return the exit code."""
    way, slots, slot_bytes, socket_fd, memory_fd = sys.argv[1:]
    memory = SlotMemory(int(memory_fd), int(slots), int(slot_bytes))
    memory.close_fd()
    return FakeWorker(way, socket.socket(fileno=int(socket_fd)), memory).run()


if __name__ == "__main__":
    sys.exit(main())
