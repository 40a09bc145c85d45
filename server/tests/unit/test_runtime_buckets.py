"""The ladder of batch sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.runtime.buckets import bucket_table, ladder


def test_the_ladder_grows_by_half_above_eight() -> None:
    """The documented sizes up to 128."""
    assert ladder(128) == (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@given(st.integers(1, 5000))
def test_the_largest_batch_is_always_a_bucket(max_rows: int) -> None:
    """The limit ends the ladder, which ascends strictly and starts at one row."""
    buckets = ladder(max_rows)

    assert (buckets[0], buckets[-1]) == (1, max_rows)
    assert sorted(set(buckets)) == list(buckets)


@given(st.integers(1, 1000))
def test_padding_wastes_at_most_a_third_above_four_and_three_rows_below(max_rows: int) -> None:
    """The table leads to the smallest bucket that is large enough."""
    table = bucket_table(ladder(max_rows))

    assert len(table) == max_rows + 1
    for rows in range(1, max_rows + 1):
        assert table[rows] >= rows
        assert table[rows] - rows <= max(3, table[rows] / 3)
        assert table[rows] == min(bucket for bucket in ladder(max_rows) if bucket >= rows)


def test_no_ladder_has_no_rows() -> None:
    """A limit below one row is refused."""
    with pytest.raises(ValueError, match="at least one row, got 0"):
        ladder(0)
