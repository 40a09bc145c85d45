"""One live worker process, seen from the server: how it is started, spoken to and ended."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.execution import wire
from jitney.execution.ending import Cause, Ending, of_exit
from jitney.execution.oom import oom_kills
from jitney.execution.slots import SlotMemory, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["WorkerCommand", "WorkerLink", "worker_environment"]

TORCH_WORKER: Final = "jitney.execution.worker"
"""A name and no import: torch stays out of this process."""

KEPT_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "PYTORCH_CUDA_ALLOC_CONF",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)
"""What a worker inherits. Everything else stays behind: a worker runs code that came with a model,
and environments hold secrets."""

EXIT_GRACE: Final = 0.02
"""Seconds from the end of a worker's channel to the question what its process ended with."""


def worker_environment(environment: Mapping[str, str], device: str, threads: int) -> dict[str, str]:
    """Return the environment of a worker.

    Thread counts are set here because libraries read them when torch is imported. A worker of a
    GPU sees only that GPU, or it would make contexts of hundreds of megabytes on the others.
    """
    kept = {name: environment[name] for name in KEPT_VARIABLES if name in environment}
    # A thread that waits for its team must sleep and not spin: it shares the cores with the server
    # process. With two cores and one other busy process, spinning made models 7 to 24 times slower
    # (measured).
    kept |= {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    if threads:
        kept |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if device.startswith("cuda:"):
        index = int(device.removeprefix("cuda:"))
        visible = [v for v in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if v]
        kept["CUDA_VISIBLE_DEVICES"] = visible[index] if index < len(visible) else str(index)
    else:
        kept["CUDA_VISIBLE_DEVICES"] = ""
    return kept


class WorkerCommand:
    """How to start the worker of one device; made once, used at every start.

    ``module`` is the program: it takes the arguments that ``worker_start.run_worker`` reads.
    ``confinement`` is one of ``confinement.MODES``, ``paths`` are what a confined worker may read
    and write beside what it needs.
    """

    def __init__(
        self,
        device: str,
        environment: Mapping[str, str],
        *,
        threads: int,
        slots: int,
        slot_bytes: int,
        poll_microseconds: int = 0,
        module: str = TORCH_WORKER,
        confinement: str = "off",
        paths: Sequence[Path] = (),
    ) -> None:
        self.device = device
        self.module = module
        self.environment = worker_environment(environment, device, threads)
        self.threads = threads
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.poll_microseconds = poll_microseconds
        self.confinement = confinement
        self.paths = tuple(paths)
        self.output: Callable[[str], tuple[int, int]] | None = None
        """Returns, for a device, what a worker's output and errors are written to; whoever asked
        closes both. Without it, a worker writes where the server writes."""

    def arguments(self, socket_fd: int, memory_fd: int) -> list[str]:
        """Return the command line."""
        return [
            sys.executable,
            "-P",  # nothing is imported from the folder in which the server happens to run
            "-m",
            self.module,
            f"--device={self.device}",
            f"--threads={self.threads}",
            f"--slots={self.slots}",
            f"--slot-bytes={self.slot_bytes}",
            f"--poll-microseconds={self.poll_microseconds}",
            f"--socket-fd={socket_fd}",
            f"--memory-fd={memory_fd}",
            f"--parent={os.getpid()}",
            f"--confinement={self.confinement}",
            *(f"--path={path.absolute()}" for path in self.paths),
        ]


class WorkerLink:
    """A worker process with its socket and its slots.

    ``on_message(link, message)`` is called on the event loop with every message that reads well;
    ``on_gone(link, ending)`` exactly once, when the process ended, closed its socket or sent
    something malformed (it is killed then).

    The process is started by exec (``subprocess``), never by a plain fork, which gRPC's threads
    would not survive. It dies with this process: the kernel tells it (PDEATHSIG), and its socket
    ends.
    """

    def __init__(
        self,
        command: WorkerCommand,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[WorkerLink, wire.Done | wire.Failed | wire.Note], None],
        on_gone: Callable[[WorkerLink, Ending], None],
    ) -> None:
        self.device = command.device
        self._loop = loop
        self._on_message = on_message
        self._on_gone = on_gone
        self._alive = True
        self._oom_kills = oom_kills()
        self._buffer = bytearray(wire.MAX_MESSAGE)
        self._view = memoryview(self._buffer)
        memory = SlotMemory.create(command.slots, command.slot_bytes)
        command.slot_bytes = memory.slot_bytes
        self.slots = Slots(memory)
        # A model may print. What it prints must not reach whoever reads our stdout.
        stderr = sys.stderr.fileno() if _has_fileno(sys.stderr) else subprocess.DEVNULL
        with ExitStack() as lent:
            # From here on whatever fails leaves no descriptor open: it may be for want of them.
            lent.callback(memory.close_fd)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            lent.callback(theirs.close)
            try:
                outputs = command.output(command.device) if command.output else ()
                for fd in outputs:
                    lent.callback(os.close, fd)
                self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                    command.arguments(theirs.fileno(), memory.fd),
                    env=command.environment,
                    pass_fds=(theirs.fileno(), memory.fd),
                    stdin=subprocess.DEVNULL,
                    stdout=outputs[0] if outputs else stderr,
                    stderr=outputs[1] if outputs else None,
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)  # noqa: FBT003  # the library's signature
        self._socket = ours
        loop.add_reader(ours.fileno(), self._readable)

    def tell(
        self, on_message: Callable[[WorkerLink, wire.Done | wire.Failed | wire.Note], None]
    ) -> None:
        """Give messages to somebody else from now on."""
        self._on_message = on_message

    @property
    def alive(self) -> bool:
        """Whether messages may still be sent."""
        return self._alive

    def send(self, message: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a message; a worker that cannot take it is as good as dead and is killed, soon."""
        if not self._alive:
            return
        try:
            if fds:
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                self._socket.sendmsg([message], ancillary)
            else:
                self._socket.send(message)
        except OSError as error:
            # Not at once: whoever sends is in the middle of something, and would be told of the end
            # of what it is about to begin.
            why = f"it could not be reached ({error.strerror})"
            self._loop.call_soon(lambda: self._end(why))

    def stop(self) -> None:
        """Ask the process to finish what it was sent and to exit."""
        self.send(wire.write_note(wire.Kind.STOP))

    def kill(self, why: str, cause: Cause) -> None:
        """End the process at once. SIGKILL, because a hung device call ignores everything else."""
        self._end(why, cause)

    def is_stopped(self) -> bool:
        """Whether somebody has stopped the process, by SIGSTOP or from a terminal."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_bytes()
        except OSError:
            return False
        # The name in the parentheses may have anything in it.
        return stat.rpartition(b")")[2].split()[0] == b"T"

    def reap(self) -> bool:
        """Take note of the end of a process that is gone; return whether it has ended."""
        return self._process.poll() is not None

    async def wait(self, timeout: float) -> int | None:  # noqa: ASYNC109  # a bound, not a scope
        """Wait for the process to end, kill it after ``timeout`` seconds; return its exit code."""
        deadline = self._loop.time() + timeout
        delay = 0.001
        while self._process.poll() is None:
            if self._loop.time() >= deadline:
                self._process.kill()
                await self._loop.run_in_executor(None, self._process.wait)
                break
            await asyncio.sleep(delay)
            delay = min(0.05, delay * 2)
        self._close()
        return self._process.returncode

    def _readable(self) -> bool:
        """Read a message; return whether there was one."""
        try:
            # Into one buffer: asking for a new one of this size costs more than the message.
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            # It ended, and left messages unread. What it had answered before can still be read; at
            # once, because uvloop asks no more about a socket that had an error.
            while self._alive and self._readable():
                pass
            return False
        except OSError as error:
            self._end(f"its channel broke ({error.strerror})")
            return False
        if not size:
            # The kernel closes a dying process's files before its parent can ask how it died, and
            # the signal's name is what an operator needs (SIGKILL: probably out of memory).
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(EXIT_GRACE, self._end, "it closed its channel")
            return False
        try:
            read = wire.read(bytes(self._view[:size]))
            if isinstance(read, wire.Run):
                msg = "a worker sent a batch"
                raise wire.WireError(msg)  # noqa: TRY301  # one place ends a worker
            self._on_message(self, read)
        except wire.WireError as error:
            self._end(f"it broke the protocol: {error}", Cause.CRASH)
        return True

    def _end(self, why: str, cause: Cause | None = None) -> None:
        """Note the end; without a cause, what the process ended with tells it."""
        if not self._alive:
            return
        self._close()
        code = self._process.poll()
        by_itself = cause is None
        if cause is None:
            how, cause = of_exit(code, out_of_memory=oom_kills() > self._oom_kills)
            why = f"{why}; {how}" if how else why
        if code is None:
            self._process.kill()
        # Whoever listens refers to this link: let go, so that its memory is free when they do, and
        # not when the collector comes by.
        on_gone, self._on_gone, self._on_message = self._on_gone, _ignore, _ignore
        on_gone(self, Ending(why, cause, by_itself))

    def _close(self) -> None:
        if self._alive:
            self._alive = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()


def _ignore(*_: object) -> None:
    """Be nobody."""


def _has_fileno(stream: object) -> bool:
    try:
        stream.fileno()  # type: ignore[attr-defined]  # tests and embedders replace streams
    except (AttributeError, OSError, ValueError):
        return False
    return True
