"""System calls that Python has no functions for, by their numbers."""

from __future__ import annotations

import ctypes
import os
from typing import Final

__all__ = ["CAPSET", "LANDLOCK_ADD_RULE", "LANDLOCK_CREATE", "LANDLOCK_RESTRICT", "call", "prctl"]

CAPSET: Final = {"x86_64": 126, "aarch64": 91}
LANDLOCK_CREATE: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT: Final = 446
"""The last three have the same number on every machine."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """Make a system call; return what it returned.

    :param arguments: whole numbers, None, or ctypes objects by reference.
    :raises OSError: with its errno when it failed.
    """
    # As longs: ctypes would pass a plain int as 32 bits, and leave the upper half to chance.
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *passed)
    return _checked(result)


def prctl(option: int, *arguments: int) -> int:
    """Change an attribute of this process, or of this thread.

    :raises OSError: with its errno when it failed.
    """
    passed = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(ctypes.c_int(option), *passed))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
