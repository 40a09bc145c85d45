"""A piece of memory that a server on the same machine can read and write."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "Region"]

FOLDER: Final = Path("/dev/shm")  # noqa: S108  # where shm_open looks
PREFIX: Final = "jitney_client_"


class Region:
    """An object in POSIX shared memory, under a random name that only its owner can open.

    The server opens it by its name when it is registered, and keeps it open. So the name is needed
    no longer than that: ``unlink`` right after, and nothing is left behind however this process
    ends.

    :param size: in bytes. All of it is allocated now: memory that is merely promised would end the
        process when it is touched and there is none.
    :raises OSError: when there is not so much.
    """

    __slots__ = ("__weakref__", "memory", "name", "size")

    def __init__(self, size: int) -> None:
        self.name = PREFIX + secrets.token_hex(16)
        self.size = size
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        fd = os.open(FOLDER / self.name, flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            self.memory = mmap.mmap(fd, size)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(fd)

    def __repr__(self) -> str:
        """Return the name and the size."""
        return f"<Region {self.name} {self.size} bytes>"

    @property
    def key(self) -> str:
        """What a server opens it by."""
        return "/" + self.name

    def unlink(self) -> None:
        """Take its name away; who has it open, keeps it."""
        (FOLDER / self.name).unlink(missing_ok=True)
