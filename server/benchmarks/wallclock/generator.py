"""The load generator: an open loop, in a process of its own.

    python -m benchmarks.wallclock.generator

Reads an order per line of standard input (``benchmarks.wallclock.order``, JSON), and says "done"
when the file of what it saw is written; ends with its input. All send times are drawn before, by
whoever wrote the schedule: a call leaves at its time whatever has come back, so a slow server
cannot slow the load down.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import sys
import time
from typing import Final

import numpy as np
import uvloop

from benchmarks.wallclock.order import Kind, Order
from benchmarks.workload import INFER
from jitney.clock import LoopClock
from jitney.loadgen.connection import LOST, OpenConnection, Template, template
from jitney.loadgen.order import read_schedule
from jitney.loadgen.seen import Seen, write_seen
from jitney_client.protocol import inference as pb

WIDTH: Final = 4
VARIANTS: Final = 32
"""Different requests of each kind, so that a reply that went to the wrong caller shows."""
LEAD: Final = 0.2
"""Seconds between the connections and the first call."""


class Request:
    """A request made beforehand, and the bytes that its reply must end with."""

    __slots__ = ("answer", "template")

    def __init__(self, template: Template, answer: bytes) -> None:
        self.template = template
        self.answer = answer


class Run:
    """One run: sends what is due, and notes how it ends."""

    def __init__(self, order: Order, clock: LoopClock) -> None:
        self._clock = clock
        self._at, self._kind = read_schedule(order.schedule)
        self._moments = self._at.tolist()
        self._requests = _requests(order)
        kinds = self._kind.tolist()
        self._which = [self._requests[kinds[i]][i % VARIANTS] for i in range(len(kinds))]
        self._sent = [0.0] * len(kinds)
        self._ended = [0.0] * len(kinds)
        self._code = [LOST] * len(kinds)
        self._reason = [0] * len(kinds)
        self._reasons: dict[bytes, int] = {b"": 0}
        self._wrong = 0
        self._next = 0
        self._left = len(kinds)
        self._grace = order.grace
        self._began = 0.0
        self._over = asyncio.get_running_loop().create_future()
        self._connections = [OpenConnection(self) for _ in range(order.connections)]
        self._address = order.address

    async def run(self) -> Seen:
        """Send everything and wait for the ends; return what was seen."""
        await asyncio.gather(*(c.connect(self._address) for c in self._connections))
        cpu = time.process_time()
        self._began = self._clock.now() + LEAD
        self._sleep()
        last = self._moments[-1] if self._moments else 0.0
        with contextlib.suppress(TimeoutError):  # what has not ended then is lost
            await asyncio.wait_for(asyncio.shield(self._over), LEAD + last + self._grace)
        for connection in self._connections:
            connection.close()
        return Seen(
            self._at,
            self._kind,
            np.array(self._sent),
            np.array(self._ended),
            np.array(self._code, np.uint8),
            np.array(self._reason, np.uint8),
            tuple(reason.decode(errors="replace") for reason in self._reasons),
            self._wrong,
            time.process_time() - cpu,
        )

    def _sleep(self) -> None:
        if self._next < len(self._moments):
            self._clock.call_at(self._began + self._moments[self._next], self._send)

    def _send(self) -> None:
        now = time.monotonic
        moments, began, at = self._moments, self._began, self._next
        connections, which, sent = self._connections, self._which, self._sent
        share, end = len(connections), len(moments)
        while at < end and began + moments[at] <= (moment := now()):
            connections[at % share].send(at, which[at].template)
            sent[at] = moment - began
            at += 1
        self._next = at
        for connection in connections:
            connection.flush()
        self._sleep()

    def ended(self, number: int, at: float, code: int, reason: bytes, reply: bytes) -> None:
        """Note a call's end."""
        self._ended[number] = at - self._began
        self._code[number] = code
        self._reason[number] = self._reasons.setdefault(reason, len(self._reasons))
        if code == 0 and not reply.endswith(self._which[number].answer):
            self._wrong += 1
        self._left -= 1
        if not self._left and not self._over.done():
            self._over.set_result(None)


def _requests(order: Order) -> list[list[Request]]:
    rng = random.Random(7)  # noqa: S311  # not a secret
    return [[_request(order, kind, rng) for _ in range(VARIANTS)] for kind in order.kinds]


def _request(order: Order, kind: Kind, rng: random.Random) -> Request:
    data = rng.randbytes(4 * WIDTH)
    message = pb.ModelInferRequest(model_name=kind.model)
    message.inputs.add(name="x", datatype="FP32", shape=[1, WIDTH])
    message.raw_input_contents.append(data)
    metadata = []
    if kind.timeout_ms:
        metadata.append(("grpc-timeout", f"{kind.timeout_ms}m"))
    if kind.tenant:
        metadata.append((order.tenant_key, kind.tenant))
    made = template(INFER, order.address, message.SerializeToString(), metadata)
    return Request(made, data)


async def play(order: Order) -> None:
    """Do an order."""
    clock = LoopClock(asyncio.get_running_loop())
    try:
        write_seen(order.out, await Run(order, clock).run())
    finally:
        clock.close()


def main() -> None:
    """Do the orders of standard input."""
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            runner.run(play(Order.from_json(json.loads(line))))
            print("done", flush=True)


if __name__ == "__main__":
    main()
