"""The server process' own memory: how much it has, and giving back what it does not use."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Memory", "own_bytes", "trim"]

STATM: Final = Path("/proc/self/statm")
WORTHWHILE: Final = 64 << 20
"""Bytes above the least that the process ever got along with, from which on trimming is tried."""
PAUSE: Final = 10
"""Looks between two attempts; a look is a second."""


def own_bytes() -> int:
    """Return the resident bytes that are this process' alone, 0 where the kernel does not tell.

    Shared ones are slots and libraries.
    """
    try:
        fields = STATM.read_bytes().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def trim() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


class Memory:
    """Knows whether the process has grown beyond what it should have, and trims it.

    glibc keeps what was freed: after a burst of messages nine tenths of them stay resident
    (measured). ``look``, called once a second, gives it back when nothing is in flight. Trimming
    takes 80 ms for 400 MiB in small pieces (measured), and allocations may have to wait for it; so
    it happens on a thread, and when nobody waits for the others.
    """

    def __init__(
        self,
        held: Callable[[], int],
        is_idle: Callable[[], bool],
        read: Callable[[], int] = own_bytes,
        run: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """Look at nothing yet.

        :param held: bytes that the process holds on purpose now, for requests and replies.
        :param is_idle: whether nothing is in flight.
        :param run: how trimming is run; on a thread of its own unless given.
        """
        self._held = held
        self._is_idle = is_idle
        self._read = read
        self._run = run or _on_a_thread
        self._least = 0
        self._looks = 0
        self._trimmed_at = -PAUSE
        self.trims = 0

    def settle(self) -> None:
        """Take the present size as what the process needs; call it when the start is over."""
        self._least = self._read()

    def excess(self) -> int:
        """Return the bytes that the process has beyond its needs, and beyond what it holds."""
        return self._read() - self._least - self._held()

    def look(self) -> None:
        """Trim, if nothing is in flight and it seems worth it."""
        self._looks += 1
        if self._looks - self._trimmed_at < PAUSE or not self._is_idle():
            return
        if self.excess() > WORTHWHILE:
            self.trim()

    def trim(self) -> None:
        """Give freed memory back."""
        self._trimmed_at = self._looks
        self.trims += 1
        self._run(trim)


def _on_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="trim", daemon=True).start()
