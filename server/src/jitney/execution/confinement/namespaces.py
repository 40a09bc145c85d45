"""A network of one's own, with nothing in it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

__all__ = ["leave_network"]

CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000

_libc: Final = ctypes.CDLL(None, use_errno=True)


def leave_network() -> None:
    """Go where no interface is up, and no System V or POSIX queue is anybody else's.

    The process must have one thread. Whoever may do so does it directly; everybody else needs a
    user namespace around it, in which the user keeps his number. Rejected: always that one. In it a
    superuser has no right to the files of others any more, and those may be Python's own.

    :raises OSError: when the kernel, or a container, allows neither.
    """
    try:
        _unshare(CLONE_NEWNET | CLONE_NEWIPC)
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
        _unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text, encoding="ascii")


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
