"""Which files a worker needs, and which it may have."""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["device_files", "readable"]

SYSTEM: Final = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"),
    *("/etc/nvidia", "/etc/OpenCL", "/etc/vulkan"),
    *("/proc", "/sys", "/dev/urandom", "/dev/random"),
)
"""Programs, libraries and what they read about the machine. Not the rest of ``/etc``, nor anything
of ``/home``, ``/opt``, ``/srv``, ``/tmp``, ``/run`` and ``/var``: secrets and data live there."""
WRITABLE: Final = ("/dev/null", "/dev/zero", "/dev/full", "/proc/self/clear_refs")
"""The last one resets a high-water mark of this process's memory, which a load measures."""
CUDA: Final = ("/dev/nvidia*", "/dev/dxg", "/dev/dri", "/dev/shm")  # noqa: S108  # no file is made
"""Devices that a CUDA program opens for writing."""


def readable(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield what Python, torch and the C library may want to read.

    Python's own folders come from this interpreter: environments are anywhere.
    """
    yield from map(Path, SYSTEM)
    home = Path(environment.get("HOME", "/"))
    for found in (
        *(sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path),
        *environment.get("LD_LIBRARY_PATH", "").split(os.pathsep),
        environment.get("CUDA_HOME", ""),
        str(Path(__file__).parents[2]),
        *_folders_of("torch"),
    ):
        path = Path(found)
        # An empty entry stands for the working folder, which is not Python's but the operator's;
        # and an odd one shall not give away everything.
        if path.is_absolute() and path not in (Path("/"), home):
            yield path


def _folders_of(package: str) -> list[str]:
    """Return where a package is, without importing it; an import hook may know, not the path."""
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def device_files(device: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield what the worker of a device opens for writing."""
    yield from map(Path, WRITABLE)
    if device.startswith("cuda"):
        for pattern in CUDA:
            yield from map(Path, glob.glob(pattern))  # noqa: PTH207  # Path.glob wants a folder
        # Kernels that were compiled for this device, kept between runs.
        yield Path(environment.get("HOME", "/nonexistent"), ".nv")
