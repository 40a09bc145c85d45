"""``jitney serve`` on simulated devices: ``python -m jitney.testing.sim_server --sim-devices 4``.

Takes every flag of ``jitney serve`` (``--device`` decides nothing). It is no flag of that command,
because nobody should serve simulated answers by a slip of the keyboard.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from jitney.config import add_flags, flag_values, load_settings
from jitney.errors import JitneyError
from jitney.execution.link import WorkerCommand
from jitney.serving import serve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.config import DeviceSettings

__all__ = ["main", "sim_commands"]

WORKER: Final = "jitney.testing.sim_worker"


def sim_commands(
    devices: DeviceSettings, environment: Mapping[str, str], count: int
) -> list[WorkerCommand]:
    """Return how to start ``count`` simulated devices ``sim:0`` …, for ``app.Server``.

    :param devices: the slots, and how long a worker polls; ``devices.device`` is not looked at.
    """
    return [
        WorkerCommand(
            f"sim:{number}",
            environment,
            threads=1,
            slots=devices.slots,
            slot_bytes=devices.slot_bytes,
            poll_microseconds=devices.poll_microseconds,
            module=WORKER,
            confinement=devices.worker_confinement,
            paths=devices.worker_paths,
        )
        for number in range(count)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jitney.testing.sim_server")
    parser.add_argument("--sim-devices", type=int, default=1, metavar="N", help="how many")
    add_flags(parser)
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings(flag_values(arguments), os.environ)
        commands = sim_commands(settings.devices, os.environ, arguments.sim_devices)
        return serve(settings, os.environ, commands)
    except JitneyError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    sys.exit(main())
