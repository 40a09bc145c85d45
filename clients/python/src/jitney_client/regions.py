"""The regions of shared memory that a client has registered with its server."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final

import grpc

from jitney_client.deadline import Deadline
from jitney_client.errors import DeadlineExceeded, JitneyError, NotSupported, Unavailable
from jitney_client.protocol import inference
from jitney_client.region import FOLDER, Region

if TYPE_CHECKING:
    from jitney_client.caller import Caller

__all__ = ["Regions"]

EXTENSION: Final = "system_shared_memory"
SMALLEST: Final = 1 << 20
"""Bytes; sizes are powers of two, so that a region fits the next request as well."""
MOST: Final = 1 << 28
"""Bytes of all regions of a client. What does not fit goes in the message."""
TIMEOUT: Final = 5.0
"""Seconds that registering and forgetting may take."""


class Regions:
    """Regions, each of them free, lent, or about to be forgotten by the server.

    - ``borrow`` returns a free one or makes one. It gives None where there can be none, for now or
      for ever: the caller then sends its tensors in the message. With ``insist`` it raises instead.
    - ``give_back`` makes it free. ``retire`` does not: where nobody knows whether the server has
      done with it, what it still writes must not meet another request.
    - Threads may share it, and the garbage collector may give regions back at any moment: so the
      lists are deques, whose operations are atomic, and there is no lock that it could wait for.
    """

    def __init__(self, caller: Caller, *, insist: bool) -> None:
        self._caller = caller
        self._insist = insist
        self._offered: bool | None = None if sys.platform == "linux" else False
        self._free: dict[int, deque[Region]] = {}
        self._retired = deque[Region]()
        self._all: dict[str, Region] = {}

    def __repr__(self) -> str:
        """Return how many there are."""
        free = sum(map(len, self._free.values()))
        return f"<Regions {len(self._all)} registered, {free} free>"

    @property
    def possible(self) -> bool:
        """Whether there may be any: unknown is yes."""
        return self._offered is not False

    async def borrow(self, size: int) -> Region | None:
        """Return a region of at least ``size`` bytes, registered; None where there can be none.

        :raises JitneyError: when it is insisted on, and the server does not offer or take it.
        :raises OSError: when it is insisted on, and there is no memory left.
        """
        size = max(SMALLEST, 1 << (size - 1).bit_length())
        try:
            return self._free.setdefault(size, deque()).pop()
        except IndexError:
            pass
        await self._forget_retired()
        if not await self._is_offered():
            return None
        if sum(region.size for region in [*self._all.values()]) + size > MOST:
            return None
        try:
            region = Region(size)
        except OSError:
            if self._insist:
                raise
            return None
        return await self._register(region)

    def give_back(self, region: Region) -> None:
        """Make a region free, of which the server has said that it has done with it."""
        if region.name in self._all:
            self._free.setdefault(region.size, deque()).append(region)

    def retire(self, region: Region) -> None:
        """Use a region no more; the server is told when it is spoken to again."""
        if self._all.pop(region.name, None) is not None:
            self._retired.append(region)

    def forget(self, unknown: Region) -> None:
        """Drop all of them, if the server did not know this one: it is another server then.

        Not twice: other requests may find out at the same time, when there are new ones already.
        """
        if unknown.name not in self._all:
            return
        self._free, self._all = {}, {}
        self._retired.clear()
        self._offered = None

    async def close(self) -> None:
        """Let the server forget all of them, those as well that arrays of results still use."""
        self._retired.extend(self._all.values())
        self._free, self._all = {}, {}
        self._offered = False
        await self._forget_retired()

    async def _is_offered(self) -> bool:
        if self._offered is None:
            try:
                metadata = await self._caller.call(
                    "ServerMetadata",
                    inference.ServerMetadataRequest(),
                    inference.ServerMetadataResponse,
                    Deadline(TIMEOUT),
                )
            except JitneyError:
                if self._insist:
                    raise
                return False  # ask again at the next request
            self._offered = EXTENSION in metadata.extensions and FOLDER.is_dir()
        if self._insist and not self._offered:
            msg = "the server offers no shared memory (its --allow-client-shm)"
            raise NotSupported(msg, code=grpc.StatusCode.UNIMPLEMENTED)
        return self._offered

    async def _register(self, region: Region) -> Region | None:
        request = inference.SystemSharedMemoryRegisterRequest(
            name=region.name, key=region.key, byte_size=region.size
        )
        try:
            await self._caller.call(
                "SystemSharedMemoryRegister",
                request,
                inference.SystemSharedMemoryRegisterResponse,
                Deadline(TIMEOUT),
                repeat=False,
            )
        except JitneyError:
            # It may be in another container, or belong to another user, behind the same address.
            self._offered = False
            if self._insist:
                raise
            return None
        finally:
            region.unlink()
        self._all[region.name] = region
        return region

    async def _forget_retired(self) -> None:
        while self._retired:
            region = self._retired.popleft()
            request = inference.SystemSharedMemoryUnregisterRequest(name=region.name)
            try:
                await self._caller.call(
                    "SystemSharedMemoryUnregister",
                    request,
                    inference.SystemSharedMemoryUnregisterResponse,
                    Deadline(TIMEOUT),
                    repeat=False,
                )
            except (Unavailable, DeadlineExceeded):
                # The server is gone, and its regions with it, or hangs: not to be waited for as
                # often as there are regions.
                self._retired.clear()
            except JitneyError:
                pass
