"""Which regions of shared memory clients have registered."""

from __future__ import annotations

import errno
import os
import resource
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.access import current
from jitney.errors import (
    InvalidRequest,
    JitneyError,
    NotSupported,
    RegionExists,
    RegionNotFound,
    RegionNotOpened,
)
from jitney.transport.shared_memory.region import Region, Window

if TYPE_CHECKING:
    from jitney.transport.shared_memory.region import Location

__all__ = ["DISABLED", "RegionRegistry"]

DISABLED: Final = "Client shared memory is disabled"
FOLDER: Final = Path("/dev/shm")  # noqa: S108  # where shm_open looks; nothing is made there
MAX_NAME: Final = 255
"""Characters of a region's name, and bytes of a key's, which is a file name."""
SHARE_OF_DESCRIPTORS: Final = 3 / 4
"""Of all that the process may have open, regions get no more than that: without descriptors there
are no new connections, and no new worker where one died."""
FOREIGN: Final = ("sem.", "jitney.", "torch_", "nccl-", "cuda.shm.")
"""Beginnings of keys that no client's tensors have: named semaphores, which other programs hold,
and what this server's own libraries make."""


class RegionRegistry:
    """The regions of all clients, by name.

    - A key is opened as ``shm_open`` does: a plain name in one folder, no link, a regular file.
    - A region that is unregistered while requests use it is listed until the last of them has
      ended, and cannot be used by new ones. Its name may be given anew at once.
    - While ``enabled`` is False nothing is opened, and nothing is ever registered.
    - Where callers are asked who they are, each has regions of their own: of others' they neither
      hear nor can use or forget them, and names may recur.

    A client that may register can read and write, through the server, whatever the server's user
    may in that folder; ``prefix`` confines that.
    """

    def __init__(
        self,
        *,
        enabled: bool = False,
        prefix: str = "",
        max_regions: int = 1024,
        max_bytes: int = 1 << 36,
        folder: Path = FOLDER,
    ) -> None:
        """Begin without regions.

        :param prefix: what keys have to begin with, without the leading ``/``.
        :param max_regions: each of them holds a descriptor.
        :param max_bytes: of all of them together.
        """
        self.enabled = enabled
        self._prefix = prefix
        self._max_regions = max_regions
        self._max_bytes = max_bytes
        self._folder = folder
        self._regions: dict[tuple[str, str], Region] = {}
        """By owner and name."""
        self._leaving: weakref.WeakSet[Region] = weakref.WeakSet()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = "on" if self.enabled else "off"
        return f"<RegionRegistry {state}, {len(self._regions)} regions>"

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Open a key, and give ``size`` bytes of it from ``offset`` on a name.

        :raises NotSupported: while client shared memory is disabled.
        :raises RegionExists: when the name is taken.
        :raises RegionNotOpened: when the key cannot be opened.
        :raises InvalidRequest: when name or key are not allowed, the object is smaller, or a limit
            is reached.
        """
        self.ensure_enabled()
        owner = current().name
        if (owner, name) in self._regions:
            msg = f"shared memory region '{name}' already in manager"
            raise RegionExists(msg)
        if not 0 < len(name) <= MAX_NAME:
            raise _invalid(name[:MAX_NAME], f"names have 1 to {MAX_NAME} characters")
        self._check_limits(name, size)
        fd, writable = self._open(name, key)
        try:
            _check_object(fd, name, key, offset, size)
        except JitneyError:
            os.close(fd)
            raise
        self._regions[owner, name] = Region(
            name, key, fd, offset, size, writable=writable, owner=owner
        )

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them where no name is given; unknown ones are forgotten too.

        :raises NotSupported: while client shared memory is disabled.
        """
        self.ensure_enabled()
        owner = current().name
        for gone in [(owner, name)] if name else [key for key in self._regions if key[0] == owner]:
            region = self._regions.pop(gone, None)
            if region is not None:
                self._leaving.add(region)

    def regions(self, name: str = "") -> list[Region]:
        """Return one region, or all of them where no name is given.

        :raises RegionNotFound: when there is none of that name; never while disabled.
        """
        own = self._own()
        if not name or not self.enabled:
            return list(own.values())
        found = own.pop(name, None)
        own.clear()  # what raises keeps its variables, and a region lives as long as anybody has it
        if found is None:
            msg = f"Unable to find system shared memory region: '{name}'"
            raise RegionNotFound(msg)
        return [found]

    def _own(self) -> dict[str, Region]:
        """Return the caller's regions by name, those that are leaving included."""
        owner = current().name
        # A name that was given anew is listed with its new region.
        every = (*self._leaving, *self._regions.values())
        return {region.name: region for region in every if region.owner == owner}

    def window(self, location: Location) -> Window:
        """Return the bytes at a location.

        :raises RegionNotFound: when there is no such region.
        :raises InvalidRequest: when they are not all in it.
        """
        name, offset, size = location
        region = self._regions.get((current().name, name))
        if region is None:
            msg = f"Unable to find shared memory region: '{name}'"
            raise RegionNotFound(msg)
        if offset >= region.size:
            msg = f"Invalid offset for shared memory region: '{name}'"
            raise InvalidRequest(msg)
        if offset + size > region.size:
            msg = f"Invalid offset + byte size for shared memory region: '{name}'"
            raise InvalidRequest(msg)
        return Window(region, offset, size)

    def ensure_enabled(self) -> None:
        """Do nothing while client shared memory is enabled.

        :raises NotSupported: while it is not.
        """
        if not self.enabled:
            raise NotSupported(DISABLED)

    def _check_limits(self, name: str, size: int) -> None:
        if len(self._regions) + len(self._leaving) >= self._max_regions:
            raise _invalid(
                name, f"there are {self._max_regions} regions (the server's --max-shm-regions)"
            )
        used = sum(region.size for region in self._regions.values())
        if used + size > self._max_bytes:
            raise _invalid(
                name,
                f"all regions together may have {self._max_bytes} bytes (the server's "
                "--max-shm-bytes)",
            )

    def _open(self, name: str, key: str) -> tuple[int, bool]:
        """Return the descriptor of a key, and whether it can be written."""
        plain = key.lstrip("/")  # as the C library does: the leading / is customary, not required
        if (
            plain in {"", ".", ".."}
            or "/" in plain
            or not plain.isprintable()
            or len(plain.encode("utf-8", "replace")) > MAX_NAME
        ):
            raise _invalid(name, "the key has to be a plain name such as /my_tensors")
        if plain.startswith(FOREIGN):
            raise _invalid(name, "keys of that beginning are in use for other things")
        if not plain.startswith(self._prefix):
            raise _invalid(
                name,
                f"keys have to begin with '/{self._prefix}' (the server's --client-shm-prefix)",
            )
        # Not blocking: a named pipe would keep the server waiting for whoever writes into it.
        flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        path = self._folder / plain
        try:
            return _opened(path, flags | os.O_RDWR), True
        except PermissionError:
            pass
        except OSError as error:
            raise _not_opened(name, key, error) from None
        try:
            return _opened(path, flags | os.O_RDONLY), False
        except OSError as error:
            raise _not_opened(name, key, error) from None


def _check_object(fd: int, name: str, key: str, offset: int, size: int) -> None:
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        raise _not_opened(name, key)
    if size < 1 or offset + size > about.st_size:
        raise _invalid(name, f"the object has {about.st_size} bytes")


def _opened(path: Path, flags: int) -> int:
    """Open a file, if enough descriptors are left.

    :raises OSError: as ``os.open``.
    """
    fd = os.open(path, flags)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # The kernel gives the lowest one that is free, so it tells how many are in use.
    if most != resource.RLIM_INFINITY and fd >= most * SHARE_OF_DESCRIPTORS:
        os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return fd


def _not_opened(name: str, key: str, error: OSError | None = None) -> JitneyError:
    if error is not None and error.errno in {errno.EMFILE, errno.ENFILE}:
        return _invalid(name, "the server has too many files open to open another (ulimit -n)")
    return RegionNotOpened(f"Unable to open shared memory region: '{key}'")


def _invalid(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"failed to register shared memory region '{name}': invalid args ({why})")
