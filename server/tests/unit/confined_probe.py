"""A process that gives up what a worker does, tries what it may not do any more, and tells."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from jitney.execution.confinement import Confinement

if TYPE_CHECKING:
    from collections.abc import Callable


def attempt(action: Callable[[], object]) -> str:
    """Return ``done``, or the name of what kept it from being done."""
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"


def in_a_thread(action: Callable[[], object]) -> Callable[[], object]:
    """Return the same, done by another thread, whose error is raised here."""

    def act() -> None:
        errors: list[OSError] = []

        def run() -> None:
            try:
                action()
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    return act


def main(mode: str, mine: str, others: str, port: str) -> None:
    """Print what could be done, as JSON.

    :param mine: a folder that is given to this process.
    :param others: a folder that is not, with a file ``secret`` in it.
    :param port: where somebody listens on this machine.
    """
    confinement = Confinement(mode, "cpu", [Path(mine)])
    confinement.enter()
    early = subprocess.run(["/bin/true"], check=False).returncode  # as imports of libraries do
    waiting = threading.Event()
    before = threading.Thread(target=waiting.wait, daemon=True)
    before.start()
    confinement.close()
    waiting.set()
    ours, _theirs = socket.socketpair()
    secret = Path(others, "secret")
    shared = Path(f"/dev/shm/jitney-probe-{os.getpid()}")  # noqa: S108  # where it would be
    libc = ctypes.CDLL(None, use_errno=True)

    def unshare() -> None:
        if libc.unshare(0x10000000):
            raise OSError(ctypes.get_errno(), "unshare")

    actions: dict[str, Callable[[], object]] = {
        "read a file of somebody's": secret.read_bytes,
        "write a file of somebody's": lambda: secret.write_text("mine"),
        "make a file": lambda: Path(others, "new").touch(),
        "make a file in a thread": in_a_thread(lambda: Path(others, "new").touch()),
        "make a temporary file": tempfile.TemporaryFile,
        "make shared memory": lambda: shared.open("xb"),
        "change a file's mode": lambda: secret.chmod(0o666),
        "change a file's time": lambda: os.utime(secret),
        "remove a file": secret.unlink,
        "list somebody's folder": lambda: os.listdir(others),  # noqa: PTH208
        "change the machine": lambda: os.open("/proc/sys/kernel/printk", os.O_WRONLY),
        "read the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "connect": lambda: socket.create_connection(("127.0.0.1", int(port)), 1).close(),
        "make a unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "execute": lambda: subprocess.run(["/bin/true"], check=True),
        "fork": lambda: os.fork() or os._exit(0),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "limit the parent": lambda: resource.prlimit(
            os.getppid(), resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)
        ),
        "be root of a namespace": unshare,
        "write where it may": lambda: Path(mine, "new").write_text("mine"),
        "read where it may": lambda: Path(mine, "new").read_text(),
        "read Python's own": Path(os.__file__).read_bytes,
        "reset its memory's peak": lambda: Path("/proc/self/clear_refs").write_text("5"),
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "start a thread": in_a_thread(lambda: None),
        "read sealed memory": lambda: Path(
            f"/proc/self/fd/{os.memfd_create('model')}"
        ).read_bytes(),
        "speak to its server": lambda: ours.send(b"x"),
    }
    report = {
        "early": early,
        "held": sorted(set(confinement.held)),
        "missing": confinement.missing,
        "limits": [
            resource.getrlimit(kind)
            for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
        ],
        "did": {name: attempt(action) for name, action in actions.items()},
    }
    sys.stdout.write(json.dumps(report))
    shared.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
