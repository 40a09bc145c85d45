"""How often the kernel has ended a process because memory ran out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

__all__ = ["oom_kills"]

CGROUPS: Final = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """Return a count that grows with each of them, of this control group where that is known.

    Whoever dies of SIGKILL is not told by whom. In a container only its own processes count; where
    there is no group, or an older kernel, all of the machine's do.
    """
    with contextlib.suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::/")[2].strip()
        for file in (CGROUPS / group / "memory.events", Path("/proc/vmstat")):
            with contextlib.suppress(OSError):
                for line in file.read_text(encoding="ascii").splitlines():
                    name, _, count = line.partition(" ")
                    if name == "oom_kill":
                        return int(count)
    return 0
