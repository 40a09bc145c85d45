"""The stand-ins that ship with the server keep their word, without any event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jitney import testing
from jitney.errors import InvalidRequest, WorkerLost
from jitney.scheduling.batch import Batch, Reason
from jitney.testing import FakeClock, PuppetExecutor, echo, make_entry, make_key
from jitney.types import Placed

if TYPE_CHECKING:
    from jitney.execution.executor import Completion


def test_time_passes_only_by_advance_and_stops_at_every_timer() -> None:
    """Timers run in order, at their very moment; those of one moment as they were asked for."""
    clock = FakeClock(8.0)
    seen: list[tuple[str, float]] = []
    for name, delay in (("c", 2.0), ("a", 1.0), ("b", 1.0), ("never", 9.0)):
        clock.call_at(8.0 + delay, lambda name=name: seen.append((name, clock.now())))  # type: ignore[misc]

    clock.advance(0.5)
    assert ([], 8.5) == (seen, clock.now())
    clock.advance(2.5)

    assert [("a", 9.0), ("b", 9.0), ("c", 10.0)] == seen
    assert (11.0, [17.0]) == (clock.now(), clock.timers)
    assert "<FakeClock 11, 0 soon, 1 timers>" == repr(clock)


def test_a_timer_that_was_taken_back_does_not_run() -> None:
    """cancel() works before, after and twice."""
    clock = FakeClock()
    seen: list[str] = []
    timer = clock.call_at(clock.now(), lambda: seen.append("ran"))
    taken_back = clock.call_at(clock.now(), lambda: seen.append("never"))
    taken_back.cancel()
    taken_back.cancel()

    clock.advance(0)
    timer.cancel()

    assert ["ran"] == seen
    assert [] == clock.timers


def test_a_timer_may_set_the_next_one_within_the_same_advance() -> None:
    """A chain of timers runs as far as the time that passes."""
    clock = FakeClock(0.0)
    beats: list[float] = []

    def beat() -> None:
        beats.append(clock.now())
        clock.call_at(clock.now() + 1, beat)

    clock.call_soon(beat)
    clock.advance(3.5)

    assert [0.0, 1.0, 2.0, 3.0] == beats


def test_calls_for_soon_run_later_and_endless_ones_are_found_out() -> None:
    """call_soon returns before its callback runs; a loop that never ends is an error."""
    clock = FakeClock()
    seen: list[str] = []
    clock.call_soon(lambda: clock.call_soon(lambda: seen.append("ran")))
    assert [] == seen
    assert 2 == clock.run_soon()
    assert ["ran"] == seen

    def again() -> None:
        clock.call_soon(again)

    clock.call_soon(again)
    with pytest.raises(RuntimeError):
        clock.run_soon(at_most=100)


class Listener:
    """Notes what ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[Batch, Completion]] = []

    def completed(self, batch: Batch, completion: Completion) -> None:
        """Note it."""
        self.ended.append((batch, completion))


def batch_on(device: str) -> Batch:
    """Return a batch of one entry."""
    key = make_key()
    return Batch(key, [make_entry(key, id=device)], 1, Reason.IDLE, device, 0.0)


def test_a_puppet_ends_batches_in_order_per_device() -> None:
    """The oldest ends first, or the oldest of a device; what is left is pending."""
    puppet = PuppetExecutor(FakeClock(), listener := Listener())
    one, two, three = (batch_on(name) for name in ("d0", "d0", "d1"))
    for batch in (one, two, three):
        puppet.start(batch)

    assert three is puppet.complete_next(device="d1")
    assert one is puppet.fail_next(error := WorkerLost("x"))

    assert [two] == puppet.pending
    assert "<PuppetExecutor 1 pending of 3 started>" == repr(puppet)
    assert [None, error] == [completion.error for _, completion in listener.ended]


def test_a_puppet_without_batch_or_listener_says_so() -> None:
    """A test that forgot something gets a text that helps."""
    puppet = PuppetExecutor(FakeClock())
    with pytest.raises(LookupError, match="no batch is pending on any device"):
        puppet.complete_next()
    puppet.start(batch_on("d0"))
    with pytest.raises(LookupError, match=r"set PuppetExecutor\.listener"):
        puppet.complete_next()


def test_echo_gives_back_what_went_in() -> None:
    """Outputs of the identity are the rows of all requests in order."""
    key = make_key(dims=(2, 2), max_rows=8)
    entries = [make_entry(key, rows=n, id=str(n)) for n in (2, 1, 3)]
    batch = Batch(key, entries, 6, Reason.IDLE, "d0", 0.0)

    [output] = echo(batch).outputs

    assert ("y", (6, 2, 2)) == (output.name, output.shape)
    assert b"".join(entry.request.data[0] for entry in entries) == bytes(output.data)


def test_requests_of_different_callers_differ_in_their_bytes() -> None:
    """A reply that went to the wrong caller shows, because data follow from the id."""
    data = {bytes(make_entry(id=str(i)).request.data[0]) for i in range(1000)}

    assert len(data) > 990
    assert make_entry(id="a").request.data == make_entry(id="a").request.data


def test_a_carrier_can_fail_to_answer() -> None:
    """A request with the id ``refuse`` stands for a reply that cannot be encoded."""
    entry = make_entry(key := make_key(), id="refuse")
    batch = Batch(key, [entry], 1, Reason.IDLE, "d0", 0.0)
    with pytest.raises(InvalidRequest):
        entry.request.carrier.reply(
            [Placed(entry.request, key.model, 0, 1, (0,), (0,))], echo(batch), []
        )


def test_the_example_of_the_package_runs() -> None:
    """The docstring of jitney.testing is a program."""
    text = testing.__doc__ or ""
    program = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    imports = (
        "from jitney.testing import *\n"
        "from jitney.scheduling.policy import Policy\n"
        "from jitney.scheduling.scheduler import Scheduler\n"
        "from jitney.telemetry.metrics import Metrics\n"
    )
    assert "assert" in program
    exec(imports + program, {})  # noqa: S102  # our own docstring
