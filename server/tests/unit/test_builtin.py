"""Built-in models: what they may be, how they come and go, and how batches find them."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from builtin_bench import MODEL, Bench, Listener, texts

from jitney.builtin import BuiltinSpec, device_of
from jitney.datatypes import DataType
from jitney.errors import ConfigError, ModelError
from jitney.execution.builtin import check, default_signature
from jitney.execution.executors import Executors
from jitney.execution.pool import DeviceStatistics
from jitney.load_report import LoadReport
from jitney.scheduling.batch import Batch, Reason
from jitney.signature import Signature, TensorSpec
from jitney.types import ModelRef

if TYPE_CHECKING:
    from jitney.builtin import Handler

FP32 = Signature(
    (TensorSpec("x", DataType.FP32, ("N", -1)),), (TensorSpec("y", DataType.FP32, ("N", -1)),)
)
INPUT0 = ((1,), struct.pack("<f", 1.0))


# -- echo -------------------------------------------------------------------------------------


def test_echo_gives_back_the_parameters_sorted_by_key() -> None:
    """Every value in the form that Python's str gives it, as Triton's model of that kind does."""
    bench = Bench()
    bench.load("echo")
    parameters: dict[str, bool | int | str | float] = {
        "text": "wört",
        "flag": True,
        "whole": -7,
        "number": 123.123,
        "header": 'a "quoted" one\\ ',
    }
    outputs = bench.run(INPUT0, parameters=parameters)

    assert {
        "key": texts(b"flag", b"header", b"number", b"text", b"whole"),
        "value": texts(b"True", b'a "quoted" one\\ ', b"123.123", "wört".encode(), b"-7"),
    } == outputs


@pytest.mark.parametrize(
    "parameters", [None, {"priority": 1, "sequence_id": 7, "triton_x": True, "jitney_timing": True}]
)
def test_echo_leaves_out_what_is_addressed_to_the_server(parameters: Any) -> None:
    """Without parameters of the caller's own there are no keys and no values."""
    bench = Bench()
    bench.load("echo")

    assert {"key": b"", "value": b""} == bench.run(INPUT0, parameters=parameters)


# -- what a signature may be ------------------------------------------------------------------


def spec(name: str, datatype: str, *shape: int | str, optional: bool = False) -> TensorSpec:
    """Return a tensor in one line."""
    return TensorSpec(name, DataType(datatype), shape, optional)


REPEAT = default_signature("repeat") or FP32
ECHO = default_signature("echo") or FP32


@pytest.mark.parametrize(
    ("handler", "signature"),
    [
        ("identity", FP32),
        ("repeat", REPEAT),
        ("echo", ECHO),
        ("echo", Signature((spec("anything", "BYTES", -1),), ECHO.outputs)),
        (
            "repeat",
            Signature(
                (spec("IN", "FP16", 4), spec("WAIT", "UINT32", 1), spec("DELAY", "UINT32", 4)),
                (spec("IDX", "UINT32", 1), spec("OUT", "FP16", -1)),
            ),
        ),
    ],
)
def test_a_signature_that_a_handler_can_serve_is_accepted(
    handler: Handler, signature: Signature
) -> None:
    """Order, fixed sizes and the datatype of what is repeated are the operator's."""
    check(BuiltinSpec(handler), signature)
    assert isinstance(Bench().load(handler, signature), LoadReport)


@pytest.mark.parametrize(
    ("handler", "signature", "text"),
    [
        (
            "identity",
            Signature((spec("x", "FP32"),), (spec("y", "FP32"), spec("z", "FP32"))),
            "it has as many outputs as inputs; got 1 inputs and 2 outputs",
        ),
        (
            "identity",
            Signature((spec("x", "FP32", 2),), (spec("y", "INT32", 2),)),
            "gives back input 'x' as it is: FP32 [2], got INT32 [2]",
        ),
        (
            "identity",
            Signature((spec("x", "FP32", 2),), (spec("y", "FP32", 3),)),
            "gives back input 'x' as it is: FP32 [2], got FP32 [3]",
        ),
        (
            "identity",
            Signature((spec("x", "FP32", optional=True),), (spec("y", "FP32"),)),
            "input 'x': a built-in model has no optional inputs",
        ),
        ("repeat", FP32, "the built-in repeat has no batch dimension"),
        (
            "repeat",
            Signature(REPEAT.inputs[:2], REPEAT.outputs),
            "input: the built-in repeat has IN, DELAY, WAIT, got IN, DELAY",
        ),
        (
            "repeat",
            Signature((*REPEAT.inputs[:2], spec("WAIT", "UINT32", -1)), REPEAT.outputs),
            "input 'WAIT': the built-in repeat has UINT32 [1], got UINT32 [-1]",
        ),
        (
            "repeat",
            Signature(REPEAT.inputs, (spec("OUT", "FP32", 1), REPEAT.outputs[1])),
            "output 'OUT': the built-in repeat gives the elements of 'IN', which are INT32, got",
        ),
        (
            "echo",
            Signature(ECHO.inputs, (spec("key", "BYTES", -1), spec("value", "BYTES", 1))),
            "write shape = [-1]",
        ),
        (
            "echo",
            Signature(ECHO.inputs, (spec("key", "BYTES", -1), spec("value", "INT32", -1))),
            "output 'value': the built-in echo has BYTES [-1], got INT32 [-1]",
        ),
    ],
)
def test_a_signature_that_a_handler_cannot_serve_is_refused(
    handler: Handler, signature: Signature, text: str
) -> None:
    """The text names the tensor, what the handler has, and what was given."""
    with pytest.raises(ConfigError) as caught:
        check(BuiltinSpec(handler), signature)

    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("handler", "parameters", "text"),
    [
        ("identity", {"execute_delay_ms": "soon"}, "expected milliseconds, 0 to 3600000"),
        ("identity", {"execute_delay_ms": "-1"}, "got '-1'"),
        ("identity", {"execute_delay_ms": "nan"}, "got 'nan'"),
        ("identity", {"delay": "1"}, "takes execute_delay_ms, got 'delay'"),
        ("repeat", {"execute_delay_ms": "1"}, "the built-in repeat takes no parameter"),
    ],
)
def test_a_parameter_that_says_nothing_is_refused(
    handler: Handler, parameters: dict[str, str], text: str
) -> None:
    """A typing error must not turn into a model without delay."""
    bench = Bench()
    outcome = bench.load(handler, FP32 if handler == "identity" else None, parameters)

    assert isinstance(outcome, ModelError)
    assert text in str(outcome)
    assert [("refused", device_of(MODEL), MODEL, str(outcome))] == bench.said
    assert [] == bench.builtin.statistics()


# -- loads and devices ------------------------------------------------------------------------


def test_a_report_says_what_is_so() -> None:
    """Nothing was compiled or compared, and the limit is the operator's."""
    report = Bench().load("identity", FP32, max_batch_size=6)

    assert isinstance(report, LoadReport)
    assert ("builtin", 6, 0, 0) == (
        report.form,
        report.max_batch_size,
        report.memory_bytes,
        report.golden.samples,
    )
    assert (1, 6) == report.latency.sizes
    assert all(seconds > 0 for seconds in report.latency.seconds)
    assert report == LoadReport.from_json(report.to_json())


@pytest.mark.parametrize("rows", [1 << 16, 3])
def test_a_limit_of_any_size_is_measured_with_bounds(rows: int) -> None:
    """Of a huge limit as much is run as does no harm on the event loop."""
    wide = Signature((spec("x", "FP32", "N", 1 << 20),), (spec("y", "FP32", "N", 1 << 20),))
    for signature in (FP32, wide):
        report = Bench().load("identity", signature, max_batch_size=rows)
        assert isinstance(report, LoadReport)
        assert rows == report.max_batch_size
        assert report.latency.sizes[-1] <= min(rows, 1024)


def test_every_version_has_a_device_that_comes_and_goes_with_it() -> None:
    """Loads of one version share it: the device goes with the last of them."""
    bench = Bench()
    again, other = MODEL._replace(load=1), ModelRef("model", 2)
    for model in (MODEL, again, other):
        bench.load("identity", FP32, model=model)
    bench.builtin.unload(MODEL)
    bench.builtin.unload(MODEL)
    assert ["builtin:model/1", "builtin:model/2"] == [s.name for s in bench.builtin.statistics()]
    bench.builtin.unload(again)

    one, two = "builtin:model/1", "builtin:model/2"
    assert [
        ("up", one),
        ("loaded", one, MODEL),
        ("loaded", one, again),
        ("up", two),
        ("loaded", two, other),
        ("gone", one, MODEL),
        ("gone", one, again),
        ("down", one),
    ] == bench.said
    assert [(two, "up")] == [(s.name, s.state) for s in bench.builtin.statistics()]


def test_a_changed_version_serves_while_the_one_before_ends() -> None:
    """A reload beside requests: those of the old load end as they began."""
    bench = Bench()
    bench.load("identity", FP32, {"execute_delay_ms": "1000"})
    bench.submit("old", ((1, 1), b"abcd"))
    bench.clock.run_soon()
    again = MODEL._replace(load=1)
    bench.load("identity", FP32, model=again)
    bench.submit("new", ((1, 1), b"efgh"), model=again)
    bench.builtin.unload(MODEL)
    bench.clock.advance(1)

    assert ["old", "new"] == bench.ends.ids
    assert b"abcd" == bench.ends.replies["old"].outputs["y"]


def test_a_batch_of_a_model_that_is_gone_is_told_so_later() -> None:
    """Never from within start, and safe to repeat elsewhere."""
    bench = Bench()
    bench.load("identity", FP32)
    entry = bench.submit("a", ((1, 1), b"abcd"))
    bench.builtin.unload(MODEL)
    bench.builtin.start(Batch(entry.key, [entry], 1, Reason.IDLE, device_of(MODEL), 0.0))
    assert [] == bench.busy
    bench.clock.run_soon()

    assert [0.0] == bench.busy


# -- all executors as one ---------------------------------------------------------------------


class Workers:
    """Stands in for the pool of workers; ``calls`` are the names of what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def start(self, batch: Batch) -> None:
        """Note a batch."""
        self.calls.append(("start", batch.device))

    def unload(self, ref: ModelRef) -> None:
        """Note an unload."""
        self.calls.append(("unload", ref))

    async def launch(self, _: object) -> None:
        """Note the start."""
        self.calls.append("launch")

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109
        """Note the end."""
        self.calls.append(("stop", timeout))

    def statistics(self) -> list[DeviceStatistics]:
        """Return one device."""
        return [DeviceStatistics("cpu", "up", "", "a CPU", 0, False, {})]  # noqa: FBT003


def test_executors_ask_whoever_has_the_device() -> None:
    """Built-in devices are the server's own, all others the workers'; figures name them all."""
    bench, workers = Bench(), Workers()
    executors = Executors(workers, bench.builtin)  # type: ignore[arg-type]
    asyncio.run(executors.launch(Listener(bench)))
    bench.load("identity", FP32)
    entry = bench.submit("a", ((1, 1), b"abcd"))
    bench.clock.run_soon()
    bench.busy.clear()
    for device in ("cpu", device_of(MODEL)):
        executors.start(Batch(entry.key, [entry], 1, Reason.IDLE, device, 0.0))
    bench.clock.run_soon()
    assert 1 == len(bench.busy)
    assert ["cpu", "builtin:model/1"] == [s.name for s in executors.statistics()]
    executors.unload(MODEL)
    asyncio.run(executors.stop(0.5))

    assert ["launch", ("start", "cpu"), ("unload", MODEL), ("stop", 0.5)] == workers.calls
    assert ("down", device_of(MODEL)) == bench.said[-1]
