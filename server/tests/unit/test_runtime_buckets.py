"""The ladder of batch sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.runtime.buckets import bucket_table, ladder, refine


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


def seconds(sizes: tuple[int, ...]) -> list[float]:
    """Return what a device takes for these sizes: 1 ms per row and 20 ms per batch."""
    return [0.001 * rows + 0.02 for rows in sizes]


def test_buckets_lie_close_around_the_batch_that_a_promise_allows() -> None:
    """With 200 ms promised, four batches of 30 rows fit, and one of 180; steps are an eighth."""
    sizes = ladder(512)

    added = refine(sizes, seconds(sizes), 0.2)

    assert (30, 34, 38, 43, 54, 61, 69, 78, 88, 99, 111, 125, 141, 159, 179) == added


@pytest.mark.parametrize("slo", [0.0, 0.0419, -1.0])
def test_nothing_is_added_where_nothing_is_promised_or_kept(slo: float) -> None:
    """Two batches of one row take 42 ms: below that no size is worth a bucket."""
    sizes = ladder(512)

    assert () == refine(sizes, seconds(sizes), slo)


def test_a_flat_model_needs_no_further_buckets() -> None:
    """Where every size takes as long, the limit itself is what a batch aims at."""
    assert () == refine(ladder(64), [0.005] * len(ladder(64)), 0.1)


@given(st.integers(1, 600), st.floats(0, 10), st.floats(0, 0.01), st.floats(1e-6, 0.1))
def test_added_buckets_are_new_and_within_the_limit(
    max_rows: int, slo: float, per_row: float, per_batch: float
) -> None:
    """Whatever was measured, they ascend, are no buckets yet and lie below the largest."""
    sizes = ladder(max_rows)
    added = refine(sizes, [per_row * rows + per_batch for rows in sizes], slo)

    assert sorted(set(added) - set(sizes)) == list(added)
    assert all(1 < rows < max_rows for rows in added)
    assert len(added) < 64
