"""What a worker process does before its loop: it binds itself to its parent and gives things up."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError
from jitney.execution import wire
from jitney.execution.confinement import MODES, Confinement
from jitney.execution.slots import SlotMemory
from jitney.execution.worker_loop import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.interface import Runtime

    OpenRuntime = Callable[[str, int], Runtime]

__all__ = ["run_worker"]

PR_SET_PDEATHSIG: Final = 1
OOM_BIAS: Final = 200
"""Added to the worker's badness (of 1000): where memory runs out, the kernel shall end a worker,
which is replaced, and not the server."""


def run_worker(argv: Sequence[str] | None, open_runtime: OpenRuntime) -> int:
    """Run a worker on the descriptors it inherited; return the exit code.

    :param argv: what ``link.WorkerCommand`` wrote; None takes the process's own arguments.
    :param open_runtime: is given the device's name and how many threads it may use, 0 for no limit.
        What starts threads should be imported there and not before: see ``Confinement``.
    """
    args = _parser().parse_args(argv)
    _die_with_parent(args.parent)
    # The server decides when a worker ends: a terminal's Ctrl-C and a supervisor's SIGTERM reach
    # the whole group, and the batches in flight are still to be finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _offer_to_the_oom_killer()
    channel = socket.socket(fileno=args.socket_fd)
    memory = SlotMemory(args.memory_fd, args.slots, args.slot_bytes)
    memory.close_fd()
    confinement = Confinement(args.confinement, args.device, args.path)
    confinement.enter()
    _die_with_parent(args.parent)  # a process that changes its rights may lose the order
    try:
        try:
            runtime = open_runtime(args.device, args.threads)
            confinement.close()
            confinement.check()
        except Exception as error:
            # Whatever importing and opening it may raise. It may be for want of a file, which no
            # error says, so the server is told that this worker had not all of them.
            final = isinstance(error, ConfigError)
            unable = {"unable": str(error) if final else repr(error), "final": final}
            channel.send(wire.write_note(wire.Kind.HELLO, 0, unable))
            raise
        summary = confinement.summary()
        hello = {
            "device": runtime.name,
            "description": "; ".join(filter(None, (runtime.description, summary))),
            "unconfined": confinement.missing,
            "pinned": runtime.pin(memory.mapping),
            "memory": runtime.memory(),
        }
        channel.send(wire.write_note(wire.Kind.HELLO, 0, hello))
        return Worker(channel, memory, runtime, args.poll_microseconds / 1e6).run()
    except ConfigError as error:
        sys.stderr.write(f"jitney-worker: {error}\n")
        return 2
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the server is gone: nobody to tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jitney-worker", description="internal")
    parser.add_argument("--device", required=True)
    for name in (
        *("threads", "slots", "slot-bytes", "poll-microseconds"),
        *("socket-fd", "memory-fd", "parent"),
    ):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--confinement", choices=MODES, default="off")
    parser.add_argument("--path", type=Path, action="append", default=[])
    return parser


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel knew
        sys.exit(0)


def _offer_to_the_oom_killer() -> None:
    file = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        file.write_text(str(min(1000, int(file.read_text()) + OOM_BIAS)), encoding="ascii")
