"""A file system on which this process, and all that it starts, can write nowhere but in one place.

By Landlock (Linux 5.13), which needs no privileges; a remount does. What is refused is EACCES and
not EROFS, which makes no difference to who only sees that it could not write.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["possible", "restrict_writes"]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of system calls, the same on every architecture."""
ASK_VERSION: Final = 1
PATH_BENEATH: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
WRITE_FILE: Final = 1 << 1
WRITES: Final = sum(1 << bit for bit in (1, *range(4, 13)))
"""Of the first version: write a file, remove and make entries of every kind."""

_libc = ctypes.CDLL(None, use_errno=True)


def possible() -> bool:
    """Whether this kernel can do it."""
    return int(_libc.syscall(CREATE_RULESET, None, 0, ASK_VERSION)) > 0


def restrict_writes(*writable: Path) -> None:
    """Refuse every write from now on, but to some files and below some folders, for good.

    :raises OSError: when the kernel will not.
    """
    attributes = struct.pack("<Q", WRITES)
    rules = _called(CREATE_RULESET, attributes, len(attributes), 0)
    for folder in writable:
        below = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        allowed = WRITES if folder.is_dir() else WRITE_FILE
        _called(ADD_RULE, rules, PATH_BENEATH, struct.pack("<Qi", allowed, below), 0)
        os.close(below)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _called(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _called(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
