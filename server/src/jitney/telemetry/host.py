"""How busy the machine is, as its kernel says."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Host", "HostFigures"]

PROC: Final = Path("/proc")
IDLE: Final = slice(3, 5)
"""Columns of the first line of ``stat`` in which nothing ran: idle, and waiting for a disk."""
COUNTED: Final = 8
"""Columns of it that are time; those behind them are counted in the first ones already."""


class HostFigures(NamedTuple):
    """``utilisation`` is a share of all cores, 0 to 1; memory is in bytes."""

    utilisation: float
    memory_total: int
    memory_used: int


class Host:
    """Reads ``/proc``; a kernel without it has figures of 0."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before = (0, 0)

    def read(self) -> HostFigures:
        """Return the figures; utilisation is that since the last reading, or since the boot."""
        try:
            ticks = (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:]
            memory = dict(
                line.split(":", 1) for line in (self._proc / "meminfo").read_text().splitlines()
            )
            total, available = (
                int(memory[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable")
            )
        except (OSError, ValueError, KeyError, IndexError):
            return HostFigures(0.0, 0, 0)
        columns = [int(column) for column in ticks[:COUNTED]]
        now = sum(columns), sum(columns[IDLE])
        passed, idle = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        return HostFigures(1 - idle / passed if passed > 0 else 0.0, total, total - available)
