"""The built-in repeat: a reply for each element, each at its time, and many requests at once."""

from __future__ import annotations

import pytest
from builtin_bench import MODEL, Bench, texts, uints

from jitney.builtin import device_of
from jitney.datatypes import DataType
from jitney.errors import InputRejected, WorkerLost
from jitney.execution.builtin import default_signature
from jitney.signature import Signature, TensorSpec

NOW = ((1,), uints(0))


def tensor(*values: int) -> tuple[tuple[int], bytes]:
    """Return a tensor of 32-bit numbers."""
    return (len(values),), uints(*values)


def test_every_element_is_a_reply_at_its_time() -> None:
    """Reply i comes DELAY[i] ms after the one before it, and the end with the last."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("a", tensor(7, 8, 9), tensor(500, 0, 250), NOW)
    bench.clock.advance(10)

    assert [
        (0.5, "a", {"OUT": uints(7), "IDX": uints(0)}),
        (0.5, "a", {"OUT": uints(8), "IDX": uints(1)}),
        (0.75, "a", {"OUT": uints(9), "IDX": uints(2)}),
    ] == bench.partial
    assert {"a": None} == bench.ends.replies
    assert 0.75 == bench.ends.all[0][0].timing.total


def test_without_elements_there_is_only_the_end() -> None:
    """Nothing to repeat is no error."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("a", tensor(), tensor(), NOW)
    bench.clock.run_soon()

    assert ([], {"a": None}) == (bench.partial, bench.ends.replies)


def test_many_requests_are_under_way_at_once() -> None:
    """Delays do not hold the device, so requests do not wait for each other."""
    bench = Bench()
    bench.load("repeat")
    for i in range(5):
        bench.submit(str(i), tensor(i), tensor(1000), NOW)
    bench.clock.advance(1)

    assert [1.0] * 5 == [moment for moment, _, _ in bench.partial]
    assert 5 == len(bench.ends.replies)
    assert [0.0] * 5 == bench.busy


def test_wait_holds_the_device_for_so_long() -> None:
    """The next request begins WAIT ms after the one before; replies go on meanwhile."""
    bench = Bench()
    bench.load("repeat")
    for name in "ab":
        bench.submit(name, tensor(1, 2), tensor(250, 500), tensor(500))
    bench.clock.advance(10)

    assert [(0.25, "a"), (0.75, "a"), (0.75, "b"), (1.25, "b")] == [
        (moment, name) for moment, name, _ in bench.partial
    ]
    assert [0.5, 0.5] == bench.busy


def test_a_request_does_not_end_before_its_wait() -> None:
    """Its end frees the device, so a WAIT that is longer than all delays delays the end."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("a", tensor(1), tensor(0), tensor(500))
    bench.clock.advance(0.25)
    assert (1, []) == (len(bench.partial), bench.ends.ids)
    bench.clock.advance(0.25)

    assert {"a": None} == bench.ends.replies


def test_a_burst_leaves_the_loop_to_others_in_between() -> None:
    """A thousand replies without delay are made in order and over many turns of the loop."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("a", tensor(*range(1000)), tensor(*[0] * 1000), NOW)
    turns = bench.clock.run_soon()

    assert list(range(1000)) == [
        int.from_bytes(outputs["OUT"], "little") for _, _, outputs in bench.partial
    ]
    assert {"a": None} == bench.ends.replies
    assert turns >= 1000 // 32


@pytest.mark.parametrize("wait", [0, 3_600_000])
def test_a_request_that_was_cancelled_soon_stops(wait: int) -> None:
    """Nothing is produced for nobody, no timer is left, and the device is free within a second."""
    bench = Bench()
    bench.load("repeat")
    entry = bench.submit("a", tensor(1, 2), tensor(0, 3_600_000), tensor(wait))
    bench.clock.advance(0.5)
    bench.scheduler.cancel(entry)
    bench.clock.advance(1)
    bench.submit("b", tensor(3), tensor(0), NOW)
    bench.clock.run_soon()

    assert ["a", "b"] == [name for _, name, _ in bench.partial]
    assert {"b": None} == bench.ends.replies
    assert [] == bench.clock.timers


def test_a_caller_that_leaves_at_a_reply_gets_no_other() -> None:
    """Whoever cancels while it is told a reply is not told the next one of the same burst."""
    bench = Bench()
    bench.load("repeat")
    entry = bench.submit("a", tensor(1, 2, 3), tensor(0, 0, 0), NOW)
    note = entry.partial
    assert note is not None

    def leave(entry: object, reply: object) -> None:
        note(entry, reply)  # type: ignore[arg-type]
        bench.scheduler.cancel(entry)  # type: ignore[arg-type]

    entry.partial = leave
    bench.clock.run_soon()

    assert 1 == len(bench.partial)
    assert [] == bench.ends.ids


def test_as_many_delays_as_elements_are_needed() -> None:
    """Another number is the caller's fault, and said so."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("a", tensor(1, 2), tensor(0), NOW)
    bench.clock.run_soon()

    error = bench.ends.errors["a"]
    assert InputRejected is type(error)
    assert "expected as many elements in input 'DELAY' as in input 'IN', got 1 and 2" == str(error)


@pytest.mark.parametrize(
    ("datatype", "elements"),
    [
        (DataType.UINT8, [b"a", b"b"]),
        (DataType.FP64, [b"12345678", b"abcdefgh"]),
        (DataType.BYTES, [texts(b"\xff"), texts(b"longer")]),
    ],
)
def test_elements_of_any_datatype_are_repeated(datatype: DataType, elements: list[bytes]) -> None:
    """What IN and OUT are is up to the signature, whatever the order of its tensors."""
    given = default_signature("repeat")
    assert given is not None
    signature = Signature(
        (*given.inputs[1:], TensorSpec("IN", datatype, (-1,))),
        (given.outputs[1], TensorSpec("OUT", datatype, (1,))),
    )
    bench = Bench()
    bench.load("repeat", signature)
    bench.submit("a", tensor(0, 0), NOW, ((2,), b"".join(elements)))
    bench.clock.run_soon()

    assert [{"OUT": element, "IDX": uints(i)} for i, element in enumerate(elements)] == [
        outputs for _, _, outputs in bench.partial
    ]


def test_what_is_under_way_when_its_model_is_unloaded_still_ends() -> None:
    """The device goes with the model; replies that were promised come all the same."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("a", tensor(1, 2), tensor(500, 500), NOW)
    bench.clock.run_soon()
    bench.builtin.unload(MODEL)
    bench.clock.advance(2)

    assert [0.5, 1.0] == [moment for moment, _, _ in bench.partial]
    assert {"a": None} == bench.ends.replies
    assert ("down", device_of(MODEL)) == bench.said[-1]


def test_what_is_under_way_when_the_server_stops_is_told() -> None:
    """What runs, what waits for the device and what has detached end at once, and once."""
    bench = Bench()
    bench.load("repeat")
    bench.submit("detached", tensor(1), tensor(9000), NOW)
    bench.submit("running", tensor(1), tensor(9000), tensor(9000))
    bench.clock.advance(1)
    bench.builtin.stop()
    bench.clock.advance(100)

    assert {"detached", "running"} == set(bench.ends.errors)
    assert {WorkerLost} == {type(error) for error in bench.ends.errors.values()}
    assert (2, [], []) == (len(bench.ends.all), bench.partial, bench.clock.timers)
