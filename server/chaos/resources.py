"""What a process holds, from ``/proc``."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.usage import descendants

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Resources",
    "RssWatch",
    "alive",
    "children",
    "resident_bytes",
    "resources",
    "segments",
    "shared_mappings",
]

PROC: Final = Path("/proc")
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # it is looked at only
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
RSS_FIELD: Final = 1
ZOMBIE: Final = "Z"


class Resources(NamedTuple):
    """What one process holds: resident bytes, open descriptors, threads."""

    rss: int
    descriptors: int
    threads: int


def resident_bytes(pid: int) -> int:
    """Return the resident set of a process, 0 when it is gone."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[RSS_FIELD]) * PAGE
    except (OSError, IndexError):
        return 0


def resources(pid: int) -> Resources:
    """Return what a process holds.

    :raises OSError: when it is gone.
    """
    folder = PROC / str(pid)
    return Resources(resident_bytes(pid), _entries(folder / "fd"), _entries(folder / "task"))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its end does not."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] != ZOMBIE


def children(pid: int) -> list[int]:
    """Return the processes below one, those that ended left out."""
    return [one for one in descendants(pid) if one != pid and alive(one)]


def shared_mappings(pid: int) -> int:
    """Return how many regions of shared memory a process has mapped, named or not."""
    try:
        lines = (PROC / str(pid) / "maps").read_text().splitlines()
    except OSError:
        return 0
    return sum("/memfd:" in line or "/dev/shm/" in line for line in lines)  # noqa: S108  # looked at


def segments() -> set[str]:
    """Return the names in the shared memory of this machine."""
    return {entry.name for entry in SHARED_MEMORY.glob("*")}


def _entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


class RssWatch:
    """Looks at the resident set of a process as long as its block lasts."""

    def __init__(self, pid: int, every: float = 0.02) -> None:
        """Look at nothing yet.

        :param every: seconds between two looks.
        """
        self._pid = pid
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.peak = self.last = resident_bytes(pid)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def _look(self) -> None:
        self.last = resident_bytes(self._pid)
        self.peak = max(self.peak, self.last)
