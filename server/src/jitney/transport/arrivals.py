"""Messages on their way in: reading them, and bounding what those cost that never arrive."""

from __future__ import annotations

import asyncio
import logging
from asyncio import current_task
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import grpc.aio

from jitney.errors import NotSupported, Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ArrivalStatistics", "Arrivals", "ReceivingContext"]

log = logging.getLogger(__name__)

EOF: Final = grpc.aio.EOF
PATIENCE: Final = 3
"""Beats after which a message that has begun to arrive counts as slow. What is at hand when a call
begins takes a fraction of one."""
SETTLING: Final = 10
"""Beats after calls were ended for the memory that they held, before it is looked at again. Half of
them are for gRPC to let go of it, the others for giving it back to the system."""
TOO_MUCH: Final = 1.5
"""Times the budget at which nobody waits to see whether giving freed memory back is enough."""


class ReceivingContext(Protocol):
    """What of a call's context is needed to read from it."""

    async def read(self) -> bytes:
        """Return the next message, or ``grpc.aio.EOF``."""

    def peer(self) -> str:
        """Return whose call it is."""


_Read = tuple["asyncio.Task[object] | None", int, bool]
"""The task that reads, the beat at which it began, and whether its call is unary. No named tuple:
every call makes one, and that takes eight times as long."""


class ArrivalStatistics(NamedTuple):
    """Calls that wait for a message now, and how many were ended because theirs did not come."""

    waiting: int
    evicted: int


class Arrivals:
    """Reads the messages of calls, and ends calls whose message does not come.

    gRPC itself reads the message of a unary call before it runs any code of ours, with a window as
    large as the message: on one connection, 20 calls that each lacked the last byte of 32 MiB took
    640 MiB (measured). So every method is served as one that reads
    by itself, which is the same on the wire and costs the same (measured), and reading is done
    here, where it is known who waits for what, and since when.

    ``beat`` looks after those that wait, ten times a second. In this order it ends

    - unary calls whose message takes longer than ``timeout`` beats to arrive (RECEIVE_TIMEOUT);
    - where more than ``most`` messages are slow, or where more than ``free`` are and memory is over
      its budget: the slow ones of the peers that have most of them, until enough are ended for the
      others to have room; where it is about memory, once a second (RECEIVE_BUDGET).

    Memory may be over its budget only because the C library keeps what was freed; so that is given
    back first, and nobody loses anything for it; but not at half as much again, when it would be
    too late.

    So somebody with few slow messages loses nothing to somebody with many. Which of the latter's
    hold the memory is not known: gRPC does not tell how much of a message is there.
    """

    __slots__ = (
        *("_beats", "_evicted", "_fill", "_free", "_loop", "_most", "_reads", "_settling"),
        *("_timeout", "_trim", "_trimmed", "evicted"),
    )

    def __init__(
        self,
        *,
        timeout: int,
        free: int,
        most: int,
        fill: Callable[[], float] = lambda: 0.0,
        trim: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait for nothing yet.

        :param timeout: beats that the message of a unary call may take.
        :param free: slow messages that nobody minds, because they fit into the budget.
        :param most: slow messages that there may be, however small they are.
        :param fill: tells how much of its budget memory takes, 1 for all of it; asked only when it
            matters.
        :param trim: gives freed memory back to the system; without it, ``fill`` would not sink.
        """
        self._timeout = timeout
        self._free = free
        self._most = most
        self._fill = fill
        self._trim = trim
        self._settling = 0
        self._trimmed = False
        self._beats = 0
        self._reads: dict[ReceivingContext, _Read] = {}
        self._evicted: dict[ReceivingContext, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.evicted = 0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Arrivals {len(self._reads)} waiting, {self.evicted} evicted>"

    def statistics(self) -> ArrivalStatistics:
        """Return the current figures."""
        return ArrivalStatistics(len(self._reads), self.evicted)

    # -- reading --------------------------------------------------------------------------------

    async def read(self, context: ReceivingContext, *, unary: bool = True) -> bytes:
        """Return the next message of a call, or ``grpc.aio.EOF``.

        :raises Overloaded: when others needed the room before it came.
        """
        self._reads[context] = (current_task(self._loop), self._beats, unary)
        try:
            return await context.read()
        except asyncio.CancelledError:
            self._ensure_cancelled(context)
            raise
        finally:
            del self._reads[context]

    async def request(self, context: ReceivingContext) -> bytes:
        """Return the one message of a unary call.

        :raises Overloaded: when others needed the room before it came.
        :raises NotSupported: when the caller ends the call without one.
        """
        # As in ``read``, without a call of it: this is the hot path, and a coroutine more would
        # cost as much as everything else here.
        self._reads[context] = (current_task(self._loop), self._beats, True)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            self._ensure_cancelled(context)
            raise
        finally:
            del self._reads[context]
        if message is EOF:
            # The protocol's answer to a wrong number of messages.
            msg = "the call ended without a request"
            raise NotSupported(msg)
        return message

    def _ensure_cancelled(self, context: ReceivingContext) -> None:
        """Do nothing where the caller went away.

        :raises Overloaded: where the call was ended here; its task is then to go on, with that.
        """
        reason = self._evicted.pop(context, None)
        if reason is None:
            return
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        raise Overloaded(_text(reason), reason=reason, retry_after=1.0) from None

    async def messages(self, context: ReceivingContext) -> AsyncIterator[bytes]:
        """Yield what a caller sends on a stream.

        gRPC's own iterator keeps the last message until the next one comes, which may be never:
        that of an idle stream could be tens of megabytes.
        """
        while (message := await self.read(context, unary=False)) is not EOF:
            yield message
            del message

    # -- looking after those that wait ----------------------------------------------------------

    def beat(self) -> None:
        """Count a tenth of a second, and end what has to end."""
        self._beats += 1
        if self._loop is None:
            # Kept for ``current_task``, which until Python 3.12 asks the kernel to find it.
            self._loop = asyncio.get_running_loop()
        if self._settling:
            self._settling -= 1
            if self._settling == SETTLING // 2:
                self._trim()
        if not self._reads:
            return
        slow = [
            (context, read)
            for context, read in self._reads.items()
            if self._beats - read[1] > PATIENCE
        ]
        for context, (_, began, unary) in slow:
            if unary and self._beats - began > self._timeout:
                self._evict(context, "RECEIVE_TIMEOUT")
        if len(slow) > self._most:
            self._evict_worst([context for context, _ in slow], len(slow) - self._most)
        elif len(slow) > self._free and not self._settling:
            self._look_at_memory([context for context, _ in slow])

    def _look_at_memory(self, slow: list[ReceivingContext]) -> None:
        fill = self._fill()
        if fill <= 1.0:
            self._trimmed = False
        elif self._trimmed or fill > TOO_MUCH:
            self._settling = SETTLING
            # As many as hold what is too much and half of the budget, if all hold the same.
            self._evict_worst(slow, round(len(slow) * (1 - 0.5 / fill)))
        else:
            self._settling, self._trimmed = SETTLING // 2, True
            self._trim()

    def _evict_worst(self, slow: list[ReceivingContext], count: int) -> None:
        """End the slow calls of as many peers as have ``count`` of them together."""
        by_peer: defaultdict[str, list[ReceivingContext]] = defaultdict(list)
        for context in slow:
            by_peer[context.peer()].append(context)
        for peer, worst in sorted(by_peer.items(), key=lambda item: -len(item[1])):
            for context in worst:
                self._evict(context, "RECEIVE_BUDGET")
            log.warning("ended %d calls of %s, whose messages did not arrive", len(worst), peer)
            count -= len(worst)
            if count <= 0:
                return

    def _evict(self, context: ReceivingContext, reason: str) -> None:
        task = self._reads[context][0]
        if context in self._evicted or task is None:
            return
        self._evicted[context] = reason
        self.evicted += 1
        task.cancel()


def _text(reason: str) -> str:
    if reason == "RECEIVE_TIMEOUT":
        return "the request did not arrive in time (limits.receive_timeout_seconds)"
    return (
        "too many messages arrive too slowly, most of them on this connection "
        "(limits.max_receiving_bytes, limits.max_concurrent_calls)"
    )
