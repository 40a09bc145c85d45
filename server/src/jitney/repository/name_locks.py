"""One lock per name, for names that come from callers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["NameLocks"]


class NameLocks:
    """Lets what concerns one name happen one after the other, in the order in which it came.

    A lock exists only while somebody holds it or waits for it, so unknown names cost nothing.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<NameLocks {sorted(self._locks)}>"

    def is_held(self, name: str) -> bool:
        """Whether anybody holds the lock of a name, or waits for it."""
        return name in self._locks

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of a name."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]
