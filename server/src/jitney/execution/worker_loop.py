"""The worker process: one device, one thread, one batch after the other.

It is started by ``link.WorkerLink`` and knows nothing of gRPC, of the scheduler or of the
repository. It waits in the kernel for control messages and answers each one. It ends when its
channel does, and the kernel ends it with its parent.

What runs models is given to it (``runtime.interface``), so that everything here, the wire, the
slots, the ways to end, is the same on a device that only pretends.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import os
import signal
import socket
import sys
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
from jitney.execution.slots import SlotMemory
from jitney.load_options import LoadOptions
from jitney.runtime.interface import DeviceFault, InputView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.interface import LoadedModel, Runtime

__all__ = ["Worker", "run_worker"]

PR_SET_PDEATHSIG: Final = 1
FDS_SPACE: Final = socket.CMSG_LEN(array.array("i").itemsize)
MEMORY_EVERY: Final = 1.0
"""Seconds between two readings of the device's memory; reading it takes a system call."""


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
        if received is None:
            received = self._channel.recvmsg_into((self._buffer,), FDS_SPACE)
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


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel knew
        sys.exit(0)


def run_worker(argv: Sequence[str] | None, open_runtime: Callable[[str, int], Runtime]) -> int:
    """Run a worker on the descriptors it inherited; return the exit code.

    :param argv: what ``link.WorkerCommand`` wrote; None takes the process's own arguments.
    :param open_runtime: is given the device's name and how many threads it may use, 0 for no limit.
    """
    parser = argparse.ArgumentParser(prog="jitney-worker", description="internal")
    parser.add_argument("--device", required=True)
    for name in (
        *("threads", "slots", "slot-bytes", "poll-microseconds"),
        *("socket-fd", "memory-fd", "parent"),
    ):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args(argv)
    _die_with_parent(args.parent)
    # The server decides when a worker ends: a terminal's Ctrl-C and a supervisor's SIGTERM reach
    # the whole group, and the batches in flight are still to be finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=args.socket_fd)
    memory = SlotMemory(args.memory_fd, args.slots, args.slot_bytes)
    memory.close_fd()

    try:
        runtime = open_runtime(args.device, args.threads)
        hello = {
            "device": runtime.name,
            "description": runtime.description,
            "pinned": runtime.pin(memory.mapping),
            "memory": runtime.memory(),
        }
        channel.send(wire.write_note(wire.Kind.HELLO, 0, hello))
        return Worker(channel, memory, runtime, args.poll_microseconds / 1e6).run()
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the server is gone: nobody to tell
