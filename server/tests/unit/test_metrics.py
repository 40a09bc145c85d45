"""What is counted is what happened, and prometheus_client reads it as its own."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as TheirCounter
from prometheus_client import Histogram as TheirHistogram

from jitney.errors import (
    DeadlineExpired,
    DeadlineTooShort,
    Draining,
    InputRejected,
    InvalidRequest,
    JitneyError,
    Overloaded,
)
from jitney.execution.executor import Completion
from jitney.scheduling.batch import Batch, Reason
from jitney.telemetry.exposition import MetricsPage
from jitney.telemetry.host import HostFigures
from jitney.telemetry.instruments import Counter, Histogram
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.model_figures import SECONDS
from jitney.telemetry.reading import Reading
from jitney.telemetry.triton_page import PinnedMemory, TritonPage, VersionFigures
from jitney.testing import make_entry, make_key
from jitney.types import ModelRef, Timing

if TYPE_CHECKING:
    from jitney.telemetry.gpu import GpuFigures

ECHO = ModelRef("echo", 1)


def lines(registry: CollectorRegistry) -> list[str]:
    """Return what a registry shows, without the moments of creation, which ours do not have."""
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if "_created" not in line]


def rendered(collector: object) -> list[str]:
    """Return what prometheus_client shows of a collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)  # type: ignore[arg-type]  # anything that collects
    return lines(registry)


class One:
    """A collector of one instrument."""

    def __init__(self, instrument: Counter | Histogram) -> None:
        self.instrument = instrument

    def collect(self) -> list[object]:
        """Return the instrument's family."""
        return [self.instrument.collect()]


@given(st.lists(st.floats(0, 100) | st.sampled_from(SECONDS), max_size=30))
def test_a_histogram_is_rendered_as_prometheus_clients_own(values: list[float]) -> None:
    """Buckets, count, sum and labels are to the letter what its instrument would show."""
    theirs_registry = CollectorRegistry()
    theirs = TheirHistogram(
        "seconds", "Help.", ("model",), buckets=SECONDS, registry=theirs_registry
    )
    ours = Histogram("seconds", "Help.", ("model",), SECONDS)
    theirs.labels("a")
    cell = ours.cell(("a",))

    for value in values:
        theirs.labels("a").observe(value)
        cell.observe(value)

    assert lines(theirs_registry) == rendered(One(ours))
    assert len(values) == cell.count


def test_a_counter_is_rendered_as_prometheus_clients_own() -> None:
    """Values and labels are to the letter what its instrument would show."""
    registry = CollectorRegistry()
    theirs = TheirCounter("calls", "Help.", ("model", "code"), registry=registry)
    ours = Counter("calls", "Help.", ("model", "code"))

    for labels, amount in ((("a", "OK"), 1), (("a", "OK"), 2), (('q"\\\n', "ü"), 0.5)):
        theirs.labels(*labels).inc(amount)
        ours.add(labels, amount)

    assert lines(registry) == rendered(One(ours))
    assert (3, 0) == (ours.value(("a", "OK")), ours.value(("b", "OK")))


def test_observing_many_times_is_observing_often() -> None:
    """A batch's stage is counted for each of its requests in one step."""
    one, many = (Histogram("s", "Help.", (), (1.0, 2.0)) for _ in range(2))

    one.cell(()).observe(1.5, 3)
    for _ in range(3):
        many.cell(()).observe(1.5)

    assert rendered(One(many)) == rendered(One(one))


def batch_of(*rows: int, device: str = "d0", reason: Reason = Reason.IDLE) -> Batch:
    """Return a batch of entries with the rows, answered within 1, 2, 3 … seconds."""
    key = make_key(max_rows=8)
    entries = [make_entry(key, rows=n) for n in rows]
    for i, entry in enumerate(entries):
        entry.timing = Timing(0.5, 0.25, 0.5, 0.125, i + 1.0)
    return Batch(key, entries, sum(rows), reason, device, 0.0)


DONE = Completion(None, None, 10.0, 10.25, 10.75, 10.875)


def test_a_batch_counts_for_each_of_its_requests() -> None:
    """Requests, rows, batches, stages and busy seconds add up as the protocol's statistics do."""
    metrics = Metrics()
    batch = batch_of(1, 2)
    metrics.batch_started(batch)

    metrics.batch_done(batch, DONE, 3)

    figures = metrics.figures(ECHO)
    assert (2, 3.0, 2, 1.0) == (
        figures.total.count,
        figures.total.sum,
        figures.queue.count,
        figures.queue.sum,
    )
    assert (3, 1, 0.5, 1.0, 0.25) == (
        figures.rows,
        figures.batches,
        figures.compute_input,
        figures.compute_infer,
        figures.compute_output,
    )
    by_rows = figures.by_rows[3]
    assert (1, 0.25, 0.5, 0.125) == (
        by_rows.count,
        by_rows.compute_input,
        by_rows.compute_infer,
        by_rows.compute_output,
    )
    assert {"d0": 0.875} == metrics.busy_seconds()


def test_who_was_not_answered_is_not_counted_as_answered() -> None:
    """Entries of a batch that were cancelled have no timing, and only their batch counts."""
    metrics = Metrics()
    batch = batch_of(1, 1)
    batch.entries[0].timing = None

    metrics.batch_done(batch, DONE, 1)

    assert (1, 2) == (metrics.figures(ECHO).total.count, metrics.figures(ECHO).rows)


def test_rows_without_entry_are_no_inferences() -> None:
    """A batch of sequences may have empty rows: they belong to its size, and to no request."""
    metrics = Metrics()
    key = make_key(max_rows=8, fill=(bytes(4),))
    entry = make_entry(key)
    entry.stand_in(5)

    metrics.batch_done(Batch(key, [entry], entry.span, Reason.IDLE, "d0", 0.0), DONE, 1)

    assert (1, [6]) == (metrics.figures(ECHO).rows, list(metrics.figures(ECHO).by_rows))


@pytest.mark.parametrize(("awaited", "wasted"), [(4, 0.0), (3, 0.21875), (0, 0.875)])
def test_time_for_rows_that_nobody_awaited_is_wasted(awaited: int, wasted: float) -> None:
    """Of a batch of four rows, each takes a quarter of the device's seconds."""
    metrics = Metrics()

    metrics.batch_done(batch_of(4), DONE, awaited)

    assert [(("d0", "echo", "1"), wasted)] == metrics.device_wasted.items()


def test_batches_are_held_against_their_plans() -> None:
    """A batch that took half of what was planned counts as 0.5; one without a plan not at all."""
    metrics = Metrics()
    planned = batch_of(1)
    planned.planned = 1.75

    metrics.batch_done(planned, DONE, 1)
    metrics.batch_done(batch_of(1), DONE, 1)

    name, labels = "jitney_batch_duration_over_plan_ratio", 'device="d0",model="echo",version="1"'
    page = rendered(metrics)
    assert f"{name}_sum{{{labels}}} 0.5" in page
    assert f"{name}_count{{{labels}}} 1.0" in page


def test_the_page_shows_the_numbers_that_were_told() -> None:
    """Every event is one sample under the name and labels that dashboards use."""
    metrics = Metrics()
    for batch in (batch_of(1, 1), batch_of(8, reason=Reason.FULL)):
        metrics.batch_started(batch)
        metrics.batch_done(batch, DONE, batch.rows)
    metrics.batch_failed(batch_of(1), InputRejected("x"))
    metrics.request_ended(ECHO, "ModelInfer", "OK")
    metrics.request_ended(None, "ModelInfer", "NOT_FOUND")
    metrics.request_refused(None, InvalidRequest("x"))
    metrics.request_refused(ECHO, InvalidRequest("x"))
    metrics.request_failed(make_entry(), InputRejected("x"), 1.5)
    metrics.cancelled(ECHO, "queued", 0.5)
    metrics.add_reading(Reading("jitney_up", "Help.", ("device",), lambda: [(("d0",), 1)]))
    figures = metrics.figures(ECHO)
    assert (3, 2.0) == (figures.fail_count, figures.fail_seconds)

    model, unknown = 'model="echo",', 'model="_unknown",'
    expected = {
        f'jitney_batches_total{{device="d0",{model}reason="idle",version="1"}} 1.0',
        f'jitney_batches_total{{device="d0",{model}reason="full",version="1"}} 1.0',
        f'jitney_failed_batches_total{{device="d0",{model}reason="MODEL_ERROR",version="1"}} 1.0',
        f'jitney_requests_total{{code="OK",method="ModelInfer",{model}version="1"}} 1.0',
        f'jitney_requests_total{{code="NOT_FOUND",method="ModelInfer",{unknown}version=""}} 1.0',
        f'jitney_rejected_total{{{unknown}reason="bad_input",version=""}} 1.0',
        f'jitney_rejected_total{{{model}reason="bad_input",version="1"}} 1.0',
        f'jitney_rejected_total{{{model}reason="model_error",version="1"}} 1.0',
        f'jitney_cancelled_total{{{model}stage="queued",version="1"}} 1.0',
        f'jitney_device_busy_seconds_total{{device="d0",{model}version="1"}} 1.75',
        f'jitney_batch_rows_sum{{{model}version="1"}} 10.0',
        f'jitney_batch_fill_ratio_sum{{{model}version="1"}} 1.25',
        f'jitney_request_duration_seconds_count{{{model}version="1"}} 3.0',
        f'jitney_compute_infer_duration_seconds_count{{device="d0",{model}version="1"}} 3.0',
        'jitney_up{device="d0"} 1.0',
    }
    assert set() == expected - set(rendered(metrics))
    assert 3 == metrics.figures(ECHO).fail_count


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Overloaded("x", reason="QUEUE_FULL"), "full"),
        (Overloaded("x", reason="REQUEST_LIMIT"), "full"),
        (Overloaded("x", reason="PREDICTED_LATE"), "price"),
        (Overloaded("x", reason="SHED"), "price"),
        (Overloaded("x", reason="TENANT_QUOTA"), "quota"),
        (Overloaded("x", reason="BYTE_BUDGET"), "bytes"),
        (DeadlineExpired("x"), "expired"),
        (DeadlineTooShort("x"), "unreachable"),
        (Draining("x"), "draining"),
        (InvalidRequest("x"), "bad_input"),
    ],
)
def test_what_was_refused_is_counted_under_a_word(error: JitneyError, word: str) -> None:
    """Reasons that call for the same act of an operator share a word, the others have their own."""
    metrics = Metrics()
    metrics.request_refused(ECHO, error)
    metrics.request_failed(make_entry(), error, 1.5)

    assert [(("echo", "1", word), 2)] == metrics.rejected.items()


def test_every_metric_has_help_and_a_name_of_ours() -> None:
    """No name is used twice, each begins with jitney_ and says what it is."""
    families = list(Metrics().collect())

    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(name.startswith("jitney_") for name in names)
    assert all(family.documentation.endswith(".") for family in families)


class Nothing:
    """Sources of a server without models."""

    def versions(self) -> list[VersionFigures]:
        """Return none."""
        return []

    def pinned(self) -> PinnedMemory:
        """Return none."""
        return PinnedMemory(0, 0)

    def host(self) -> HostFigures:
        """Return an idle machine."""
        return HostFigures(0.0, 0, 0)

    def gpus(self) -> list[GpuFigures]:
        """Return none."""
        return []


def test_the_page_is_served_on_a_free_port() -> None:
    """Port 0 takes a free one; after close nobody answers there."""
    metrics = Metrics()
    metrics.request_ended(ECHO, "ModelInfer", "OK")
    page = MetricsPage(metrics, TritonPage(metrics, Nothing()), "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics") as reply:
            text = reply.read().decode()
    finally:
        page.close()

    assert (
        'jitney_requests_total{code="OK",method="ModelInfer",model="echo",version="1"} 1.0' in text
    )
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics")


def test_a_version_that_is_loaded_again_goes_on_with_its_figures() -> None:
    """Whoever watches a version sees one series, whichever load of it answers."""
    metrics = Metrics()
    first, second = ECHO, ModelRef("echo", 1, 1)
    metrics.figures(first).fail_count += 1
    assert metrics.figures(first) is metrics.figures(second)
    metrics.model_gone(first)
    assert 1 == metrics.figures(second).fail_count
    metrics.request_ended(second, "ModelInfer", "OK")
    assert 1 == metrics.requests.value(("echo", "1", "ModelInfer", "OK"))
