"""CPU time and memory of processes and threads, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

__all__ = [
    "Memory",
    "ThreadUsage",
    "descendants",
    "thread_usage",
    "tree_memory",
    "tree_seconds",
]

PROC: Final = Path("/proc")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
UTIME: Final = 11
STIME: Final = 12
"""Fields of a stat line, counted from behind the command's name."""


class ThreadUsage(NamedTuple):
    """A thread and the seconds of CPU time that it has used so far."""

    process: int
    thread: int
    name: str
    user: float
    system: float


class Memory(NamedTuple):
    """Memory of a process and all below it, in MiB.

    ``peak_rss`` adds up what each process had resident at most: pages that several share, such as a
    library's, count once for each. ``pss`` is what they have now, with shared pages counted once.
    """

    peak_rss: float
    pss: float


def descendants(pid: int) -> list[int]:
    """Return ``pid`` and every live process below it; empty when it is gone."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        try:
            threads = [entry.name for entry in (PROC / str(current) / "task").iterdir()]
        except OSError:
            continue
        found.append(current)
        for thread in threads:
            try:
                text = (PROC / str(current) / "task" / thread / "children").read_text()
            except OSError:
                continue
            waiting += map(int, text.split())
    return found


def tree_seconds(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process and all below it."""
    total = 0.0
    for process in descendants(pid):
        usage = _read(PROC / str(process) / "stat")
        if usage is not None:
            total += usage[1] + usage[2]
    return total


def tree_memory(pid: int) -> Memory:
    """Return the memory of a process and all below it."""
    peak = shared = 0
    for process in descendants(pid):
        peak += _kibibytes(PROC / str(process) / "status", "VmHWM:")
        shared += _kibibytes(PROC / str(process) / "smaps_rollup", "Pss:")
    return Memory(peak / 1024, shared / 1024)


def thread_usage(pid: int) -> list[ThreadUsage]:
    """Return the usage of every live thread of a process and all below it."""
    threads = []
    for process in descendants(pid):
        for entry in sorted((PROC / str(process) / "task").iterdir(), key=lambda e: int(e.name)):
            usage = _read(entry / "stat")
            if usage is not None:
                threads.append(ThreadUsage(process, int(entry.name), *usage))
    return threads


def _kibibytes(path: Path, key: str) -> int:
    """Return the number behind a key; 0 where the process ended meanwhile."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def _read(path: Path) -> tuple[str, float, float] | None:
    try:
        text = path.read_text()
    except OSError:
        return None  # it ended meanwhile
    # The name stands in parentheses and may hold any character, a parenthesis included.
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return name, int(fields[UTIME]) / TICKS_PER_SECOND, int(fields[STIME]) / TICKS_PER_SECOND
