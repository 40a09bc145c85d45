"""Which requests are traced, and what is written of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from jitney.errors import ConfigError, JitneyError, ModelError
from jitney.telemetry.tracing import TraceFile, Tracer, TraceSettings
from jitney.testing import make_entry, make_key
from jitney.types import Timing

if TYPE_CHECKING:
    from pathlib import Path

EVERY = {"levels": ("TIMESTAMPS",), "rate": 1}


class Bench:
    """A tracer that writes into a folder; ``run`` is a request that ends."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "trace.jsonl"
        self.hook: Any = None
        self.tracer = Tracer(self.watch, TraceFile(self.file))

    def watch(self, hook: Any) -> None:
        """Take whom to call."""
        self.hook = hook

    def run(self, *ids: str, model: str = "m", error: JitneyError | None = None) -> None:
        """End requests."""
        for id_ in ids:
            entry = make_entry(make_key(model, dims=(2,)), id=id_)
            if error is None:
                entry.timing = Timing(0.001, 0.002, 0.003, 0.004, 0.010)
            if self.hook is not None:
                self.hook(entry, error)

    def lines(self, suffix: str = "") -> list[dict[str, Any]]:
        """Return what was written."""
        text = self.file.with_name(self.file.name + suffix).read_text()
        return [json.loads(line) for line in text.splitlines()]

    def ids(self, suffix: str = "") -> list[str]:
        """Return the ids of what was written."""
        return [line["id"] for line in self.lines(suffix)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a tracer."""
    return Bench(tmp_path)


def test_nothing_is_traced_at_first_and_nobody_is_called(bench: Bench) -> None:
    """Traces that are off cost a request nothing."""
    bench.tracer.update({"rate": 5})

    assert (None, TraceSettings(rate=5)) == (bench.hook, bench.tracer.settings())


def test_a_line_has_the_stages_in_nanoseconds(bench: Bench) -> None:
    """And whose they are; the time is that of the clock on the wall."""
    bench.tracer.update(EVERY)
    bench.run("a")
    (line,) = bench.lines()

    assert line.pop("time") > 1e9
    assert {
        "id": "a",
        "model": "m",
        "version": 1,
        "rows": 1,
        "queue_ns": 1_000_000,
        "compute_input_ns": 2_000_000,
        "compute_infer_ns": 3_000_000,
        "compute_output_ns": 4_000_000,
        "total_ns": 10_000_000,
    } == line


def test_tensors_are_traced_without_their_contents(bench: Bench) -> None:
    """Names, datatypes and shapes; what callers send does not belong into files."""
    bench.tracer.update({"levels": ("TENSORS",), "rate": 1})
    bench.run("a")
    (line,) = bench.lines()

    assert [{"name": "x", "datatype": "FP32", "shape": [1, 2]}] == line["inputs"]
    assert "queue_ns" not in line


def test_a_failed_request_has_its_reason(bench: Bench) -> None:
    """And no stages, which nobody stamped."""
    bench.tracer.update(EVERY)
    bench.run("a", error=ModelError("no"))

    assert ["MODEL_INVALID"] == [line["error"] for line in bench.lines()]


def test_one_in_so_many_requests_is_traced(bench: Bench) -> None:
    """Each group counts for itself."""
    bench.tracer.update({**EVERY, "rate": 3})
    bench.run(*"abcdefg")

    assert ["c", "f"] == bench.ids()


def test_traces_end_with_their_count(bench: Bench) -> None:
    """The settings say how many are left."""
    bench.tracer.update({**EVERY, "count": 2})
    bench.run(*"abc")

    assert (["a", "b"], 0) == (bench.ids(), bench.tracer.settings().count)


def test_a_model_has_settings_of_its_own(bench: Bench) -> None:
    """What it was not given follows the others'; what it was given does not."""
    bench.tracer.update({"levels": ("TIMESTAMPS",)}, "m")
    bench.tracer.update({"rate": 2})
    bench.run("a", "b")
    bench.run("c", "d", model="other")
    bench.tracer.update({"levels": ("TENSORS",)})

    assert ["b"] == bench.ids()
    assert TraceSettings(("TIMESTAMPS",), 2) == bench.tracer.settings("m")
    assert TraceSettings(("TENSORS",), 2) == bench.tracer.settings("other")


def test_settings_are_taken_back_with_none(bench: Bench) -> None:
    """A model's follow the others' again, and the others' the default."""
    bench.tracer.update({**EVERY, "count": 7}, "m")
    bench.tracer.update({"rate": 5})
    bench.tracer.update({"levels": None, "rate": None, "count": None}, "m")
    follows = bench.tracer.settings("m")
    bench.tracer.update({"rate": None})

    assert (TraceSettings(rate=5), TraceSettings()) == (follows, bench.tracer.settings("m"))
    assert bench.hook is None


def test_another_setting_leaves_the_count_that_is_left(bench: Bench) -> None:
    """Who changes the rate does not ask for more traces."""
    bench.tracer.update({**EVERY, "count": 3}, "m")
    bench.run("a")
    bench.tracer.update({"log_frequency": 9}, "m")

    assert 2 == bench.tracer.settings("m").count


def test_a_new_file_begins_every_so_often(bench: Bench) -> None:
    """Files are numbered, as Triton does it."""
    bench.tracer.update({**EVERY, "log_frequency": 2})
    bench.run(*"abc")

    assert (["a", "b"], ["c"]) == (bench.ids(".0"), bench.ids(".1"))


def test_without_a_file_traces_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever switches them on over the network finds them somewhere."""
    caplog.set_level("INFO")
    TraceFile().write("{}", None)

    assert ["trace {}"] == caplog.messages


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """The text names the setting."""
    with pytest.raises(ConfigError) as caught:
        TraceFile(tmp_path / "nowhere" / "trace")

    assert "telemetry.trace_file: cannot write it: No such file or directory" == str(caught.value)


def test_a_full_disk_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Traces are lost then, and requests are not."""
    folder = tmp_path / "gone"
    folder.mkdir()
    file = TraceFile(folder / "trace")
    (folder / "trace").unlink()
    folder.rmdir()
    file.write("{}", None)
    file.write("{}", None)

    assert 1 == len(caplog.messages)
