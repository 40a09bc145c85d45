"""A run of load in a generator's process: an open loop or a closed one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jitney.loadgen.connection import LOST, OpenConnection, template
from jitney.loadgen.order import read_blobs, read_schedule
from jitney.loadgen.outcome import end_name
from jitney.loadgen.replies import Replies
from jitney.loadgen.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.clock import LoopClock
    from jitney.loadgen.order import Order, Tls

    Say = Callable[[dict[str, Any]], None]

__all__ = ["NOT_KEPT", "ClosedLoop", "OpenLoop", "Run"]

NOT_KEPT: Final = "(not checked)"
"""The word for an OK call whose reply was not kept."""
PROGRESS_EVERY: Final = 0.25


class Run:
    """What an open and a closed loop have in common: connections, and how calls ended.

    ``at``, ``sent`` and ``kinds`` have an element for each call, and so have the lists of ends.
    """

    def __init__(self, order: Order, clock: LoopClock) -> None:
        self._order = order
        self._clock = clock
        messages, _ = read_blobs(order.messages)
        self._templates = [
            template(order.path, order.address, messages[one.message], one.metadata)
            for one in order.requests
        ]
        tls = None if order.tls is None else _tls_context(order.tls)
        self._connections = [OpenConnection(self, tls) for _ in range(order.connections)]
        self._began = 0.0
        self._kinds: list[int] = []
        self._at: list[float] = []
        self._sent: list[float] = []
        self._ended: list[float] = []
        self._code: list[int] = []
        self._reason: list[int] = []
        self._messages = [request.message for request in order.requests]
        self._replies = Replies(len(messages))
        self._reasons: dict[str, int] = {"": 0}
        self.texts: dict[str, str] = {}
        """What the server said of the first call that ended so, by ``outcome.end_name``."""
        self._counts = {"sent": 0, "ended": 0, "ok": 0, "in_time": 0}
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Open the connections.

        :raises OSError: when nobody is there.
        """
        await asyncio.gather(*(one.connect(self._order.address) for one in self._connections))

    async def run(self, begin: float, say: Say) -> Seen:
        """Do it, and write the replies; return what was seen.

        :param begin: when, on the clock of ``time.monotonic``.
        :param say: takes counts of what was done, now and then.
        """
        cpu = time.process_time()
        self._began = begin
        patience = begin - time.monotonic() + self._start() + self._order.grace
        reports = asyncio.create_task(self._report(say))
        with contextlib.suppress(TimeoutError):  # what has not ended then is lost
            await asyncio.wait_for(asyncio.shield(self._over), patience)
        reports.cancel()
        for connection in self._connections:
            connection.close()
        self._replies.write(self._order.replies)
        return Seen(
            np.array(self._at, np.float64),
            np.array(self._kinds, np.uint32),
            np.array(self._sent, np.float64),
            np.array(self._ended, np.float64),
            np.array(self._code, np.uint8),
            np.array(self._reason, np.uint16),
            tuple(self._reasons),
            0,
            time.process_time() - cpu,
        )

    def ended(self, number: int, at: float, code: int, reason: bytes, body: bytes) -> None:
        """Note a call's end."""
        moment = at - self._began
        self._ended[number] = moment
        self._code[number] = code
        counts = self._counts
        counts["ended"] += 1
        word = ""
        if code == 0:
            counts["ok"] += 1
            counts["in_time"] += moment - self._at[number] <= self._order.slo
            if not self._replies.note(self._messages[self._kinds[number]], body):
                word = NOT_KEPT
        else:
            word = reason.decode(errors="replace")
            self.texts.setdefault(end_name(code, word), body.decode(errors="replace"))
        if word:
            self._reason[number] = self._reasons.setdefault(word, len(self._reasons))
        self._after(code)

    def _start(self) -> float:
        """Begin; return the seconds until the last call is sent."""
        raise NotImplementedError

    def _after(self, code: int) -> None:
        """Go on after a call's end."""
        raise NotImplementedError

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def _report(self, say: Say) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            say(dict(self._counts))


class OpenLoop(Run):
    """Sends each call of a schedule at its moment."""

    def __init__(self, order: Order, clock: LoopClock) -> None:
        super().__init__(order, clock)
        at, kinds = read_schedule(order.schedule)
        self._at, self._kinds = at.tolist(), kinds.tolist()
        count = len(self._at)
        self._which = [self._templates[kind] for kind in self._kinds]
        self._sent = [0.0] * count
        self._ended = [0.0] * count
        self._code = [LOST] * count  # until it ends
        self._reason = [0] * count
        self._next = 0

    def _start(self) -> float:
        if not self._at:
            self._finish()
            return 0.0
        self._sleep()
        return self._at[-1]

    def _sleep(self) -> None:
        if self._next < len(self._at):
            self._clock.call_at(self._began + self._at[self._next], self._send)

    def _send(self) -> None:
        now = time.monotonic
        moments, began, at = self._at, self._began, self._next
        connections, which, sent = self._connections, self._which, self._sent
        share, end = len(connections), len(moments)
        while at < end and began + moments[at] <= (moment := now()):
            # Before it is sent: a connection that is gone says so at once.
            sent[at] = moment - began
            connections[at % share].send(at, which[at])
            at += 1
        self._next = self._counts["sent"] = at
        for connection in connections:
            connection.flush()
        self._sleep()

    def _after(self, code: int) -> None:  # noqa: ARG002  # what comes back changes nothing
        if self._counts["ended"] == len(self._at):
            self._finish()


class ClosedLoop(Run):
    """Keeps a number of calls going; each is followed by the next one of the requests.

    It slows down with the server, and so tells of its throughput and not of what callers see whose
    number does not depend on it.
    """

    def __init__(self, order: Order, clock: LoopClock) -> None:
        super().__init__(order, clock)
        self._cycle: list[int] = read_schedule(order.schedule)[1].tolist()
        self._limit = order.count or 1 << 62
        self._until = 0.0

    def _start(self) -> float:
        self._until = self._began + self._order.seconds
        self._clock.call_at(self._began, self._fill)
        return self._order.seconds

    def _fill(self) -> None:
        for _ in range(self._order.concurrency):
            self._send()
        for connection in self._connections:
            connection.flush()
        if not self._at:
            self._finish()

    def _send(self) -> None:
        number, now = len(self._at), time.monotonic()
        if number >= self._limit or now >= self._until:
            return
        kind = self._cycle[number % len(self._cycle)]
        self._kinds.append(kind)
        self._at.append(now - self._began)
        self._sent.append(now - self._began)
        self._ended.append(0.0)
        self._code.append(LOST)
        self._reason.append(0)
        self._counts["sent"] += 1
        self._connections[number % len(self._connections)].send(number, self._templates[kind])

    def _after(self, code: int) -> None:
        if code != LOST:  # a connection that went away ends every further call at once
            self._send()
        # Whoever read the end flushes its own connection; the next call may be on another one.
        for connection in self._connections:
            connection.flush()
        if self._counts["ended"] == len(self._at):
            self._finish()


def _tls_context(tls: Tls) -> ssl.SSLContext:
    """Return what encrypts a connection; it speaks HTTP/2 only.

    :raises OSError: when a file is not what it should be; what ssl raises is one.
    """
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(["h2"])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
