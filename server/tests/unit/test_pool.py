"""Workers that run, fail, hang, lie and die, and what becomes of their batches."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from fake_worker import STAMPS
from pool_bench import KEY, PATIENCE, FakeCommand, running

from jitney.clock import LoopClock
from jitney.datatypes import DataType
from jitney.errors import (
    InferenceFailed,
    InputRejected,
    JitneyError,
    ModelError,
    OutOfDeviceMemory,
    OutputTooLarge,
    WorkerLost,
)
from jitney.execution import device_worker
from jitney.execution.ending import Cause, Ending
from jitney.execution.link import worker_environment
from jitney.execution.worker_life import WorkerLife
from jitney.load_report import LoadReport
from jitney.scheduling.batch import BatchKey
from jitney.signature import TensorSpec
from jitney.testing import EchoCarrier, make_key
from jitney.types import ModelRef, Request, RequestHeader, TensorHeader

if TYPE_CHECKING:
    from jitney.execution.executor import Completion
    from jitney.scheduling.batch import Batch

LOST = "the worker process ended while it ran this request's batch"


# -- batches ------------------------------------------------------------------------------------


def test_a_batch_runs_in_its_worker() -> None:
    """Rows go through the slot and back, with the worker's stamps; memory figures are kept."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            assert ("up", "") == bench.state()
            results = await bench.load(KEY)
            assert [LoadReport] == [type(result) for result in results.values()]

            batch = bench.start(KEY, 1, 3)
            await bench.listener.until_ended(1)

            [(ended, error, outputs, completion)] = bench.listener.ends
            assert (batch, None) == (ended, error)
            assert [b"".join(e.request.data[0] for e in batch.entries)] == outputs
            assert STAMPS == completion[2:]
            [device] = bench.pool.statistics()
            assert ("fake, well", True, 0) == (
                device.description,
                device.pinned,
                device.restarts,
            )
            assert {"total": 5, "allocated": 10, "reserved": 20} == device.memory_bytes
            assert [
                ("up", "cpu"),
                ("opened", "echo"),
                ("progress", "cpu", "warming up"),
                ("loaded", "cpu", "echo/1", "plain"),
                ("completed", "batch"),
            ] == bench.listener.events

    asyncio.run(scenario())


def test_three_batches_are_in_flight_and_end_in_order() -> None:
    """One runs, one is staged, one is being answered; slots are given back and used again."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            await bench.load(KEY)
            for turn in range(3):
                for i in range(3):
                    bench.start(KEY, 1, name=f"{turn}{i}")
                await bench.listener.until_ended(3 * (turn + 1))

            assert [f"{turn}{i}" for turn in range(3) for i in range(3)] == [
                batch.entries[0].request.id for batch, *_ in bench.listener.ends
            ]
            for batch, error, outputs, _ in bench.listener.ends:
                assert (None, [batch.entries[0].request.data[0]]) == (error, outputs)

    asyncio.run(scenario())


def test_texts_are_gathered_by_their_bytes_and_cut_by_offsets() -> None:
    """Rows of BYTES have their own lengths on the way in, and checked offsets on the way out."""
    key = BatchKey(
        ModelRef("echo", 1),
        ((DataType.BYTES, ()),),
        (TensorSpec("y", DataType.BYTES, ("N",)),),
        max_rows=4,
        max_bytes=1000,
    )
    parts = [struct.pack("<I", len(text)) + text for text in (b"", b"two", b"threee")]

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            await bench.load(KEY)
            batch = bench.start(KEY, 1, 1, 1)
            await bench.listener.until_ended(1)
            carrier = EchoCarrier()
            batch.key, batch.placed = key, None  # it is another batch now
            for entry, part in zip(batch.entries, parts, strict=True):
                header = RequestHeader("echo", "", (TensorHeader("x", DataType.BYTES, (1,)),))
                entry.key, entry.request = key, Request(header, [part], carrier)

            bench.pool.start(batch)
            await bench.listener.until_ended(2)

            _, error, outputs, completion = bench.listener.ends[1]
            assert (None, [b"".join(parts)]) == (error, outputs)
            assert completion.outputs is not None
            assert [0, 4, 11, 21] == completion.outputs.outputs[0].row_offsets

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("INPUT", InputRejected),
        ("MODEL", InferenceFailed),
        ("MEMORY", OutOfDeviceMemory),
        ("OUTPUT", OutputTooLarge),
    ],
)
def test_a_failure_is_the_error_of_its_kind(failure: str, kind: type[JitneyError]) -> None:
    """What the worker says about a batch becomes its error, and the slot is free again."""

    async def scenario() -> None:
        async with running(FakeCommand(f"fails: {failure}")) as bench:
            await bench.load(KEY)
            for i in range(4):
                bench.start(KEY, 1)
                await bench.listener.until_ended(i + 1)

            assert {(kind, "the model raised")} == {
                (type(error), str(error)) for _, error, _, _ in bench.listener.ends
            }

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "way",
    [
        *("dies on run", "closes on run", "sends a batch", "another serial", "another slot"),
        *("other rows", "no outputs", "another datatype", "another shape", "outside"),
        "texts without offsets",
    ],
)
def test_a_worker_that_dies_or_lies_is_replaced(way: str) -> None:
    """Its batches end with WorkerLost exactly once; the next worker has the models and serves."""

    async def scenario() -> None:
        async with running(FakeCommand(way, "well")) as bench:
            await bench.load(KEY)
            bench.start(KEY, 2, name="running")
            bench.start(KEY, 2, name="staged")
            await bench.listener.until_ended(2)

            assert [("running", WorkerLost, LOST), ("staged", WorkerLost, LOST)] == [
                (batch.entries[0].request.id, type(error), str(error))
                for batch, error, _, _ in bench.listener.ends
            ]
            bench.listener.events.clear()
            await bench.listener.until_event("loaded", "cpu", "echo/1", "plain")
            bench.start(KEY, 1, name="after")
            await bench.listener.until_ended(3)
            _, error, _, _ = bench.listener.ends[2]
            assert error is None
            [device] = bench.pool.statistics()
            assert ("up", 1) == (device.state, device.restarts)

    asyncio.run(scenario())


def test_the_signal_that_ended_a_worker_is_named() -> None:
    """Also where it left messages unread, with which its channel ends in another way."""

    async def scenario() -> None:
        async with running(FakeCommand("dies on run", "well")) as bench:
            await bench.load(KEY)
            bench.start(KEY, 2, name="running")
            bench.start(KEY, 2, name="unread")
            await bench.listener.until_ended(2)
            [device] = bench.pool.statistics()
            assert device.reason.endswith("; killed by SIGKILL")

    asyncio.run(scenario())


def test_a_device_is_down_before_its_batches_end() -> None:
    """The listener hears device_down first, so that it starts nothing there meanwhile."""

    async def scenario() -> None:
        async with running(FakeCommand("dies on run", "well")) as bench:
            await bench.load(KEY)
            bench.listener.events.clear()
            bench.start(KEY, 1)
            await bench.listener.until_ended(1)

            assert [("down", "cpu"), ("completed", "batch")] == bench.listener.events

    asyncio.run(scenario())


def test_a_hung_batch_costs_its_worker_its_life() -> None:
    """After the batch's time limit the worker is killed and replaced, and the reason is shown."""

    async def scenario() -> None:
        command = FakeCommand("hangs on run", "well")
        async with running(command, batch_timeout=0.2) as bench:
            await bench.load(KEY)
            bench.start(KEY, 1)
            await bench.listener.until_ended(1)

            assert WorkerLost is type(bench.listener.ends[0][1])
            assert ("restarting", "a batch took longer than 0.2 s") == bench.state()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("way", "first"),
    [
        ("dies on run", ("whole", False)),  # by a signal that comes from outside
        ("crashes on run", ("apart", True)),
        ("another serial", ("apart", True)),
        ("hangs on run", ("never", True)),
        ("dies before it begins", ("whole", False)),
        ("fails: FAULT", ("apart", True)),
    ],
)
def test_what_may_be_run_again_follows_from_how_the_worker_ended(
    way: str, first: tuple[str, bool]
) -> None:
    """Of the batch that it had begun; the one behind it was nobody's doing."""

    async def scenario() -> None:
        async with running(FakeCommand(way, "well"), batch_timeout=0.3) as bench:
            await bench.load(KEY)
            bench.start(KEY, 2)
            bench.start(KEY, 2)
            await bench.listener.until_ended(2)

            errors = [error for _, error, _, _ in bench.listener.ends]
            assert [first, ("whole", False)] == [
                (error.rerun, error.suspect) for error in errors if isinstance(error, WorkerLost)
            ]
            assert all(isinstance(e, WorkerLost) and e.back_in > 0 for e in errors)

    asyncio.run(scenario())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("way", "second"),
    [
        ("crashes on its second batch", ("apart", True)),
        ("crashes behind its answer", ("whole", False)),
    ],
)
def test_a_batch_that_was_answered_is_not_to_blame(
    way: str, second: tuple[str, bool], loop: str
) -> None:
    """Its answer counts, whatever became of the worker since; also where that left a message.

    Loops differ in what they tell of a socket that had an error.
    """
    module = pytest.importorskip(loop)

    async def scenario() -> None:
        async with running(FakeCommand(way, "well")) as bench:
            await bench.load(KEY)
            bench.start(KEY, 2)
            bench.start(KEY, 2)
            await bench.listener.until_ended(2)

            (_, first, _, _), (_, error, _, _) = bench.listener.ends
            assert first is None
            assert isinstance(error, WorkerLost)
            assert second == (error.rerun, error.suspect)

    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(scenario())


def test_a_device_that_failed_is_given_nothing_more() -> None:
    """The worker that says so is ended at once, and not when it gets round to exiting."""

    async def scenario() -> None:
        async with running(FakeCommand("fails: FAULT", "well")) as bench:
            await bench.load(KEY)
            bench.listener.events.clear()
            bench.start(KEY, 1)
            await bench.listener.until_ended(1)

            assert [("down", "cpu"), ("completed", "batch")] == bench.listener.events
            assert "its device failed: the model raised" == bench.state()[1]

    asyncio.run(scenario())


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_that_is_stopped_is_replaced(busy: bool) -> None:  # noqa: FBT001
    """Whether it had something to do or not: the kernel says so, long before a batch's limit."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            await bench.load(KEY)
            bench.listener.events.clear()
            os.kill(bench.pid(), signal.SIGSTOP)
            began = bench.clock.now()
            if busy:
                bench.start(KEY, 1)
            await bench.listener.until_event("down", "cpu")

            assert "somebody stopped its process" == bench.state()[1]
            assert 1.0 < bench.clock.now() - began < 3.0
            await bench.listener.until_event("loaded", "cpu", "echo/1", "plain")

    asyncio.run(scenario())


def test_a_batch_has_a_limit_of_its_own() -> None:
    """Planned for milliseconds, the second of its shape is given up after 2 s and not a minute."""

    async def scenario() -> None:
        command = FakeCommand("hangs on its second batch", "well")
        async with running(command, batch_timeout_factor=100) as bench:
            await bench.load(KEY)
            bench.start(KEY, 1, planned=0.001)
            await bench.listener.until_ended(1)
            began = bench.clock.now()
            bench.start(KEY, 1, planned=0.001)
            await bench.listener.until_ended(2)

            assert [type(None), WorkerLost] == [type(e) for _, e, _, _ in bench.listener.ends]
            assert "a batch took longer than 2 s" == bench.state()[1]
            assert 2.0 <= bench.clock.now() - began < 3.0

    asyncio.run(scenario())


def test_a_batch_for_a_model_that_is_not_there_is_lost() -> None:
    """A batch that comes as its worker goes ends in a later turn, not within start()."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            bench.start(KEY, 1)
            assert [] == bench.listener.ends
            await bench.listener.until_ended(1)

            assert "the worker of this model was just replaced" == str(bench.listener.ends[0][1])

    asyncio.run(scenario())


def test_a_batch_too_large_for_its_slot_fails_alone() -> None:
    """Inputs that do not fit are the batch's error, and the slot is free again."""
    wide = make_key("echo", dims=(1 << 15,), max_rows=4)

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            await bench.load(KEY)
            for _ in range(4):
                bench.start(wide, 1)
            bench.start(KEY, 1, name="after")
            await bench.listener.until_ended(5)

            errors = [error for _, error, _, _ in bench.listener.ends]
            assert {"131072 bytes do not fit into a slot of 65536"} == set(map(str, errors[:4]))
            assert [None] == errors[4:]

    asyncio.run(scenario())


def test_a_staged_batch_has_its_own_time() -> None:
    """The limit of a batch counts from the end of the one before it, however that ended."""

    async def scenario() -> None:
        async with running(FakeCommand("fails: INPUT"), batch_timeout=60.0) as bench:
            await bench.load(KEY)
            started = bench.clock.now()
            bench.start(KEY, 1)
            bench.start(KEY, 1)
            flights = bench.pool._workers["cpu"]._flights._flights
            for i, flight in enumerate(flights):
                flights[i] = flight._replace(sent_at=started - 50.0)
            tell = bench.listener.completed
            seen: list[float] = []

            def completed(batch: Batch, completion: Completion) -> None:
                seen.extend(flight.sent_at for flight in flights)
                tell(batch, completion)

            bench.listener.completed = completed  # type: ignore[method-assign]  # looks on
            await bench.listener.until_ended(2)

            [sent_at] = seen
            assert sent_at >= started

    asyncio.run(scenario())


# -- loads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("refuses", "it reads files"),
        ("dies on load", "the worker process ended while it loaded the model: "),
        ("reports nonsense", "the worker process ended while it loaded the model: "),
        ("loads what nobody asked for", "the worker process ended while it loaded the model: "),
        ("hangs on load", "it was not loaded within 0.3 s"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused(content: str, text: str) -> None:
    """Whatever its load does to the worker, the model is refused with a reason, and others load.

    When the worker ends it is tried once more, because it may have been killed from outside.
    """
    bad = make_key("bad")

    async def scenario() -> None:
        command = FakeCommand("well")
        async with running(command, load_timeout=0.3) as bench:
            [result] = (await bench.load(bad, content)).values()
            assert ModelError is type(result)
            assert str(result).startswith(text)

            assert [LoadReport] == [type(r) for r in (await bench.load(KEY)).values()]
            bench.start(KEY, 1)
            await bench.listener.until_ended(1)
            assert bench.listener.ends[0][1] is None
            assert {"refuses": 1, "hangs on load": 2}.get(content, 3) == command.starts

    asyncio.run(scenario())


def test_a_batch_behind_a_load_is_not_taken_for_hung() -> None:
    """A worker may load one model for longer than a batch of another may take."""

    async def scenario() -> None:
        command = FakeCommand("well")
        async with running(command, batch_timeout=0.2) as bench:
            await bench.load(KEY)
            slow = asyncio.ensure_future(bench.load(make_key("slow"), "takes long"))
            await bench.listener.until(bench.is_loading)
            bench.start(KEY, 1)
            await bench.listener.until_ended(1)

            assert [LoadReport] == [type(result) for result in (await slow).values()]
            assert (None, 1) == (bench.listener.ends[0][1], command.starts)

    asyncio.run(scenario())


def test_a_model_is_not_blamed_for_the_batch_before_its_load() -> None:
    """When a batch kills the worker, what was to be loaded behind it is loaded by the next one."""

    async def scenario() -> None:
        async with running(FakeCommand("dies on run", "well")) as bench:
            await bench.load(KEY)
            os.kill(bench.pid(), signal.SIGSTOP)
            bench.start(KEY, 1)
            load = asyncio.ensure_future(bench.load(make_key("innocent")))
            await bench.listener.until_event("opened", "innocent")
            os.kill(bench.pid(), signal.SIGCONT)

            assert [LoadReport] == [type(result) for result in (await load).values()]
            assert WorkerLost is type(bench.listener.ends[0][1])

    asyncio.run(scenario())


def test_the_reason_of_a_refusal_is_kept() -> None:
    """The worker names the check that failed, for the index and the metrics."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            [result] = (await bench.load(KEY, "refuses")).values()
            assert isinstance(result, ModelError)
            assert "MODEL_HOSTILE" == result.reason

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ModelError("its file changed"), OSError(24, "Too many files")])
def test_a_file_that_cannot_be_opened_is_a_refusal(error: Exception) -> None:
    """Nothing that opening a model's file raises ends the pool's care for its workers."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            async with asyncio.timeout(5):
                [result] = (await bench.pool.load(bench.spec(KEY, error=error))).values()
            assert ModelError is type(result)

            other = make_key("other")
            assert [LoadReport] == [type(r) for r in (await bench.load(other)).values()]

    asyncio.run(scenario())


def test_a_signature_that_does_not_fit_into_a_message_is_a_refusal() -> None:
    """A model with a hundred kilobytes of labels is refused; nobody waits for it for ever."""
    labels = tuple(f"label {i:06}" for i in range(20_000))

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            spec = bench.spec(KEY)
            signature = spec.options.signature
            [output] = signature.outputs
            object.__setattr__(output, "labels", labels)
            try:
                async with asyncio.timeout(5):
                    [result] = (await bench.pool.load(spec)).values()
            finally:
                object.__setattr__(output, "labels", ())
            assert ModelError is type(result)

    asyncio.run(scenario())


def test_every_device_gets_every_model() -> None:
    """A load is asked of all devices; one that refuses does not keep the others from serving."""

    async def scenario() -> None:
        commands = [FakeCommand("well", device="cpu"), FakeCommand("refuses", device="other")]
        async with running(*commands) as bench:
            results = await bench.load(KEY)

            assert {"cpu": LoadReport, "other": ModelError} == {
                device: type(result) for device, result in results.items()
            }
            bench.start(KEY, 1, device="cpu")
            await bench.listener.until_ended(1)
            assert bench.listener.ends[0][1] is None

    asyncio.run(scenario())


def test_an_unloaded_model_gets_no_batch() -> None:
    """After unload the listener hears model_gone, and a late batch is lost, not run."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            await bench.load(KEY)
            bench.pool.unload(KEY.model)
            assert ("gone", "cpu", "echo/1") == bench.listener.events[-1]

            bench.start(KEY, 1)
            await bench.listener.until_ended(1)
            assert WorkerLost is type(bench.listener.ends[0][1])

    asyncio.run(scenario())


def test_a_model_that_was_refused_may_be_loaded_again_after_unload() -> None:
    """Unload forgets the refusal, so that a mended file gets its chance."""

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            [refused] = (await bench.load(KEY, "refuses")).values()
            bench.pool.unload(KEY.model)
            [loaded] = (await bench.load(KEY)).values()

            assert (ModelError, LoadReport) == (type(refused), type(loaded))

    asyncio.run(scenario())


def test_a_model_may_be_for_some_devices_only() -> None:
    """The others are not asked, and do not get it; a device that is not there is said so."""

    async def scenario() -> None:
        commands = [FakeCommand("well", device="cpu"), FakeCommand("well", device="other")]
        async with running(*commands) as bench:
            spec = bench.spec(KEY, devices=("other", "third"))
            async with asyncio.timeout(PATIENCE):
                results = await bench.pool.load(spec)
                await bench.load(make_key("everywhere"))

            assert {"other": LoadReport, "third": ModelError} == {
                device: type(result) for device, result in results.items()
            }
            assert "there is no device third; there are cpu, other" == str(results["third"])
            loaded = [event[1:3] for event in bench.listener.events if event[0] == "loaded"]
            assert {("other", "echo/1"), ("cpu", "everywhere/1"), ("other", "everywhere/1")} == {
                *loaded
            }

            bench.pool.unload(KEY.model)
            gone = [event[1:] for event in bench.listener.events if event[0] == "gone"]
            assert [("other", "echo/1")] == gone

    asyncio.run(scenario())


def test_a_model_that_is_unloaded_while_it_is_loaded_does_not_stay() -> None:
    """Whoever loads it is told so at once, and the listener never hears of it."""
    slow = make_key("slow")

    async def scenario() -> None:
        async with running(FakeCommand("well")) as bench:
            load = asyncio.ensure_future(bench.load(slow, "takes long"))
            await bench.listener.until(bench.is_loading)
            bench.pool.unload(slow.model)

            [result] = (await load).values()
            assert "it was unloaded before it was loaded" == str(result)
            await bench.load(KEY)  # behind it
            loaded = [event[2] for event in bench.listener.events if event[0] == "loaded"]
            assert ["echo/1"] == loaded

            again = await bench.load(slow)
            assert [LoadReport] == [type(result) for result in again.values()]

    asyncio.run(scenario())


# -- starts and ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exit", "garbage", "never up"])
def test_a_worker_that_does_not_come_up_is_tried_again(way: str) -> None:
    """launch() waits until a later one is up; no device_down is told of what never was up."""

    async def scenario() -> None:
        async with running(FakeCommand(way, "well"), start_timeout=1.0) as bench:
            assert [("up", "cpu")] == bench.listener.events
            assert 1 == bench.pool.statistics()[0].restarts

    asyncio.run(scenario())


def test_a_device_whose_workers_keep_dying_is_given_up() -> None:
    """After max_restarts deaths within a minute it is failed with the reason, and loads end."""

    async def scenario() -> None:
        async with running(FakeCommand("exit"), max_restarts=2) as bench:
            state, reason = bench.state()
            assert "failed" == state
            assert reason.startswith("its worker ended 3 times in a minute: ")
            assert [("failed", "cpu", reason)] == bench.listener.events
            assert 3 == bench.commands[0].starts

            [result] = (await bench.load(KEY)).values()
            assert f"device cpu failed: {reason}" == str(result)

    asyncio.run(scenario())


def test_a_device_that_was_given_up_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in a while; when a worker comes up and stays, the device has its models again."""
    monkeypatch.setattr(device_worker, "PROBE_EVERY", 0.05)

    async def scenario() -> None:
        async with running(
            FakeCommand("well", "crashes on run", "exit", "well"), max_restarts=0
        ) as bench:
            await bench.load(KEY)
            bench.listener.events.clear()
            bench.life().link.kill("a test", Cause.CRASH)
            await bench.listener.until(lambda: bench.state()[0] == "failed")
            await bench.listener.until_event("loaded", "cpu", "echo/1", "plain")
            bench.listener.events.clear()
            # On probation, one more end is enough; and a probe that does not come up is no news.
            bench.start(KEY, 1)
            await bench.listener.until_event("loaded", "cpu", "echo/1", "plain")

            kinds = [event[0] for event in bench.listener.events if event[0] != "progress"]
            assert ["down", "completed", "failed", "up", "opened", "loaded"] == kinds
            bench.start(KEY, 1)
            await bench.listener.until_ended(2)
            assert bench.listener.ends[1][1] is None

    asyncio.run(scenario())


def test_kills_from_outside_do_not_cost_a_device_that_works() -> None:
    """A worker that has answered and is then killed by somebody else does not count."""

    async def scenario() -> None:
        async with running(FakeCommand("well"), max_restarts=0) as bench:
            await bench.load(KEY)
            for number in range(3):
                bench.start(KEY, 1)
                await bench.listener.until_ended(number + 1)
                bench.listener.events.clear()
                os.kill(bench.pid(), signal.SIGKILL)
                await bench.listener.until_event("loaded", "cpu", "echo/1", "plain")
            assert ("up", "") == bench.state()

    asyncio.run(scenario())


def test_a_spare_takes_over() -> None:
    """The process that waited becomes the device's worker, and another one begins to wait."""

    async def scenario() -> None:
        async with running(FakeCommand("well"), spares=1) as bench:
            await bench.load(KEY)
            bench.start(KEY, 1)
            await bench.listener.until_ended(1)
            spare = bench.pool._workers["cpu"]._spare
            assert spare.life is not None
            waiting = spare.life
            await waiting.hello
            bench.listener.events.clear()

            os.kill(bench.pid(), signal.SIGKILL)
            await bench.listener.until_event("loaded", "cpu", "echo/1", "plain")

            assert waiting is bench.life()
            bench.start(KEY, 1)
            await bench.listener.until_ended(2)
            assert bench.listener.ends[1][1] is None
            assert spare.life is not None
            assert 3 == bench.commands[0].starts

    asyncio.run(scenario())


def test_a_spare_that_ends_is_replaced() -> None:
    """Nobody notices, and no device is given up for it."""
    spares = asyncio.Event()

    class Told(FakeCommand):
        def arguments(self, socket_fd: int, memory_fd: int) -> list[str]:
            if self.starts:
                spares.set()
            return super().arguments(socket_fd, memory_fd)

    async def scenario() -> None:
        async with running(Told("well"), spares=1, max_restarts=0) as bench:
            await bench.load(KEY)
            await spares.wait()
            first = bench.pool._workers["cpu"]._spare.life
            assert first is not None
            spares.clear()
            os.kill(first.link._process.pid, signal.SIGKILL)
            await first.gone
            async with asyncio.timeout(PATIENCE):
                await spares.wait()
            assert ("up", "") == bench.state()

    asyncio.run(scenario())


def test_a_worker_that_cannot_start_confined_starts_without() -> None:
    """Where as much as possible was asked for, that is less from then on; the log says so."""

    async def scenario() -> None:
        command = FakeCommand("unable", "well")
        command.confinement = "auto"
        async with running(command, max_restarts=0) as bench:
            assert ("up", "off") == (bench.state()[0], command.confinement)

    asyncio.run(scenario())


def test_a_worker_that_can_never_start_is_not_tried_five_times() -> None:
    """What it says is the reason, at once."""

    async def scenario() -> None:
        async with running(FakeCommand("unable for good")) as bench:
            assert (
                "failed",
                "strict, and it cannot be confined; tried again in 60 s",
            ) == bench.state()
            assert 1 == bench.commands[0].starts

    asyncio.run(scenario())


def test_nothing_is_left_of_workers_that_are_gone() -> None:
    """After a hundred replacements there are as many descriptors and mappings as after a few."""

    def left() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        return len(list(Path("/proc/self/fd").iterdir())), maps.count("memfd:jitney-slots")

    class Brief(FakeCommand):
        def arguments(self, socket_fd: int, memory_fd: int) -> list[str]:
            super().arguments(socket_fd, memory_fd)
            return ["/bin/false"]

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        command, before = Brief("well"), None
        for number in range(110):
            life = WorkerLife(command, loop, clock, lambda *_: None)
            ending = await life.gone
            assert (
                Ending("it closed its channel; exit code 1", Cause.CRASH, by_itself=True) == ending
            )
            assert life.link.reap()
            del life
            if number == 9:
                before = left()
        assert before == left()
        clock.close()

    asyncio.run(scenario())


def test_a_program_that_cannot_be_started_is_a_failed_device() -> None:
    """Even that the interpreter is gone ends in a state with a reason."""

    class Broken(FakeCommand):
        def arguments(self, socket_fd: int, memory_fd: int) -> list[str]:
            super().arguments(socket_fd, memory_fd)
            return ["/nonexistent/python"]

    async def scenario() -> None:
        async with running(Broken("well"), max_restarts=0) as bench:
            assert (
                "failed",
                (
                    "its worker ended 1 times in a minute: its process could not be started "
                    "(No such file or directory); tried again in 60 s"
                ),
            ) == bench.state()

    asyncio.run(scenario())


def test_stop_ends_every_process_and_every_batch() -> None:
    """Workers that heed STOP exit; those that do not are killed; what they held is lost."""

    async def scenario() -> None:
        commands = [FakeCommand("never ends"), FakeCommand("hangs on run", device="other")]
        async with running(*commands) as bench:
            await bench.load(KEY)
            bench.start(KEY, 1, device="other")
            pids = [bench.pid("cpu"), bench.pid("other")]
            assert all(map(psutil.pid_exists, pids))

            await bench.pool.stop(0.2)

            assert not any(map(psutil.pid_exists, pids))
            assert [WorkerLost] == [type(error) for _, error, _, _ in bench.listener.ends]
            assert {"stopped"} == {d.state for d in bench.pool.statistics()}

    asyncio.run(scenario())


def test_a_worker_inherits_no_secrets() -> None:
    """Only a list of harmless variables passes; the number of threads is set."""
    command = FakeCommand("well")
    assert {"PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"} <= set(
        command.environment
    )
    environment = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "CUDA_VISIBLE_DEVICES": "4,7"}

    kept = worker_environment(environment, "cuda:1", 2)
    assert ("/bin", "7", "2") == (
        kept["PATH"],
        kept["CUDA_VISIBLE_DEVICES"],
        kept["OMP_NUM_THREADS"],
    )
    assert "AWS_SECRET_ACCESS_KEY" not in kept
    assert "" == worker_environment(environment, "cpu", 0)["CUDA_VISIBLE_DEVICES"]
