"""A region of shared memory, and the parts of it that one request uses."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import InvalidRequest
from jitney.types import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.types import Buffer, Bytes, Carrier, RequestHeader

__all__ = ["Location", "Region", "SharedRequest", "Window"]

ZEROS: Final = bytes(1 << 16)


class Region:
    """A piece of an object in shared memory, under the name that a client gave it.

    The descriptor stays open for as long as anybody refers to the region: the registry, until it
    is unregistered, and every request that uses it. So a request that was accepted ends in peace.

    It is not mapped, on purpose. Whoever made the object may shrink it at any time, and touching a
    mapped page that is gone ends the process with SIGBUS. Through a descriptor it is a short read.
    """

    __slots__ = ("__weakref__", "fd", "key", "name", "offset", "owner", "size", "writable")

    def __init__(
        self,
        name: str,
        key: str,
        fd: int,
        offset: int,
        size: int,
        *,
        writable: bool,
        owner: str = "",
    ) -> None:
        """Take over a descriptor.

        :param offset: where the region starts in its object, in bytes.
        :param size: how many bytes it has.
        :param owner: the name of the principal whose it is, empty where callers have none.
        """
        self.owner = owner
        self.name = name
        self.key = key
        self.fd = fd
        self.offset = offset
        self.size = size
        self.writable = writable
        weakref.finalize(self, os.close, fd)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Region {self.name} {self.key}+{self.offset} {self.size} bytes>"


class Location(NamedTuple):
    """Where a tensor stands, as a request says it: ``offset`` and ``size`` bytes in a region."""

    region: str
    offset: int
    size: int


class Window:
    """The bytes of one tensor of one request: a ``types.RemoteBuffer`` that can also be written.

    ``lost`` is True once they could not be read. The request that they belong to is then answered
    with an error; what shares its batch does not notice.
    """

    __slots__ = ("at", "lost", "region", "size")

    def __init__(self, region: Region, offset: int, size: int) -> None:
        """Refer to ``size`` bytes of ``region`` from ``offset`` on, which lie within it."""
        self.region = region
        self.at = region.offset + offset
        self.size = size
        self.lost = False

    def __len__(self) -> int:
        """Return how many bytes there should be."""
        return self.size

    def read(self) -> bytes:
        """Return a copy.

        :raises InvalidRequest: when they are not there any more.
        """
        parts: list[bytes] = []  # mostly one, which is then not copied again
        left = self.size
        while left:
            try:
                part = os.pread(self.region.fd, left, self.at + self.size - left)
            except OSError:
                part = b""
            if not part:
                self.lost = True
                raise self.gone()
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, region: memoryview) -> None:
        """Copy them into ``region``; where they end early, zeros follow, and ``lost`` is set."""
        done, size = 0, len(region)
        try:
            while done < size:
                count = os.preadv(self.region.fd, [region[done:]], self.at + done)
                if not count:
                    break
                done += count
        except OSError:
            pass
        if done < size:
            self.lost = True
            # Not what the batch before left in the slot: that belongs to somebody else.
            while done < size:
                count = min(size - done, len(ZEROS))
                region[done : done + count] = ZEROS[:count]
                done += count

    def write(self, data: Bytes) -> None:
        """Copy ``data`` to the beginning; it is not longer.

        :raises InvalidRequest: when there is no room any more, or nobody may write there.
        """
        view, done = memoryview(data), 0
        if not self.region.writable:
            msg = f"the server may not write to the shared memory region '{self.region.name}'"
            raise InvalidRequest(msg)
        try:
            # Writing behind the end would make the object longer again: its owner's decision.
            if os.fstat(self.region.fd).st_size < self.at + len(view):
                raise self.gone()
            while done < len(view):
                done += os.pwritev(self.region.fd, [view[done:]], self.at + done)
        except OSError as error:
            msg = f"writing to the shared memory region '{self.region.name}': {error.strerror}"
            raise InvalidRequest(msg) from None

    def gone(self) -> InvalidRequest:
        """Return what to tell the caller when the object was shrunk."""
        return InvalidRequest(
            f"the shared memory region '{self.region.name}' became shorter than the "
            f"{self.region.size} bytes that were registered"
        )


class SharedRequest(Request):
    """A request with tensors in shared memory.

    ``windows`` are its inputs there, by the input's index; ``targets`` its outputs, by name.
    """

    __slots__ = ("targets", "windows")

    def __init__(
        self,
        header: RequestHeader,
        data: Sequence[Buffer],
        carrier: Carrier,
        *,
        windows: Mapping[int, Window],
        targets: Mapping[str, Window],
    ) -> None:
        """Begin without id, deadline and so on, which are set by whoever makes it."""
        super().__init__(header, data, carrier)
        self.windows = windows
        self.targets = targets

    def release(self) -> None:
        """Let go of the data, and with it of the regions."""
        super().release()
        self.windows, self.targets = {}, {}

    def lost(self) -> InvalidRequest | None:
        """Return an error when an input could not be read."""
        for window in self.windows.values():
            if window.lost:
                return window.gone()
        return None
