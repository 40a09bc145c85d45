"""Stand-ins for time, devices and transports: deterministic, synchronous, without an event loop.

They ship with the server because whoever builds on it (another transport, another executor, a
policy of their own) needs them as much as its own tests do::

    clock = FakeClock()
    executor = PuppetExecutor(clock)
    scheduler = Scheduler(Policy(), executor, clock, Metrics())
    executor.listener = scheduler
    key, ends = make_key(), Ends()
    scheduler.device_up("cpu")
    scheduler.model_ready("cpu", key.model)
    scheduler.submit(make_entry(key, done=ends))
    clock.run_soon()
    executor.complete_next()
    assert len(ends.replies) == 1
"""

from jitney.testing.clock import FakeClock, FakeTimer
from jitney.testing.echo import EchoCarrier, EchoReply, echo
from jitney.testing.making import Ends, make_entry, make_key, make_request
from jitney.testing.puppet import PuppetExecutor
from jitney.testing.simulation import Simulation, VirtualDevice

__all__ = [
    "EchoCarrier",
    "EchoReply",
    "Ends",
    "FakeClock",
    "FakeTimer",
    "PuppetExecutor",
    "Simulation",
    "VirtualDevice",
    "echo",
    "make_entry",
    "make_key",
    "make_request",
]
