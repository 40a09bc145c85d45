"""A view of the file system with little in it, no TCP, and no signals to others: Landlock.

The kernel enforces it for the calling thread and for all that it starts, for good; no privilege is
needed. See ``Documentation/userspace-api/landlock.rst`` of the kernel, whose names these are.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Final

from jitney.execution.confinement import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["abi", "restrict"]

CREATE_RULESET_VERSION: Final = 1
RULE_PATH_BENEATH: Final = 1

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
EVERYTHING: Final = (1 << 13) - 1
"""What the first version could handle: to execute, read and write files, to make and remove them
and whatever else has a name."""
ADDED: Final = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""To link across folders, to truncate, and to control devices: by the version that added it."""
OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | (1 << 14) | (1 << 15)
"""What may be granted for something that is not a folder."""
TCP: Final = 3
"""To bind and to connect, from version 4."""
SCOPES: Final = 3
"""Abstract unix sockets and signals stay within the worker, from version 6."""
NET_ABI: Final = 4
SCOPE_ABI: Final = 6


RULESET: Final = struct.Struct("=QQQ")
"""handled_access_fs, handled_access_net, scoped. Older kernels take the longer structure as long as
what they do not know is 0."""
PATH_BENEATH: Final = struct.Struct("=Qi")
"""allowed_access, parent_fd."""


def abi() -> int:
    """Return the version of Landlock that the kernel has.

    :raises OSError: when it has none, or it is switched off.
    """
    return kernel.call(kernel.LANDLOCK_CREATE, None, 0, CREATE_RULESET_VERSION)


def restrict(readable: Iterable[Path], writable: Sequence[Path]) -> list[int]:
    """Take away every file that is not beneath one of these; TCP and signals where that is known.

    Programs that are readable may be executed, as Python does while libraries are imported (to ask
    ``ldconfig`` for others): what ends that is seccomp. What is writable may be read as well.

    ``no_new_privs`` has to be set before. Paths that do not exist are left out. Files that are open
    already, and those that are reached through ``/proc/self/fd``, stay as they are.

    :returns: descriptors of ``writable``, to be kept open: a rule is about an inode, and the inode
        of a file in ``/proc`` may be made anew once nobody holds it.
    :raises OSError: when the kernel refuses; nothing is taken away then.
    """
    version = abi()
    handled = EVERYTHING | sum(bit for since, bit in ADDED.items() if version >= since)
    attr = RULESET.pack(
        handled, TCP if version >= NET_ABI else 0, SCOPES if version >= SCOPE_ABI else 0
    )
    ruleset = kernel.call(kernel.LANDLOCK_CREATE, attr, len(attr), 0)
    kept: list[int] = []
    try:
        for path in readable:
            fd = _allow(ruleset, path, EXECUTE | READ_FILE | READ_DIR)
            if fd >= 0:
                os.close(fd)
        kept += [fd for path in writable if (fd := _allow(ruleset, path, handled & ~EXECUTE)) >= 0]
        kernel.call(kernel.LANDLOCK_RESTRICT, ruleset, 0)
    except OSError:
        for fd in kept:
            os.close(fd)
        raise
    finally:
        os.close(ruleset)
    return kept


def _allow(ruleset: int, path: Path, access: int) -> int:
    """Add a rule; return the descriptor that it was made from, -1 where there is no such path."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        access &= OF_FILES
    try:
        rule = PATH_BENEATH.pack(access, fd)
        kernel.call(kernel.LANDLOCK_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
    except OSError:
        os.close(fd)
        raise
    return fd
