"""System calls that no model has any use for, refused: seccomp, with a program of our own.

Rejected: libseccomp, a native library that not every machine has, for forty instructions.

A call that is refused fails with EPERM. The filter is a list of what is not allowed: a list of what
is would have to follow every version of torch, of CUDA's driver and of the C library.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final, NamedTuple

from jitney.execution.confinement import kernel

__all__ = ["forbid", "program"]

SET_MODE_FILTER: Final = 1
FLAGS: Final = 1 | 4
"""All threads, also those that run already; and no slowing down of the processor's speculation,
which older kernels would switch on for whoever has a filter."""

AF_UNIX: Final = 1
AF_NETLINK: Final = 16
CLONE_THREAD: Final = 0x10000
EPERM: Final = 1
ENOSYS: Final = 38

# Instructions of classic BPF and what they may return; offsets into ``struct seccomp_data``.
LOAD: Final = 0x20
EQUAL: Final = 0x15
AT_LEAST: Final = 0x35
ANY_BIT: Final = 0x45
RETURN: Final = 0x06
ALLOW: Final = 0x7FFF0000
ERRNO: Final = 0x00050000
NUMBER_AT: Final = 0
ARCH_AT: Final = 4
FIRST_ARGUMENT_AT: Final = 16
"""Its lower half: both architectures are little-endian."""
X32: Final = 0x40000000
"""From here on, numbers are of another calling convention of x86-64, with a list of its own."""


class _Machine(NamedTuple):
    """Numbers of system calls on one architecture; ``refused`` is for those without conditions."""

    audit_arch: int
    seccomp: int
    socket: int
    clone: int
    kill: int
    tgkill: int
    rt_sigqueueinfo: int
    rt_tgsigqueueinfo: int
    prlimit64: int
    refused: tuple[int, ...]


CLONE3: Final = 435
EVERYWHERE: Final = (
    # pidfd_send_signal, io_uring_setup (it makes calls past this filter), mounts, pidfd_open,
    # pidfd_getfd, process_madvise, mount_setattr, fchmodat2, setxattrat, removexattrat
    *(424, 425, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 452, 463, 466),
)
# Each list is: programs and processes (execve, execveat, fork, vfork, ptrace, process_vm_readv,
# process_vm_writev, tkill); modes, owners, attributes and times of files, which Landlock leaves to
# everybody; the machine (mounts, roots, swap, reboot, names, clocks, modules, kexec, ports); and
# what has been a way out before (keys, namespaces, bpf, perf_event_open, userfaultfd,
# open_by_handle_at).
MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E,
        317,
        socket=41,
        clone=56,
        kill=62,
        tgkill=234,
        rt_sigqueueinfo=129,
        rt_tgsigqueueinfo=297,
        prlimit64=302,
        refused=(
            *(59, 322, 57, 58, 101, 310, 311, 200),
            *(90, 91, 268, 92, 93, 94, 260, 188, 189, 190, 197, 198, 199, 132, 235, 261, 280),
            *(165, 166, 155, 161, 167, 168, 169, 170, 171, 164, 227, 305, 175, 176, 313, 246, 320),
            *(172, 173, 248, 249, 250, 272, 308, 321, 298, 323, 304),
        ),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        277,
        socket=198,
        clone=220,
        kill=129,
        tgkill=131,
        rt_sigqueueinfo=138,
        rt_tgsigqueueinfo=240,
        prlimit64=261,
        refused=(
            *(221, 281, 117, 270, 271, 130),
            *(52, 53, 54, 55, 5, 6, 7, 14, 15, 16, 88),
            *(40, 39, 41, 51, 224, 225, 142, 161, 162, 170, 112, 266, 105, 106, 273, 104, 294),
            *(217, 218, 219, 97, 268, 280, 241, 282, 265),
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def program(machine: str, pid: int, families: tuple[int, ...]) -> bytes:
    """Return the filter for this process.

    :param machine: as ``platform.machine`` names it.
    :param families: kinds of sockets that may be made.
    :raises OSError: when there is no list for the machine.
    """
    numbers = MACHINES.get(machine)
    if numbers is None:
        raise OSError(ENOSYS, f"no list of system calls for {machine}")
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARCH_AT),
        (EQUAL, 1, 0, numbers.audit_arch),
        (RETURN, 0, 0, ERRNO | EPERM),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    if machine == "x86_64":
        code += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, ERRNO | EPERM)]
    for number in (*numbers.refused, *EVERYWHERE):
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | EPERM)]
    # Its arguments are in memory, where no filter looks: as if it did not exist, so that the C
    # library makes its threads by the older call.
    code += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | ENOSYS)]
    # Calls of which the first argument decides; each has to load it for itself.
    code += _with_argument(numbers.clone, [(ANY_BIT, CLONE_THREAD)])
    code += _with_argument(numbers.socket, [(EQUAL, family) for family in families])
    for number in (
        *(numbers.kill, numbers.tgkill),
        *(numbers.rt_sigqueueinfo, numbers.rt_tgsigqueueinfo),
    ):
        code += _with_argument(number, [(EQUAL, pid)])
    code += _with_argument(numbers.prlimit64, [(EQUAL, 0), (EQUAL, pid)])
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _with_argument(number: int, fine: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Return what allows a call only with one of some first arguments."""
    tests = [(test, len(fine) - i, 0, value) for i, (test, value) in enumerate(fine)]
    ends = [(RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)]
    body = [(LOAD, 0, 0, FIRST_ARGUMENT_AT), *tests, *ends]
    return [(EQUAL, 0, len(body), number), *body]


def forbid(*, local_sockets: bool) -> None:
    """Refuse them from now on, in all threads of this process.

    :param local_sockets: whether sockets that never leave the machine may still be made.
    :raises OSError: when the kernel refuses, or there is no list for this machine.
    """
    machine = platform.machine()
    families = (AF_UNIX, AF_NETLINK) if local_sockets else ()
    code = program(machine, os.getpid(), families)
    attr = _Program(len(code) // 8, code)
    thread = kernel.call(MACHINES[machine].seccomp, SET_MODE_FILTER, FLAGS, ctypes.byref(attr))
    if thread:
        raise OSError(EPERM, f"thread {thread} could not be included")
