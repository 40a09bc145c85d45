"""Requests of sequences: in order, in their rows, and never on another's state."""

from __future__ import annotations

import gc
import struct
import weakref
from typing import TYPE_CHECKING

import pytest
from sequences import REF, SequenceBench, make_sequence_key

from jitney.errors import (
    BatchTooLarge,
    DeadlineExpired,
    Draining,
    InferenceFailed,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    QueueTimeout,
    WorkerLost,
)
from jitney.scheduling.batch import NO_DEADLINE, State
from jitney.sequence import Strategy
from jitney.sequencing import SequencerStatistics

if TYPE_CHECKING:
    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Entry

MUST_START = (
    "inference request for sequence {} to model 'm' must specify the START flag on the first "
    "request of the sequence"
)


# -- one request after the other ------------------------------------------------------------------


def test_requests_of_a_sequence_run_one_after_the_other() -> None:
    """However fast they come, the scheduler has one of them at a time, in order."""
    bench = SequenceBench()
    for name, flags in (("a", "s"), ("b", ""), ("c", "e")):
        bench.send(7, name, flags)
    assert ["a"] == bench.handed

    bench.end("a")
    assert (["a", "b"], ["a"]) == (bench.handed, bench.ends.ids)
    bench.end("b", error=InferenceFailed("oh"))
    bench.end("c")

    assert ["a", "b", "c"] == bench.handed
    assert ({"a", "c"}, {"b"}) == (set(bench.ends.replies), set(bench.ends.errors))
    assert "reply c" == bench.ends.replies["c"]
    assert SequencerStatistics(0, 0, 0, 0) == bench.sequencer.statistics()


def test_the_model_is_told_what_the_row_is() -> None:
    """The controls follow the client's inputs, as data of their own; the rest stays as it was."""
    bench = SequenceBench()
    entry = bench.send(7, "a", "s", deadline=5000.0, start_by=4000.0, priority=2)
    [step] = bench.queued

    one, true, false = struct.pack("<i", 1), struct.pack("<f", 1), b"\0"
    assert [bytes(4), one, true, false] == list(step.request.data)
    assert (0, 1, 2, 3) == tuple(step.inputs)
    assert (4, 13) == (entry.nbytes, step.nbytes)
    assert [bytes(4)] == entry.request.data
    assert (entry.request.header, entry.request.carrier, "a", REF) == (
        step.request.header,
        step.request.carrier,
        step.request.id,
        step.key.model,
    )
    assert (5000.0, 4000.0, 2, entry.arrived) == (
        step.deadline,
        step.start_by,
        step.priority,
        step.arrived,
    )


def test_partial_replies_are_passed_on_as_those_of_the_request() -> None:
    """A model may give several replies to a request of a sequence."""
    bench, told = SequenceBench(), list[object]()
    entry = bench.send(7, "a", "s", partial=lambda *what: told.append(what))
    bench.send(8, "b", "s")
    first, second = bench.queued
    assert first.partial is not None
    first.partial(first, "one of two")
    assert ([(entry, "one of two")], None) == (told, second.partial)


@pytest.mark.parametrize("flags", ["", "e"])
def test_a_sequence_begins_with_a_start(flags: str) -> None:
    """The first request without it is refused in words that clients know, and so is the next."""
    bench = SequenceBench()
    for _ in range(2):
        with pytest.raises(InvalidRequest) as caught:
            bench.send("id", "a", flags)
        assert MUST_START.format("id") == str(caught.value)
    assert [] == bench.handed


def test_nothing_follows_an_end_but_a_start() -> None:
    """Also while the END has yet to run."""
    bench = SequenceBench()
    bench.send(7, "a", "s")
    bench.send(7, "b", "e")
    with pytest.raises(InvalidRequest, match="START flag"):
        bench.send(7, "c")
    bench.send(7, "d", "s")
    bench.send(7, "e")
    for _ in range(4):
        bench.end()
    assert ["a", "b", "d", "e"] == bench.ends.ids


def test_a_start_within_a_sequence_begins_it_anew() -> None:
    """What was before ends silently; what comes after waits for what came before."""
    bench = SequenceBench()
    for name, flags in (("a", "s"), ("b", ""), ("c", "s"), ("d", "")):
        bench.send(7, name, flags)
    for _ in range(4):
        bench.end()
    assert ["a", "b", "c", "d"] == bench.ends.ids
    assert SequencerStatistics(1, 1, 0, 0) == bench.sequencer.statistics()


def test_numbers_and_texts_are_different_ids() -> None:
    """1 and "1" are two sequences; -1 and 2⁶⁴ - 1 are one."""
    bench = SequenceBench(make_sequence_key(4))
    bench.send(1, "a", "s")
    bench.send("1", "b", "s")
    bench.send(-1, "c", "s")
    bench.send((1 << 64) - 1, "d")
    assert ["a", "b", "c"] == bench.handed


def test_a_request_has_one_row() -> None:
    """Several rows of a sequence cannot all come next."""
    bench = SequenceBench()
    with pytest.raises(InvalidRequest) as caught:
        bench.send(7, "a", "s", rows=2)
    assert (
        "inference request to model 'm' must specify batch-size 1 due to requirements of sequence "
        "batcher"
    ) == str(caught.value)


def test_the_controls_have_to_fit_into_a_batch_too() -> None:
    """What fits without them and not with them is refused, and nothing begins."""
    bench = SequenceBench(make_sequence_key(max_bytes=12))
    with pytest.raises(BatchTooLarge, match="13 bytes"):
        bench.send(7, "a", "s")
    assert None is bench.live(7)


# -- places ---------------------------------------------------------------------------------------


def test_a_sequence_keeps_its_row() -> None:
    """With the direct strategy it has one from START to END, and the others have others."""
    bench = SequenceBench(make_sequence_key(3))
    bench.send(1, "a1", "s")
    bench.send(2, "b1", "s")
    bench.send(3, "c1", "s")
    assert {"a1": 0, "b1": 1, "c1": 2} == bench.at_work

    bench.end()
    bench.send(3, "c2")
    bench.send(2, "b2", "e")
    assert {"c2": 2, "b2": 1} == bench.at_work
    bench.end()
    bench.send(4, "d1", "s")
    assert {"d1": 1} == bench.at_work


def test_new_sequences_wait_for_a_place() -> None:
    """First come, first served, with all their requests; nobody overtakes."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a1", "s")
    bench.send(2, "b1", "s")
    bench.send(3, "c1", "se")
    bench.send(2, "b2", "e")
    bench.send(1, "a2")
    bench.end()
    assert (["a1", "a2"], 2) == (bench.handed, bench.sequencer.statistics().backlog)

    bench.end()
    assert {} == bench.at_work  # the sequence goes on, and keeps its place
    bench.send(1, "a3", "e")
    for _ in range(4):
        bench.end()
    assert ["a1", "a2", "a3", "b1", "b2", "c1"] == bench.ends.ids


def test_the_oldest_strategy_has_any_row_and_a_limit_of_its_own() -> None:
    """As many sequences are active as the config says, whatever a batch holds."""
    bench = SequenceBench(strategy=Strategy.OLDEST, max_candidates=3)
    for sequence in range(1, 5):
        bench.send(sequence, f"{sequence}", "se")
    assert {"1": -1, "2": -1, "3": -1} == bench.at_work
    bench.end("2")
    assert {"1": -1, "3": -1, "4": -1} == bench.at_work


def test_the_oldest_strategy_has_as_many_as_a_batch_holds_by_itself() -> None:
    """Where the config names no number of candidates."""
    bench = SequenceBench(strategy=Strategy.OLDEST)
    for sequence in range(1, 5):
        bench.send(sequence, f"{sequence}", "se")
    assert {"1", "2"} == set(bench.at_work)


def test_a_model_without_a_batch_dimension_has_one_sequence() -> None:
    """There is one place: its batches are of one request."""
    bench = SequenceBench(make_sequence_key(1, batched=False))
    bench.send(1, "a", "s")
    bench.send(2, "b", "s")
    assert {"a": 0} == bench.at_work


def test_who_begins_anew_goes_behind_those_that_wait() -> None:
    """A caller who always starts the same sequence keeps nobody out for ever."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a1", "s")
    bench.send(1, "a2", "s")
    bench.send(2, "b1", "se")
    bench.end()
    assert {"b1": 0} == bench.at_work
    bench.end()
    assert {"a2": 0} == bench.at_work

    bench.end()
    bench.send(2, "b2", "se")  # an idle sequence has the place
    bench.send(1, "a3", "s")
    bench.clock.run_soon()
    assert {"b2": 0} == bench.at_work


def test_rows_of_another_size_must_have_a_batch_with_that_row() -> None:
    """Where large rows share smaller batches, a sequence that stands beyond them is told so."""
    large = make_sequence_key(1)
    bench = SequenceBench(make_sequence_key(2))
    bench.send(1, "a1", "s")
    bench.send(2, "b1", "s")
    bench.end()
    bench.send(1, "a2", key=large)
    with pytest.raises(BatchTooLarge, match=r"sequence 2 has row 1 of the batches of model 'm'"):
        bench.send(2, "b2", key=large)
    bench.send(2, "b3", "s", key=large)  # begun anew, it waits for the row that it needs
    assert ["a1", "b1", "a2"] == bench.handed
    bench.end()
    bench.send(1, "a3", "e")
    bench.end()
    assert {"b3": 0} == bench.at_work


# -- ends -----------------------------------------------------------------------------------------


def test_an_idle_sequence_is_forgotten() -> None:
    """After so many seconds from the end of its last request; its place is free then."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a", "s")
    bench.clock.advance(10)
    bench.end()
    bench.clock.advance(1.5)
    bench.send(1, "b")
    bench.clock.advance(1.5)
    bench.end()
    bench.send(2, "c", "s")
    bench.clock.advance(1.75)
    assert ["a", "b"] == bench.handed

    bench.clock.advance(0.25)
    assert ["a", "b", "c"] == bench.handed
    with pytest.raises(InvalidRequest) as caught:
        bench.send(1, "d")
    assert MUST_START.format(1) == str(caught.value)


def test_one_timer_serves_all_sequences() -> None:
    """However many are idle, and none is left when all are gone."""
    bench = SequenceBench(make_sequence_key(8))
    for sequence in range(1, 9):
        bench.send(sequence, f"{sequence}", "s")
        bench.end()
        bench.clock.advance(0.125)
    assert 1 == len(bench.clock.timers)
    bench.clock.advance(0.9375)
    assert 8 == bench.sequencer.statistics().active
    bench.clock.advance(0.125)
    assert 7 == bench.sequencer.statistics().active
    bench.clock.advance(10)
    assert (0, []) == (bench.sequencer.statistics().active, bench.clock.timers)


@pytest.mark.parametrize("handed", [False, True])
def test_a_start_that_never_ran_begins_nothing(handed: bool) -> None:  # noqa: FBT001
    """Cancelled while it waits, here or in the scheduler, it takes along what came behind it."""
    bench = SequenceBench(make_sequence_key(1))
    blocker = None if handed else bench.send(9, "blocker", "s")
    first = bench.send(1, "a", "s")
    bench.send(1, "b")
    bench.send(1, "c", "e")
    bench.send(1, "d", "s")

    assert "queued" == bench.sequencer.cancel(first)

    assert {"b", "c"} == set(bench.ends.errors)
    assert f"{MUST_START.format(1)}: the one that came was not answered" == str(
        bench.ends.errors["b"]
    )
    if blocker is not None:
        bench.sequencer.cancel(blocker)
    assert {"d": 0} == bench.at_work
    bench.end()
    bench.send(1, "e")
    assert {"e": 0} == bench.at_work


def test_a_start_that_is_late_begins_nothing() -> None:
    """The scheduler's refusal of a START ends what would continue another's state."""
    bench = SequenceBench()
    bench.send(1, "a", "s")
    bench.send(1, "b")
    bench.end("a", error=DeadlineExpired("late"))
    assert ["a", "b"] == list(bench.ends.errors)
    assert None is bench.live(1)


def test_a_start_that_failed_in_the_model_begins_nothing() -> None:
    """It may have failed before it was looked at, and the row has the state of another sequence."""
    bench = SequenceBench()
    bench.send(1, "a", "s")
    bench.send(1, "b")
    bench.send(1, "c", "s")
    bench.start("a")
    bench.end("a", error=InferenceFailed("oh"))
    assert ["a", "b"] == list(bench.ends.errors)
    assert {"c": 0} == bench.at_work


def test_another_request_that_failed_does_not_end_its_sequence() -> None:
    """Its caller was told that it does not count, and goes on."""
    bench = SequenceBench()
    bench.send(1, "a", "s")
    bench.end("a")
    bench.send(1, "b")
    bench.send(1, "c")
    bench.end("b", error=InferenceFailed("oh"))
    assert {"c": 0} == bench.at_work


def test_what_the_scheduler_refuses_at_once_is_refused_at_once() -> None:
    """A refused START leaves nothing behind, and a refused other request the sequence."""
    bench = SequenceBench()
    bench.refuses = Overloaded("full")
    with pytest.raises(Overloaded):
        bench.send(1, "a", "s")
    assert (None, 0) == (bench.live(1), bench.sequencer.statistics().active)

    bench.refuses = None
    bench.send(1, "a", "s")
    bench.end()
    bench.refuses = Overloaded("full")
    with pytest.raises(Overloaded):
        bench.send(1, "b", "e")
    bench.refuses = None
    bench.send(1, "b", "e")
    bench.end()
    assert ["a", "b"] == bench.ends.ids


def test_what_the_scheduler_refuses_later_ends_then() -> None:
    """Requests behind it come at once; behind a START they are refused as well."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a", "s")
    bench.send(1, "b")
    bench.send(1, "c", "e")
    bench.send(2, "d", "s")
    bench.send(2, "e")
    bench.send(3, "f", "s")
    bench.refuses = Overloaded("full")
    bench.end("a")

    assert ["a", "b", "c", "d", "e", "f"] == bench.ends.ids
    assert [Overloaded, Overloaded, Overloaded, InvalidRequest, Overloaded] == [
        type(error) for error in bench.ends.errors.values()
    ]
    assert SequencerStatistics(0, 0, 0, 0) == bench.sequencer.statistics()


def test_the_room_for_those_that_wait_is_limited() -> None:
    """Behind others of their sequence, and in the backlog; a START refused so begins nothing."""
    bench = SequenceBench(make_sequence_key(1, max_queue_rows=2))
    bench.send(1, "a", "s")
    bench.send(1, "b")
    bench.send(2, "c", "s")
    for sequence, flags in ((1, ""), (3, "s")):
        with pytest.raises(Overloaded, match="Exceeds maximum queue size") as caught:
            bench.send(sequence, "d", flags)
        assert "QUEUE_FULL" == caught.value.reason
    assert None is bench.live(3)
    assert {REF: 2} == bench.sequencer.waiting()

    with pytest.raises(Overloaded):
        bench.send(1, "e", "s")
    with pytest.raises(InvalidRequest):
        bench.send(1, "f")  # it would continue what the caller believes to have ended
    for _ in range(3):
        bench.end()
    assert ["a", "b", "c"] == bench.ends.ids


# -- cancelled, and late --------------------------------------------------------------------------


def test_a_cancelled_request_leaves_its_place_to_the_next() -> None:
    """Wherever it is; nobody is told of it."""
    bench = SequenceBench()
    first = bench.send(1, "a", "s")
    second = bench.send(1, "b")
    third = bench.send(1, "c")
    bench.send(1, "d", "e")
    bench.start("a")
    assert "queued" == bench.sequencer.cancel(second)
    assert "running" == bench.sequencer.cancel(first)
    assert {"c": 0} == bench.at_work
    assert "queued" == bench.sequencer.cancel(third)
    bench.end()

    assert ["d"] == bench.ends.ids
    assert ["running", "running"] == [bench.sequencer.cancel(e) for e in (first, second)]
    assert State.DONE is first.state is second.state
    assert 0 == bench.sequencer.statistics().active


def test_a_sequence_whose_end_was_cancelled_is_over() -> None:
    """Its caller will not continue it; who waits gets its place."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a", "s")
    last = bench.send(1, "b", "e")
    bench.send(2, "c", "s")
    bench.sequencer.cancel(last)
    bench.end("a")
    assert {"c": 0} == bench.at_work


def test_who_waits_for_too_long_ends_with_the_usual_errors() -> None:
    """At its deadline, or when it should have started, behind its own or in the backlog."""
    bench = SequenceBench(make_sequence_key(1))
    now = bench.clock.now()
    bench.send(1, "a", "s", deadline=now + 1)
    bench.send(1, "b", deadline=now + 1)
    bench.send(1, "c", start_by=now + 2, deadline=now + 3)
    bench.send(2, "d", "s", start_by=now + 4)
    bench.send(2, "e")

    bench.clock.advance(1)
    assert ["b"] == bench.ends.ids
    assert "Deadline Exceeded" in str(bench.ends.errors["b"])
    bench.clock.advance(1)
    assert (QueueTimeout, "Request timeout expired") == (
        type(bench.ends.errors["c"]),
        str(bench.ends.errors["c"]),
    )
    bench.clock.advance(2)
    assert ["b", "c", "d", "e"] == bench.ends.ids
    assert ("Request timeout expired", InvalidRequest) == (
        str(bench.ends.errors["d"]),
        type(bench.ends.errors["e"]),
    )
    assert {"a": 0} == bench.at_work
    assert [] == bench.clock.timers


def test_a_class_that_may_be_late_is_let_late() -> None:
    """It waits on, and then has no moment any more by which to start; its deadline it keeps."""
    bench = SequenceBench(make_sequence_key(1, delays_late=(False, True, False)))
    now = bench.clock.now()
    bench.send(1, "a", "s")
    bench.send(1, "b", start_by=now + 1)
    bench.send(1, "c", start_by=now + 1, deadline=now + 5)
    bench.send(1, "d", start_by=now + 1, priority=2)
    bench.clock.advance(2)
    assert ["d"] == bench.ends.ids
    bench.end("a")
    [step] = bench.queued
    assert (NO_DEADLINE, False) == (step.start_by, step.is_timed)
    bench.clock.advance(3)
    assert ["d", "a", "c"] == bench.ends.ids
    assert "Deadline Exceeded" in str(bench.ends.errors["c"])


# -- lost state -----------------------------------------------------------------------------------


def test_sequences_are_forgotten_with_their_model() -> None:
    """What waits is told to start again; what runs ends as it ends."""
    bench = SequenceBench(make_sequence_key(2))
    bench.send(1, "a", "s")
    bench.start()
    bench.send(1, "b")
    bench.send(2, "c", "s")
    bench.send(2, "d")
    bench.send(3, "e", "s")

    assert 4 == bench.sequencer.forget(REF, "the model was unloaded")

    assert {"b", "c", "d", "e"} == set(bench.ends.errors)
    assert {ModelNotReady} == {type(error) for error in bench.ends.errors.values()}
    assert (
        "the model was unloaded: sequence 2 of model 'm' has ended, and must be started again"
        == str(bench.ends.errors["c"])
    )
    with pytest.raises(InvalidRequest):
        bench.send(1, "f")
    bench.send(1, "g", "s")
    bench.end()
    assert {"a", "g"} == set(bench.ends.replies)
    assert 0 == bench.sequencer.forget(REF, "again") + bench.sequencer.forget(REF, "and again")


def test_a_lost_worker_ends_all_sequences() -> None:
    """Those in the batch say so; the others are not continued on a worker that knows nothing."""
    bench = SequenceBench(make_sequence_key(3))
    for sequence in (1, 2, 3):
        bench.send(sequence, f"a{sequence}", "s")
    bench.end("a3")
    bench.start()
    bench.send(1, "b1")
    bench.end(error=WorkerLost("the worker ended"))

    assert {"a1": WorkerLost, "a2": WorkerLost, "b1": ModelNotReady} == {
        name: type(error) for name, error in bench.ends.errors.items()
    }
    assert "the worker ended: sequence 1 of model 'm' has ended, and must be started again" == str(
        bench.ends.errors["a1"]
    )
    with pytest.raises(InvalidRequest):
        bench.send(3, "b3")
    assert SequencerStatistics(0, 0, 0, 0) == bench.sequencer.statistics()


@pytest.mark.parametrize("drains", [False, True])
def test_nobody_waits_for_sequences_that_cannot_be_continued(drains: bool) -> None:  # noqa: FBT001
    """Once there are no further requests, a sequence ends with the last that it has."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a", "s")
    bench.end("a")
    for sequence in (2, 3):
        bench.send(sequence, f"b{sequence}", "s")
        bench.send(sequence, f"c{sequence}")
    if drains:
        bench.sequencer.drain()
    else:
        bench.sequencer.retire(REF)
        bench.sequencer.retire(REF._replace(load=1))

    for name in ("b2", "c2", "b3", "c3"):
        assert {name: 0} == bench.at_work
        bench.end(name)
    assert {"a", "b2", "c2", "b3", "c3"} == set(bench.ends.replies)
    assert SequencerStatistics(0, 0, 0, 0) == bench.sequencer.statistics()


def test_at_the_end_of_a_drain_the_rest_is_refused() -> None:
    """Whatever has not started, here and in the scheduler."""
    bench = SequenceBench()
    bench.send(1, "a", "s")
    bench.start()
    bench.send(1, "b")
    bench.send(2, "c", "s")
    assert 2 == bench.sequencer.refuse_rest()
    assert [Draining, Draining] == [type(error) for error in bench.ends.errors.values()]
    bench.end("a")
    assert {"a"} == set(bench.ends.replies)


# -- how it is used -------------------------------------------------------------------------------


def test_a_caller_may_answer_at_once() -> None:
    """Who is told of an end may submit the next, and cancel others, from where he is told."""
    bench = SequenceBench(make_sequence_key(1))
    sent: list[Entry] = []
    cancelled: set[Entry] = set()

    def told(entry: Entry, reply: object, error: JitneyError | None) -> None:
        bench.ends(entry, reply, error)
        while len(sent) < 500:
            number = len(sent)
            sent.append(bench.send(1 + number % 5, f"{number}", "se" if number % 3 else "s"))
            if number % 7 == 6:
                cancelled.add(sent[-3])
                bench.sequencer.cancel(sent[-3])
            if number % 4 == 0:
                break

    bench.done = told
    bench.send(9, "first", "se")
    for _ in range(600):
        bench.end()
        bench.clock.advance(1)  # those without an END are forgotten
    ended = {entry for entry, _, _ in bench.ends.all}
    assert 500 == len(sent)
    assert {*sent} <= ended | cancelled
    assert 0 == bench.sequencer.statistics().waiting


def test_no_submit_ends_its_own_request() -> None:
    """A caller has its entry before it is told of the end, whatever others do meanwhile."""
    bench = SequenceBench(make_sequence_key(1))
    bench.send(1, "a", "s")
    bench.end()
    bench.refuses = Overloaded("full")
    bench.send(2, "b", "s")  # behind the idle one
    bench.send(1, "c", "s")  # which goes behind it, and then both are refused
    assert ["a"] == bench.ends.ids
    bench.clock.run_soon()
    assert ["a", "b", "c"] == bench.ends.ids


def test_tensors_are_let_go_of_without_the_collector() -> None:
    """Nothing that ended is kept by a cycle: its data may be megabytes."""
    bench = SequenceBench(make_sequence_key(1))
    gc.collect()
    gc.disable()
    try:
        cancelled = bench.send(1, "a", "s", partial=lambda *_: None)
        entries = [cancelled, bench.send(1, "b", "s"), bench.send(1, "c")]
        entries.append(bench.send(2, "d", "se"))
        data = [weakref.ref(entry.request.data[0]) for entry in entries]
        bench.sequencer.cancel(cancelled)
        for _ in range(3):
            bench.end()
        assert 3 == len(bench.ends.all)
        bench.ends.all.clear()
        entries.clear()
        del cancelled
        assert [None] * 4 == [blob() for blob in data]
    finally:
        gc.enable()


def test_state_is_visible() -> None:
    """One line says how much there is of what."""
    bench = SequenceBench(make_sequence_key(2))
    bench.send(1, "a", "s")
    bench.end()
    bench.send(2, "b", "s")
    bench.send(2, "c")
    bench.send("x", "d", "s")
    assert "<Sequencer 2 active, 1 of them idle, 1 in the backlog, 2 requests waiting>" == repr(
        bench.sequencer
    )
    assert (
        "<LiveSequence 1 place 0, open, 0 waiting>",
        "<LiveSequence 2 place 1, runs, 1 waiting>",
        "<LiveSequence 'x' backlog, open, 1 waiting>",
    ) == tuple(repr(bench.live(sequence)) for sequence in (1, 2, "x"))
