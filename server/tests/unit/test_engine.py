"""From a request to its end: what is refused, what is counted, and what events do."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from typing import Any

import pytest
from model_versions import ECHO as SIGNATURE
from model_versions import LIMITS, report, repository_of, version_of

from jitney.admission import Admission
from jitney.config import LimitSettings
from jitney.engine import Engine
from jitney.errors import (
    BatchTooLarge,
    DeviceFailed,
    Draining,
    InvalidRequest,
    JitneyError,
    ModelError,
    ModelLoadFailed,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    WorkerLost,
)
from jitney.repository.handle import ModelVersion, VersionState
from jitney.repository.manifest import ModelManifest
from jitney.scheduling.policy import Policy
from jitney.scheduling.scheduler import Scheduler
from jitney.sequence import SequenceConfig
from jitney.telemetry.metrics import Metrics
from jitney.testing import FakeClock, PuppetExecutor, make_request
from jitney.testing.puppet import Stages
from jitney.types import ModelRef, Request, Timing

ECHO = ModelRef("echo", 1)


class Bench:
    """An engine on a fake clock over a puppet; ``told`` is what waiters were called with."""

    def __init__(
        self, *versions: ModelVersion, limits: LimitSettings | None = None, up: bool = True
    ) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.policy = Policy()
        self.executor = PuppetExecutor(self.clock)
        self.versions = versions or (version_of(devices=()),)
        self.repository = repository_of(*self.versions)
        self.admission = Admission(limits or LimitSettings())
        scheduler = Scheduler(self.policy, self.executor, self.clock, self.metrics)
        self.engine = Engine(self.repository, scheduler, self.admission, self.clock, self.metrics)
        self.executor.listener = self.engine
        self.told: list[tuple[str, Any, JitneyError | None]] = []
        if up:
            self.engine.device_up("cpu")
            for version in self.versions:
                self.engine.model_loaded("cpu", version.ref, report())

    def submit(self, request: Request) -> Any:
        """Submit a request and note its end under its id."""
        name = request.id
        return self.engine.submit(request, lambda reply, error: self.note(name, reply, error))

    def note(self, name: str, reply: object, error: JitneyError | None) -> None:
        """Note an end."""
        self.told.append((name, reply, error))

    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests and bytes that are in flight."""
        statistics = self.admission.statistics()
        return (statistics.requests, statistics.nbytes)


def test_a_request_is_answered_by_the_version_that_its_reply_names() -> None:
    """Without a version the highest one that is ready answers, and the reply says so."""
    bench = Bench(version_of(version=1), version_of(version=3), version_of(version=9, devices=()))
    bench.engine.model_refused("cpu", ModelRef("echo", 9), ModelError("broken"))
    request = make_request(id="a", rows=2, dims=(3,))
    [data] = request.data

    bench.submit(request)
    assert (1, 24) == bench.in_flight
    bench.clock.run_soon()
    bench.executor.complete_next()

    [(name, reply, error)] = bench.told
    assert ("a", None, ModelRef("echo", 3)) == (name, error, reply.model)
    assert {"y": data} == reply.outputs
    assert (0, 0) == bench.in_flight
    assert () == request.data  # whoever still refers to it does not keep its tensors


def test_requests_of_equal_shape_share_a_batch_and_others_do_not() -> None:
    """Two shapes are two batches."""
    bench = Bench()
    for name, dims in (("a", (2,)), ("b", (3,)), ("c", (2,))):
        bench.submit(make_request(id=name, dims=dims))
    bench.clock.run_soon()
    bench.executor.complete_next()

    assert [["a", "c"], ["b"]] == [
        [entry.request.id for entry in batch.entries] for batch in bench.executor.started
    ]


@pytest.mark.parametrize(
    ("request_", "kind", "label", "reason"),
    [
        (make_request("nobody"), ModelNotFound, ("_unknown", ""), "model_not_found"),
        (make_request(version="7"), ModelNotFound, ("_unknown", ""), "model_not_found"),
        (make_request(version="x"), InvalidRequest, ("_unknown", ""), "bad_input"),
        (make_request(rows=65), BatchTooLarge, ("echo", "1"), "batch_too_large"),
        (make_request(dims=(1, 1)), InvalidRequest, ("echo", "1"), "bad_input"),
        (make_request(data=[b"123"]), InvalidRequest, ("echo", "1"), "bad_input"),
        (make_request(data=[]), InvalidRequest, ("echo", "1"), "bad_input"),
        (make_request(data=[b"1234"] * 2), InvalidRequest, ("echo", "1"), "bad_input"),
    ],
)
def test_what_is_refused_is_counted_and_holds_nothing(
    request_: Request, kind: type[JitneyError], label: tuple[str, str], reason: str
) -> None:
    """A refusal raises, counts under a model that exists or _unknown, and leaves nothing behind."""
    bench = Bench()

    with pytest.raises(kind) as caught:
        bench.submit(request_)

    assert kind is type(caught.value)
    assert [((*label, reason), 1)] == bench.metrics.rejected.items()
    assert ([], (0, 0)) == (bench.told, bench.in_flight)


def test_a_row_that_does_not_fit_into_a_slot_is_refused_with_its_size() -> None:
    """A request larger than a batch buffer is BatchTooLarge, and says how much there is."""
    bench = Bench()

    with pytest.raises(BatchTooLarge) as caught:
        bench.submit(make_request(dims=(1 << 14,)))

    assert (
        "the inputs of this request to 'echo' have 65536 bytes, and one batch may have 65472 "
        "(the server's --slot-bytes)"
    ) == str(caught.value)


def test_the_limit_of_requests_holds_and_frees() -> None:
    """The request over the limit is refused with the limit; after an end the next is taken."""
    bench = Bench(limits=LimitSettings(max_inflight_requests=2))
    bench.submit(make_request(id="a"))
    bench.submit(make_request(id="b"))

    with pytest.raises(Overloaded) as caught:
        bench.submit(make_request(id="c"))
    bench.clock.run_soon()
    bench.executor.complete_next()
    bench.submit(make_request(id="d"))

    assert ("REQUEST_LIMIT", "2 requests are in flight, as many as the server takes") == (
        caught.value.reason,
        str(caught.value),
    )
    assert (1, 4) == bench.in_flight


def test_the_limit_of_bytes_holds() -> None:
    """The byte over the limit is refused, the last one within is not."""
    bench = Bench(limits=LimitSettings(max_inflight_bytes=40))
    bench.submit(make_request(dims=(8,)))

    with pytest.raises(Overloaded) as caught:
        bench.submit(make_request(dims=(3,)))
    bench.submit(make_request(dims=(2,)))

    assert ("BYTE_BUDGET", (2, 40)) == (caught.value.reason, bench.in_flight)


def test_a_full_queue_gives_the_admission_back() -> None:
    """What the scheduler refuses is not in flight."""
    bench = Bench(version_of(limits=LIMITS._replace(max_queue_rows=2)))
    bench.submit(make_request(rows=2))

    with pytest.raises(Overloaded):
        bench.submit(make_request())

    assert (1, 8) == bench.in_flight
    assert [(("echo", "1", "full"), 1)] == bench.metrics.rejected.items()


def test_draining_refuses_what_is_new_and_finishes_what_is_not() -> None:
    """From the moment draining is set nothing is admitted; what was is answered."""
    bench = Bench()
    bench.submit(make_request(id="a"))
    bench.admission.draining = True

    with pytest.raises(Draining):
        bench.submit(make_request(id="b"))
    bench.clock.run_soon()
    bench.executor.complete_next()

    assert ["a"] == [name for name, _, _ in bench.told]
    assert (0, 0) == bench.in_flight


def test_a_drain_tells_when_the_last_request_has_ended() -> None:
    """The call comes with the last end, reply or cancellation, or at once if none is left."""
    bench = Bench()
    idle: list[str] = []
    entries = [bench.submit(make_request()) for _ in range(2)]
    bench.admission.drain(lambda: idle.append("told"))

    bench.clock.run_soon()
    bench.engine.cancel(entries[0])
    assert [] == idle
    bench.executor.complete_next()
    assert ["told"] == idle

    bench.admission.drain(lambda: idle.append("at once"))
    assert ["told", "at once"] == idle


def test_cancelling_frees_once_whenever_it_comes() -> None:
    """Cancelled while it waits or runs, and twice: the counts are 0 and nobody is called."""
    bench = Bench()
    waiting, running = bench.submit(make_request()), bench.submit(make_request())
    bench.engine.cancel(waiting)
    bench.engine.cancel(waiting)
    bench.clock.run_soon()
    bench.engine.cancel(running)
    bench.engine.cancel(running)
    bench.executor.complete_next()
    bench.engine.cancel(running)

    assert ([], (0, 0)) == (bench.told, bench.in_flight)


def test_a_waiter_that_cancels_its_neighbour_frees_it_once() -> None:
    """Counts stay right when an end makes another request of the same batch end."""
    bench = Bench()
    entries: list[Any] = []
    entries.append(bench.engine.submit(make_request(), lambda *_: bench.engine.cancel(entries[1])))
    entries.append(bench.submit(make_request(id="b")))
    bench.clock.run_soon()

    bench.executor.complete_next()

    assert ([], (0, 0)) == (bench.told, bench.in_flight)


def test_a_failure_is_told_counted_and_freed() -> None:
    """An accepted request that fails counts with its seconds, and its caller gets the error."""
    bench = Bench()
    bench.submit(make_request(id="a"))
    bench.clock.advance(0.25)

    bench.executor.fail_next(error := WorkerLost("gone"))

    figures = bench.metrics.figures(ECHO)
    assert [("a", None, error)] == bench.told
    assert (1, 0.25) == (figures.fail_count, figures.fail_seconds)
    assert (0, 0) == bench.in_flight


# -- what a request asks of the scheduler --------------------------------------------------------


def test_a_request_without_wishes_has_none() -> None:
    """No deadline, no timeout, the middle class, nobody's."""
    entry = Bench().submit(make_request())

    assert (math.inf, math.inf, 1, "") == (
        entry.deadline,
        entry.start_by,
        entry.priority,
        entry.tenant,
    )


def test_defaults_of_the_model_hold_from_arrival() -> None:
    """A default deadline and timeout begin when the request comes; so does a timeout of its own."""
    bench = Bench(version_of(limits=LIMITS._replace(default_slo=2.0, default_timeouts=(0.5,) * 3)))
    arrived = bench.clock.now()
    later = make_request()
    later.timeout = 0.75
    sooner = make_request(deadline=arrived + 9)
    sooner.timeout = 0.25

    entries = [bench.submit(request) for request in (make_request(), later, sooner)]

    assert [(2.0, 0.5), (2.0, 0.5), (9.0, 0.25)] == [
        (entry.deadline - arrived, entry.start_by - arrived) for entry in entries
    ]


def test_a_timeout_holds_where_the_model_has_none() -> None:
    """Other than with Triton, whose default of 0 makes it ignored."""
    bench = Bench()
    request = make_request()
    request.timeout = 0.25

    assert bench.clock.now() + 0.25 == bench.submit(request).start_by


def test_priority_and_tenant_reach_the_scheduler() -> None:
    """The class follows from the header, the tenant is the call's."""
    bench = Bench()
    request = make_request()
    request.header = dataclasses.replace(request.header, priority=1)
    request.tenant = "a"

    entry = bench.submit(request)

    assert (0, "a") == (entry.priority, entry.tenant)


def test_a_tenant_over_its_share_is_refused_and_freed_by_its_ends() -> None:
    """With tenants named, one may hold half while another has something in flight."""
    bench = Bench(limits=LimitSettings(max_inflight_requests=4, tenant_metadata_key="t"))
    requests = [make_request(id=f"{i}") for i in range(5)]
    for request, tenant in zip(requests, "abaaa", strict=True):
        request.tenant = tenant
    for request in requests[:3]:
        bench.submit(request)

    with pytest.raises(Overloaded) as caught:
        bench.submit(requests[3])
    bench.clock.run_soon()
    bench.executor.complete_next()
    bench.submit(requests[4])

    assert "TENANT_QUOTA" == caught.value.reason
    assert [(("echo", "1", "quota"), 1)] == bench.metrics.rejected.items()
    assert (1, 4) == bench.in_flight


# -- requests larger than a batch ----------------------------------------------------------------


def test_a_request_larger_than_a_batch_is_answered_in_one_reply() -> None:
    """Twenty rows are three batches of at most eight, one reply, and one request in the figures."""
    bench = Bench()
    request = make_request(id="a", rows=20, dims=(3,))
    [data] = request.data
    bench.submit(request)
    assert (1, 240) == bench.in_flight

    for _ in range(3):
        bench.clock.run_soon()
        bench.clock.advance(0.25)
        bench.executor.complete_next(stages=Stages(0.0, 0.125, 0.0))
    bench.clock.run_soon()

    [(_, reply, error)] = bench.told
    assert (None, 20, {"y": data}) == (error, reply.rows, reply.outputs)
    assert Timing(0.625, 0.0, 0.375, 0.0, 0.75) == reply.timing
    assert [7, 7, 6] == sorted((batch.rows for batch in bench.executor.started), reverse=True)
    figures = bench.metrics.figures(ECHO)
    assert (1, 0.75, 20, 3) == (
        figures.total.count,
        figures.total.sum,
        figures.rows,
        figures.batches,
    )
    assert [(("cpu", "echo", "1"), 0.0)] == bench.metrics.device_wasted.items()
    assert (0, 0) == bench.in_flight


def test_cancelling_a_request_in_parts_cancels_all_of_them() -> None:
    """Nothing of it waits or is in flight afterwards, and nobody is called."""
    bench = Bench()
    entry = bench.submit(make_request(rows=20))
    bench.clock.run_soon()

    bench.engine.cancel(entry)
    bench.engine.cancel(entry)
    bench.executor.complete_next()
    bench.clock.run_soon()

    assert ([], (0, 0)) == (bench.told, bench.in_flight)
    assert [(("echo", "1", "running"), 1)] == bench.metrics.cancelled_requests.items()
    assert 0 == bench.policy.figures.statistics().queued_rows
    assert 20 > sum(batch.rows for batch in bench.executor.started)


def test_a_part_that_finds_the_queue_full_takes_the_others_back() -> None:
    """All parts are queued, or none."""
    bench = Bench()
    bench.submit(make_request(rows=8))
    bench.clock.run_soon()
    bench.submit(make_request(rows=8))

    with pytest.raises(Overloaded) as caught:
        bench.submit(make_request(rows=60))

    assert "QUEUE_FULL" == caught.value.reason
    assert (8, (2, 64)) == (bench.policy.figures.statistics().queued_rows, bench.in_flight)


def test_a_part_that_fails_fails_the_request_once() -> None:
    """The first error ends it; what waits of it is gone, and it is one failure."""
    bench = Bench()
    bench.submit(make_request(id="a", rows=20))
    bench.clock.run_soon()

    bench.executor.fail_next(error := WorkerLost("gone"))
    bench.clock.run_soon()

    assert [("a", None, error)] == bench.told
    assert [(("echo", "1", "worker_lost"), 1)] == bench.metrics.rejected.items()
    assert (0, 0) == bench.in_flight
    assert 0 == bench.policy.figures.statistics().queued_rows


# -- the awaiting wrapper -----------------------------------------------------------------------


def test_infer_returns_the_reply_or_raises_the_error() -> None:
    """Await infer() is submit with a future."""

    async def scenario() -> None:
        bench = Bench()
        tasks = [
            asyncio.ensure_future(bench.engine.infer(make_request(id=n, dims=(d,))))
            for n, d in (("a", 1), ("b", 2))
        ]
        await asyncio.sleep(0)
        bench.clock.run_soon()
        bench.executor.complete_next()
        bench.executor.fail_next(error := WorkerLost("gone"))

        results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)

        assert ("a", error) == (results[0].id, results[1])
        assert (0, 0) == bench.in_flight

    asyncio.run(scenario())


def test_cancelling_the_wait_cancels_the_request() -> None:
    """When the task that awaits infer() is cancelled the request leaves its queue."""

    async def scenario() -> None:
        bench = Bench()
        task = asyncio.ensure_future(bench.engine.infer(make_request()))
        await asyncio.sleep(0)
        assert (1, 4) == bench.in_flight

        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert task.cancelled()
        assert (0, 0) == bench.in_flight
        assert 0 == bench.policy.figures.statistics().queued_rows

    asyncio.run(scenario())


# -- events -------------------------------------------------------------------------------------


def test_a_model_is_ready_from_its_first_load_to_its_last_loss() -> None:
    """Ready while one device has it; loading while a lost one is replaced."""
    bench = Bench(up=False)
    changes: list[VersionState] = []
    bench.engine.on_readiness(lambda: changes.append(bench.versions[0].state))
    for device in ("d0", "d1"):
        bench.engine.device_up(device)

    bench.engine.model_loaded("d0", ECHO, report())
    bench.engine.model_loaded("d1", ECHO, report())
    bench.engine.device_down("d0")
    bench.engine.device_down("d1")

    ready, loading = VersionState.READY, VersionState.LOADING
    assert [ready, ready, ready, loading] == changes
    with pytest.raises(ModelNotReady) as caught:
        bench.submit(make_request())
    assert (
        "Request for unknown model: 'echo' version 1 is not at ready state: "
        "the worker of d1 is being replaced"
    ) == str(caught.value)


def test_what_waits_survives_a_restart_and_fails_when_the_device_is_given_up() -> None:
    """device_down keeps the queue, device_failed fails it with ModelNotReady."""
    bench = Bench()
    bench.submit(make_request(id="a"))
    bench.engine.device_down("cpu")
    bench.clock.run_soon()
    assert ([], []) == (bench.told, bench.executor.started)

    bench.engine.device_failed("cpu", "its worker ended 6 times in a minute")

    [(name, _, error)] = bench.told
    assert ("a", ModelNotReady) == (name, type(error))
    assert (0, 0) == bench.in_flight
    with pytest.raises(DeviceFailed):
        bench.submit(make_request())


def test_sequences_of_a_load_that_was_replaced_end_with_their_worker() -> None:
    """The next worker has that load too, and nothing of what the requests before left there."""
    manifest = ModelManifest(sequence=SequenceConfig())
    old = ModelVersion(ECHO, SIGNATURE, LIMITS, "digest", manifest=manifest)
    bench = Bench(old)
    new = ModelVersion(ECHO._replace(load=1), SIGNATURE, LIMITS, "digest", manifest=manifest)
    for name in ("a", "b"):
        request = make_request(id=name)
        parameters = {"sequence_id": 7, "sequence_start": name == "a"}
        request.header = dataclasses.replace(request.header, parameters=parameters)
        bench.submit(request)
    bench.repository.begin(new, visible=False)
    bench.repository.show(new)
    old.retire()

    bench.engine.device_down("cpu")

    assert [("a", ModelNotReady), ("b", ModelNotReady)] == [
        (name, type(error)) for name, _, error in bench.told
    ]
    assert "sequence 7 of model 'echo' has ended, and must be started again" in str(
        bench.told[0][2]
    )
    assert (0, 0) == (*bench.in_flight[:1], old.in_flight)


def test_a_failed_device_takes_no_model_that_another_one_has() -> None:
    """What waits stays when a second device can run it."""
    bench = Bench()
    bench.engine.device_up("d1")
    bench.engine.model_loaded("d1", ECHO, report())
    bench.engine.device_down("cpu")

    bench.engine.device_failed("cpu", "gone")
    bench.submit(make_request(id="a"))
    bench.clock.run_soon()

    assert ["d1"] == [batch.device for batch in bench.executor.started]


def test_a_model_that_is_refused_everywhere_fails_what_waits() -> None:
    """After a refused load on the only device its entries end, and requests get the reason."""
    bench = Bench()
    bench.submit(make_request(id="a"))
    bench.engine.device_down("cpu")

    bench.engine.model_refused("cpu", ECHO, ModelError("its file changed"))

    assert [ModelNotReady] == [type(error) for _, _, error in bench.told]
    with pytest.raises(ModelLoadFailed) as caught:
        bench.submit(make_request())
    assert str(caught.value).endswith("version 1 is not at ready state: its file changed")


def test_a_model_that_is_gone_gets_no_batch() -> None:
    """After model_gone nothing of it starts on that device."""
    bench = Bench()
    bench.engine.model_gone("cpu", ECHO)

    bench.submit(make_request())
    bench.clock.run_soon()

    assert [] == bench.executor.started


def test_a_refusal_of_an_unknown_model_is_ignored() -> None:
    """Events about versions that are not in the repository change nothing."""
    bench = Bench()

    bench.engine.model_refused("cpu", ModelRef("other", 1), ModelError("late"))

    assert VersionState.READY is bench.versions[0].state
