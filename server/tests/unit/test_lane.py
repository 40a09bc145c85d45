"""Entries by position: order, ties, sums."""

from __future__ import annotations

import random

from jitney.scheduling.batch import NORMAL, Entry
from jitney.scheduling.lane import Lane
from jitney.testing import make_entry, make_key

KEY = make_key(max_rows=64)


def entry_at(position: float, rows: int = 1, priority: int = NORMAL) -> Entry:
    """Return an entry with a place to stand."""
    entry = make_entry(KEY, rows=rows, priority=priority)
    entry.position = position
    return entry


def lane_of(*entries: Entry) -> Lane:
    """Return a lane into which entries came in this order."""
    lane = Lane()
    for entry in entries:
        lane.push(entry)
    return lane


def test_entries_stand_by_position_and_equal_ones_by_arrival() -> None:
    """Whatever order they come in, the least position is first, and ties keep their order."""
    late, first, early, second = (entry_at(p) for p in (3.0, 2.0, 1.0, 2.0))

    assert [early, first, second, late] == lane_of(late, first, early, second).entries


def test_removing_takes_the_very_entry_out_of_its_equals() -> None:
    """Among entries of one position, the one that is named goes."""
    a, b, c = (entry_at(1.0, rows) for rows in (1, 2, 4))
    lane = lane_of(a, b, c)

    lane.remove(b)

    assert ([a, c], 5, 20) == (lane.entries, lane.rows, lane.nbytes)


def test_a_range_leaves_at_once() -> None:
    """remove_range takes neighbours out, and the sums follow; an empty range is nothing."""
    lane = lane_of(*(entry_at(p, rows) for p, rows in ((1.0, 1), (2.0, 2), (3.0, 4))))

    lane.remove_range(1, 1)
    assert (3, 7) == (len(lane), lane.rows)
    lane.remove_range(0, 2)

    assert (1, 4, 16) == (len(lane), lane.rows, lane.nbytes)


def test_it_knows_whether_classes_are_mixed() -> None:
    """Entries of one class are not mixed, those of two are, and nothing is not."""
    high, low = entry_at(1.0, priority=0), entry_at(2.0, priority=2)
    lane = lane_of(high)
    assert [False, False] == [Lane().is_mixed, lane.is_mixed]

    lane.push(low)
    assert lane.is_mixed
    lane.remove(high)
    assert not lane.is_mixed


def test_rows_before_counts_at_the_mean_size() -> None:
    """Two of three entries stand before the place: two thirds of the rows; an equal one counts."""
    lane = lane_of(*(entry_at(p, rows) for p, rows in ((1.0, 1), (2.0, 1), (3.0, 4))))

    assert [0.0, 4.0, 6.0] == [lane.rows_before(p) for p in (0.5, 2.0, 9.0)]
    assert 0.0 == Lane().rows_before(1.0)


def test_repr_is_a_status_line() -> None:
    """The repr shows entries and rows."""
    assert "<Lane 2 entries, 5 rows>" == repr(lane_of(entry_at(1.0, 2), entry_at(0.0, 3)))


def test_any_history_agrees_with_a_sorted_list() -> None:
    """Whatever comes and goes, the lane equals a stable sort of what is there."""
    chance = random.Random(0)  # noqa: S311  # a history, not a secret
    for _ in range(50):
        lane, there = Lane(), list[Entry]()
        for _ in range(60):
            step = chance.random()
            if step < 0.6 or not there:
                entry = entry_at(chance.randrange(8), chance.randint(1, 5), chance.randrange(3))
                lane.push(entry)
                there.append(entry)
            elif step < 0.85:
                lane.remove(there.pop(chance.randrange(len(there))))
            else:
                there.sort(key=lambda e: e.position)
                first = chance.randint(0, len(there))
                end = chance.randint(first, len(there))
                lane.remove_range(first, end)
                del there[first:end]
            expected = sorted(there, key=lambda e: e.position)
            assert expected == lane.entries
            assert [e.position for e in expected] == lane.positions
            assert sum(e.rows for e in there) == lane.rows
            assert sum(e.nbytes for e in there) == lane.nbytes
            assert [sum(e.priority == p for e in there) for p in range(3)] == lane.classes
