"""Replies on their way out that nobody reads, and whom to drop for them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import OutputTooLarge, Overloaded
from jitney.transport import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Drop = Callable[[Collection[str]], set[str]]

__all__ = ["LARGE_REPLY", "Reader", "UnreadReplies", "UnreadStatistics"]

LARGE_REPLY: Final = 1 << 16
"""Bytes from which on the reply of a unary call counts. Those below it are bounded by the calls
that may be open, and counting them would cost more than they do."""
PATIENCE: Final = 10
"""Beats without any progress after which a reader counts as one who does not read."""


class UnreadStatistics(NamedTuple):
    """Bytes of replies that wait to be read now, and how many connections were dropped for them."""

    nbytes: int
    dropped: int


class Reader:
    """Whoever has replies to read: one call. ``close`` when there is nothing left for it.

    ``add`` and ``sent`` count bytes that wait and that were taken.
    """

    __slots__ = ("_replies", "nbytes", "peer", "since")

    def __init__(self, replies: UnreadReplies, peer: str) -> None:
        self._replies = replies
        self.peer = peer
        self.nbytes = 0
        self.since = 0
        """The beat at which it last took something, or had nothing to take."""

    @property
    def pressed(self) -> bool:
        """Whether so much waits over all that none should be asked for more without need."""
        return self._replies.pressed

    def add(self, nbytes: int) -> None:
        """Count bytes that are about to wait.

        :raises Overloaded: when there is no room for them; then they are not counted.
        :raises OutputTooLarge: when there never is.
        """
        self._replies.make_room(nbytes)
        if not self.nbytes:
            self.since = self._replies.beats
            self._replies.readers.add(self)
        self.nbytes += nbytes
        self._replies.nbytes += nbytes

    def sent(self, nbytes: int) -> None:
        """Count bytes that were taken."""
        # Those of a reader that was dropped are not counted any more.
        nbytes = min(nbytes, self.nbytes)
        self.nbytes -= nbytes
        self._replies.nbytes -= nbytes
        self.since = self._replies.beats
        if not self.nbytes:
            self._replies.readers.discard(self)

    def close(self) -> None:
        """Forget what waits."""
        self.sent(self.nbytes)


class UnreadReplies:
    """A budget of bytes for replies that were made and are not read yet, over all calls.

    gRPC holds a reply until its caller takes it, for as long as that caller likes, and offers no
    way to take it back. So at the budget, connections are dropped whose callers have taken nothing
    for a second, first that which holds most. Where all of them do read, only too slowly, the reply
    that would exceed the budget is refused.

    Invariants: ``nbytes`` is the sum over ``readers``, and at most the limit.
    """

    def __init__(self, limit: int, drop: Drop = connections.drop) -> None:
        self._limit = limit
        self._drop = drop
        self._looked = -1
        self.beats = 0
        self.nbytes = 0
        self.dropped = 0
        self.readers: set[Reader] = set()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<UnreadReplies {self.nbytes} of {self._limit} bytes, {self.dropped} dropped>"

    def statistics(self) -> UnreadStatistics:
        """Return the current figures."""
        return UnreadStatistics(self.nbytes, self.dropped)

    def beat(self) -> None:
        """Count a tenth of a second."""
        self.beats += 1

    @property
    def pressed(self) -> bool:
        """Whether more than half of the budget waits."""
        return self.nbytes > self._limit // 2

    def make_room(self, nbytes: int) -> None:
        """Drop who does not read until there is room for ``nbytes`` more.

        :raises Overloaded: when that does not help.
        :raises OutputTooLarge: when there can never be room.
        """
        if self.nbytes + nbytes <= self._limit:
            return
        if nbytes > self._limit:
            msg = (
                f"the reply has {nbytes} bytes, and {self._limit} may wait for callers to read "
                "them (limits.max_unread_bytes)"
            )
            raise OutputTooLarge(msg)
        # Looking through all of them once a beat does: nobody becomes one who does not read sooner.
        if self._looked != self.beats:
            self._looked = self.beats
            self._drop_idle(nbytes)
        if self.nbytes + nbytes > self._limit:
            msg = (
                f"{self.nbytes} bytes of replies wait for their callers to read them, this one has "
                f"{nbytes}, and {self._limit} may wait (limits.max_unread_bytes)"
            )
            raise Overloaded(msg, reason="REPLY_BUDGET", retry_after=1.0)

    def _drop_idle(self, nbytes: int) -> None:
        by_peer: defaultdict[str, list[Reader]] = defaultdict(list)
        for reader in self.readers:
            if self.beats - reader.since >= PATIENCE:
                by_peer[reader.peer].append(reader)
        chosen, missing = {}, self.nbytes + nbytes - self._limit
        for peer, readers in sorted(by_peer.items(), key=lambda item: -_sum_of(item[1])):
            if missing > 0:
                chosen[peer] = readers
                missing -= _sum_of(readers)
        for peer in self._drop(chosen):
            self.dropped += 1
            for reader in chosen[peer]:
                reader.close()


def _sum_of(readers: list[Reader]) -> int:
    return sum(reader.nbytes for reader in readers)
