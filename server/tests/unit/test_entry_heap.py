"""Waiting entries by a number of theirs, and what is kept of those that left."""

from __future__ import annotations

from jitney.scheduling.batch import Entry, State
from jitney.scheduling.entry_heap import EntryHeap
from jitney.testing import make_entry, make_key

KEY = make_key()


def heap_of(*numbers: float) -> tuple[EntryHeap, list[Entry]]:
    """Return a heap with an entry for each number."""
    heap = EntryHeap()
    entries = [make_entry(KEY) for _ in numbers]
    for number, entry in zip(numbers, entries, strict=True):
        heap.push(number, entry)
    return heap, entries


def test_an_entry_is_due_after_its_moment_and_not_at_it() -> None:
    """At its last moment an entry can still be started; any later it is given out."""
    heap, [entry] = heap_of(5.0)

    assert (5.0, []) == (heap.next(), heap.pop_until(5.0))
    assert [entry] == heap.pop_until(5.000001)
    assert None is heap.next()


def test_entries_come_by_number_and_equal_ones_by_arrival() -> None:
    """All that are due come, in order."""
    heap, [late, first, early, second] = heap_of(3.0, 2.0, 1.0, 2.0)

    assert [early, first, second] == heap.pop_until(2.5)
    assert [late] == heap.pop_until(4.0)


def test_who_left_otherwise_is_never_given_out() -> None:
    """Entries that run or ended are stepped over."""
    heap, [running, done, waiting] = heap_of(1.0, 2.0, 3.0)
    running.state, done.state = State.RUNNING, State.DONE
    heap.left(2)

    assert 3.0 == heap.next()
    assert [waiting] == heap.pop_until(9.0)


def test_nothing_is_kept_when_nothing_waits() -> None:
    """However few left, their tensors are not held by a queue that is empty."""
    heap, [entry] = heap_of(1.0)
    entry.state = State.RUNNING
    heap.left()

    assert 0 == len(heap)


def test_an_entry_can_be_postponed() -> None:
    """What was given out too early comes again at its new moment."""
    heap, [entry] = heap_of(1.0)
    assert [entry] == heap.pop_until(2.0)

    heap.postpone(4.0, entry)

    assert ([], [entry]) == (heap.pop_until(3.0), heap.pop_until(5.0))


def test_the_first_few_begin_with_the_very_first() -> None:
    """Some waiting entries from the top, none of those that left, and the least is among them."""
    heap, entries = heap_of(3.0, 2.0, 1.0, 5.0)
    entries[1].state = State.DONE
    heap.left()

    first = heap.first(2, {KEY.model})

    assert entries[2] is first[0]
    assert (2, {State.QUEUED}) == (len(first), {entry.state for entry in first})
    assert set(entries) - {entries[1]} == set(heap.first(9, {KEY.model}))
    assert [] == EntryHeap().first(2, {KEY.model})


def test_the_first_few_are_of_models_that_are_asked_for() -> None:
    """However many of others are more urgent."""
    heap, _ = heap_of(*range(100))
    other = make_entry(make_key("other"))
    heap.push(1e9, other)

    assert [other] == heap.first(2, {other.key.model})


def test_ten_thousand_that_left_leave_no_list_behind() -> None:
    """The dead are swept out once they are more than half."""
    heap, [entry] = heap_of(1e9)

    for _ in range(10_000):
        other = make_entry(KEY)
        heap.push(1e9, other)
        other.state = State.DONE
        heap.left()

    assert len(heap) <= 67
    assert 1e9 == heap.next()
    assert [entry] == heap.pop_until(2e9)


def test_a_burst_that_was_served_is_not_kept_until_its_deadlines() -> None:
    """Without a further push, too, those who left are forgotten: they hold their tensors."""
    heap, entries = heap_of(*[1e9] * 1000)

    for entry in entries:
        entry.state = State.DONE
        heap.left()

    assert len(heap) <= 66
