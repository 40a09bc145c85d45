"""The load generator: a process of its own, which does one run after the other.

    python -m jitney.loadgen.generator

Standard input has an order per run (``order.Order``, JSON) and, once ``{"ready": true}`` was
answered, the moment of ``time.monotonic`` at which to begin. Lines of progress follow, and
``{"done": true, …}`` when the files are written, or ``{"error": …}``. It ends with its input.

In an open loop all send times were drawn before, by whoever wrote the schedule: a call leaves at
its time whatever has come back, so a slow server cannot slow the load down.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from typing import TYPE_CHECKING, Any

from jitney.clock import LoopClock
from jitney.loadgen.order import Order
from jitney.loadgen.runs import ClosedLoop, OpenLoop
from jitney.loadgen.seen import write_seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.loadgen.runs import Run

__all__ = ["main"]


def say(table: dict[str, Any]) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(table) + "\n")
    sys.stdout.flush()


async def prepare(order: Order, clock: LoopClock) -> Run:
    """Make everything that the run needs, and connect."""
    run = ClosedLoop(order, clock) if order.concurrency else OpenLoop(order, clock)
    await run.connect()
    return run


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the faster event loop, where it is installed."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ModuleNotFoundError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def main() -> None:
    """Do the orders of standard input."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        clock = LoopClock(runner.get_loop())
        for line in sys.stdin:
            order = Order.from_json(json.loads(line))
            try:
                run = runner.run(prepare(order, clock))
                # The lists of a run have no cycles, and a collection is a pause of the load.
                gc.freeze()
                say({"ready": True})
                begin = float(sys.stdin.readline())
                write_seen(order.out, runner.run(run.run(begin, say)))
            except OSError as error:
                say({"error": f"{order.address}: {error.strerror or error}"})
            else:
                say({"done": True, "texts": run.texts})
            gc.unfreeze()
        clock.close()


if __name__ == "__main__":
    main()
