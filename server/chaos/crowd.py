"""Many callers in one process, to be stopped or killed: ``python -m chaos.crowd ADDRESS COUNT``.

Each has a connection of its own and one request under way. It says ``sent`` when all have left, and
then does nothing until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks.workload import INFER

from chaos.faulty_model import message
from jitney.loadgen.connection import OpenConnection, template
from jitney.serving import make_room_for_descriptors

__all__ = ["main"]

OTHER_DESCRIPTORS = 64
AT_ONCE = 50
"""Connections that are opened together: a listener's queue is not endless."""
FIRST_NUMBER = 1 << 40
"""Beyond the numbers of whoever started the crowd."""


class _Nobody:
    """A ``loadgen.connection.Ledger`` that keeps nothing."""

    def ended(self, number: int, at: float, code: int, reason: bytes, body: bytes) -> None:
        """Forget how a call ended."""


async def _crowd(address: str, count: int) -> None:
    connections = [OpenConnection(_Nobody()) for _ in range(count)]
    for first in range(0, count, AT_ONCE):
        await asyncio.gather(
            *(one.connect(address) for one in connections[first : first + AT_ONCE])
        )
    for place, connection in enumerate(connections):
        number = FIRST_NUMBER + place
        connection.send(number, template(INFER, address, message(number)))
        connection.flush()
    print("sent", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for connection in connections:
        connection.close()


def main() -> int:
    """Run until the standard input ends; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.crowd")
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    make_room_for_descriptors(arguments.count + OTHER_DESCRIPTORS)
    asyncio.run(_crowd(arguments.address, arguments.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
