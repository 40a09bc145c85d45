"""Rights and amounts that a worker does without."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import stat
import struct
from typing import Final

from jitney.execution.confinement import kernel

__all__ = ["drop_capabilities", "limit_resources", "renounce_new_privileges"]

PR_SET_NO_NEW_PRIVS: Final = 38
CAPABILITY_VERSION: Final = 0x20080522
KEPT: Final = (1 << 1) | (1 << 2) | (1 << 14)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: a server that runs as root may have its Python in a
folder of somebody else's, and which files are left is decided elsewhere. CAP_IPC_LOCK: to page-lock
the slots."""

CORE_BYTES: Final = 1
"""No core dump: it would hold requests, and until it is written nobody sees that the worker ended.
Not 0, which does not keep the kernel from piping one to a program; 1 does (``man 5 core``)."""
FILE_BYTES: Final = 1 << 30
"""The largest file that a worker may make, where it may make one at all."""
OPEN_FILES: Final = 4096


HEADER: Final = struct.Struct("=Ii")
"""version, pid (0 for this thread)."""
SETS: Final = struct.Struct("=6I")
"""Effective, permitted and inheritable: the lower 32 of each, then the others."""


def renounce_new_privileges() -> None:
    """Let no program that is executed from here have more rights than this process.

    :raises OSError: when the kernel refuses.
    """
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Keep none of a superuser's rights but those to reach files, and to lock memory.

    :raises OSError: when the kernel refuses, or this is a machine whose numbers are not known.
    """
    number = kernel.CAPSET.get(platform.machine())
    if number is None:
        raise OSError(0, f"capset has no known number on {platform.machine()}")
    header = HEADER.pack(CAPABILITY_VERSION, 0)
    before = ctypes.create_string_buffer(SETS.size)
    kernel.call(number - 1, header, before)  # its neighbour, capget
    kept = SETS.unpack(before.raw)[1] & KEPT
    kernel.call(number, header, SETS.pack(kept, kept, 0, 0, 0, 0))


def limit_resources() -> None:
    """Bound what a crash, a leak or a model may leave or take.

    There is no bound of processes (RLIMIT_NPROC): it counts all threads of the user, those of other
    programs included, so any number is wrong somewhere. Nor one of address space, of which CUDA
    takes terabytes.

    :raises OSError: when the kernel refuses.
    """
    logs = [os.fstat(fd) for fd in (1, 2)]
    # The server's log may be a large file, which this process goes on writing to.
    grown = max((s.st_size for s in logs if stat.S_ISREG(s.st_mode)), default=0)
    for kind, most in (
        (resource.RLIMIT_CORE, CORE_BYTES),
        (resource.RLIMIT_FSIZE, grown + FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
