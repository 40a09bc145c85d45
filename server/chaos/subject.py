"""The server that things are done to: ``python -m chaos.subject``, with flags of ``jitney serve``.

It is the real one in all but this: its devices may be ``chaos.worker``'s, there is a way in for
whoever watches (``chaos.probe``), and, on request, a defect (``chaos.sabotage``).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.probe import open_probe
from chaos.read_only import restrict_writes
from chaos.sabotage import SABOTAGES
from jitney.config import add_flags, flag_values, load_settings
from jitney.errors import JitneyError
from jitney.execution.link import WorkerCommand
from jitney.serving import serve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.config import DeviceSettings

__all__ = ["main"]

WORKER: Final = "chaos.worker"
STDIN: Final = 0
INPUT_BYTES: Final = 1 << 10
ORPHANED_AFTER: Final = 0.5
"""Seconds from the end of the input until it is known whether the parent has ended with it."""
HERE: Final = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.subject")
    parser.add_argument(
        "--chaos-devices", type=int, default=0, metavar="N", help="how many; 0: the real ones"
    )
    parser.add_argument("--chaos-probe", type=Path, metavar="SOCKET", help="where to be asked")
    parser.add_argument("--chaos-sabotage", choices=SABOTAGES, help="the defect to have")
    parser.add_argument("--chaos-stderr", metavar="FILE", help="where its log goes")
    parser.add_argument(
        "--chaos-read-only", type=Path, metavar="FOLDER", help="the only place to write to"
    )
    add_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.chaos_stderr:
        os.dup2(os.open(arguments.chaos_stderr, os.O_WRONLY), sys.stderr.fileno())
    if arguments.chaos_read_only:
        # Before there are threads: the kernel restricts the one that asks, and what it starts.
        restrict_writes(arguments.chaos_read_only, Path(os.devnull))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    if arguments.chaos_sabotage:
        SABOTAGES[arguments.chaos_sabotage]()
    if arguments.chaos_probe:
        open_probe(arguments.chaos_probe)
    try:
        settings = load_settings(flag_values(arguments), os.environ)
        # Workers find this package by the path, whichever folder they run in.
        places = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        commands = _commands(settings.devices, environment, arguments.chaos_devices)
        return serve(settings, environment, commands)
    except JitneyError as error:
        sys.exit(f"{parser.prog}: {error}")


def _end_with_parent(parent: int) -> None:
    """Stop when the harness is gone: it may have been ended while it was starting us."""
    # Not by way of sys.stdin, whose lock the interpreter wants when it ends.
    while os.read(STDIN, INPUT_BYTES):
        pass
    time.sleep(ORPHANED_AFTER)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _commands(
    devices: DeviceSettings, environment: Mapping[str, str], count: int
) -> list[WorkerCommand]:
    return [
        WorkerCommand(
            f"sim:{number}",
            environment,
            threads=1,
            slots=devices.slots,
            slot_bytes=devices.slot_bytes,
            poll_microseconds=devices.poll_microseconds,
            module=WORKER,
        )
        for number in range(count)
    ]


if __name__ == "__main__":
    sys.exit(main())
