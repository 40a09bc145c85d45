"""The worker process: one device, one thread, one batch after the other.

It is started by ``worker_start`` and knows nothing of gRPC, of the scheduler or of the
repository. It waits in the kernel for control messages and answers each one. It ends when its
channel does, and the kernel ends it with its parent.

What runs models is given to it (``runtime.interface``), so that everything here, the wire, the
slots, the ways to end, is the same on a device that only pretends.

While it waits it wakes up twice a second, to leave a sign of life where the server looks for one
(``slots.Signs``).
"""

from __future__ import annotations

import array
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from jitney.errors import (
    InferenceFailed,
    InputRejected,
    ModelError,
    OutOfDeviceMemory,
    OutputTooLarge,
)
from jitney.execution import wire
from jitney.load_options import LoadOptions
from jitney.runtime.interface import DeviceFault, InputView

if TYPE_CHECKING:
    from jitney.execution.slots import SlotMemory
    from jitney.runtime.interface import LoadedModel, Runtime

__all__ = ["Worker"]

FDS_SPACE: Final = socket.CMSG_LEN(array.array("i").itemsize)
MEMORY_EVERY: Final = 1.0
"""Seconds between two readings of the device's memory; reading it takes a system call."""
BEAT_EVERY: Final = 0.5
"""Seconds between two signs of life of a worker that waits for a message."""


class Worker:
    """The main loop of the process."""

    def __init__(
        self, channel: socket.socket, memory: SlotMemory, runtime: Runtime, poll: float = 0.0
    ) -> None:
        """Serve nothing yet.

        :param poll: seconds to look for the next message before sleeping in the kernel.
        """
        self._poll = poll
        self._channel = channel
        self._memory = memory
        self._runtime = runtime
        self._instances: dict[int, LoadedModel] = {}
        self._buffer = memoryview(bytearray(wire.MAX_MESSAGE))
        self._memory_read_at = 0.0
        self._memory_bytes = (0, 0)
        self._beats, self._serials = memory.signs.beats, memory.signs.serials
        # The kernel's own timeout: a timeout of Python's would cost a second system call for each
        # message.
        timeval = struct.pack("@ll", 0, int(BEAT_EVERY * 1e6))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def run(self) -> int:
        """Serve until told to stop or until the channel ends; return the exit code."""
        while True:
            message, fds = self._receive()
            if not message:
                return 0
            request = wire.read(message)
            if isinstance(request, wire.Run):
                if not self._run_batch(request):
                    return 1
            elif isinstance(request, wire.Note):
                if request.kind is wire.Kind.STOP:
                    return 0
                if request.kind is wire.Kind.LOAD:
                    self._load(request, fds)
                elif request.kind is wire.Kind.UNLOAD:
                    self._unload(request.serial)

    def _receive(self) -> tuple[bytes, list[int]]:
        # Into one buffer: asking for a new one of this size costs more than the message.
        received = self._poll_once() if self._poll else None
        while received is None:
            self._beats[0] = time.monotonic()
            try:
                received = self._channel.recvmsg_into((self._buffer,), FDS_SPACE)
            except BlockingIOError:  # nothing came for as long as a beat
                continue
        size, ancillary, _, _ = received
        message = bytes(self._buffer[:size])
        if not ancillary:
            return message, []
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return message, fds.tolist()

    def _poll_once(self) -> tuple[int, list[Any], int, Any] | None:
        """Look for a message without sleeping, as long as the operator allows.

        A core that never sleeps hears of a message at once. Waking one takes tens of microseconds,
        in a virtual machine more, and all that it had in its caches is gone.
        """
        until = time.monotonic() + self._poll
        while time.monotonic() < until:
            try:
                return self._channel.recvmsg_into((self._buffer,), FDS_SPACE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        return None

    def _load(self, note: wire.Note, fds: list[int]) -> None:
        serial = note.serial

        def progress(text: str) -> None:
            self._channel.send(wire.write_note(wire.Kind.PROGRESS, serial, {"text": text}))

        try:
            options = LoadOptions.from_json(note.document)
            # The path names the open descriptor: what is loaded is what was hashed and sealed.
            instance = self._runtime.load(f"/proc/self/fd/{fds[0]}", options, progress)
            reply = wire.write_note(wire.Kind.LOADED, serial, instance.report.to_json())
            self._instances[serial] = instance
        except DeviceFault:
            raise  # nothing can be trusted any more: the process ends, and says why on stderr
        except Exception as error:  # noqa: BLE001  # the worker loop's boundary: a model may raise anything
            text = (
                str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            )
            reason = error.reason if isinstance(error, ModelError) else "MODEL_INVALID"
            reply = wire.write_note(
                wire.Kind.REFUSED, serial, {"reason": reason, "text": text[:8000]}
            )
        finally:
            for fd in fds:
                os.close(fd)
        self._channel.send(reply)

    def _unload(self, serial: int) -> None:
        instance = self._instances.pop(serial, None)
        if instance is not None:
            instance.close()

    def _run_batch(self, run: wire.Run) -> bool:
        """Run a batch and answer; return False when the process must end."""
        now = time.monotonic
        failure: wire.Failure
        self._serials[0] = run.serial
        try:
            slot = self._memory.inputs[run.slot]
            inputs = [
                None
                if t is None
                else InputView(t.datatype, t.shape, slot[t.offset : t.offset + t.nbytes])
                for t in run.inputs
            ]
            ran = self._instances[run.instance].execute(
                inputs, run.rows, self._memory.outputs[run.slot], now
            )
            outputs = tuple(
                wire.Tensor(o.datatype, o.shape, o.offset, o.nbytes, o.row_offsets_at)
                for o in ran.outputs
            )
            stamps = (ran.started, ran.copied_in, ran.inferred, ran.copied_out)
            used, reserved = self._memory_figures(ran.copied_out)
            self._channel.send(
                wire.write_done(
                    wire.Done(run.serial, run.rows, run.slot, stamps, used, reserved, outputs)
                )
            )
        except OutOfDeviceMemory as error:
            failure, text = wire.Failure.MEMORY, str(error)
        except OutputTooLarge as error:
            failure, text = wire.Failure.OUTPUT, str(error)
        except InputRejected as error:
            failure, text = wire.Failure.INPUT, str(error)
        except InferenceFailed as error:
            failure, text = wire.Failure.MODEL, str(error)
        except DeviceFault as error:
            failure, text = wire.Failure.FAULT, str(error)
        else:
            return True
        stamps = (now(),) * 4
        self._channel.send(
            wire.write_failed(wire.Failed(run.serial, run.slot, failure, stamps, text))
        )
        return failure is not wire.Failure.FAULT

    def _memory_figures(self, now: float) -> tuple[int, int]:
        if now - self._memory_read_at >= MEMORY_EVERY:
            figures = self._runtime.memory()
            self._memory_bytes = (figures.get("allocated", 0), figures.get("reserved", 0))
            self._memory_read_at = now
        return self._memory_bytes
