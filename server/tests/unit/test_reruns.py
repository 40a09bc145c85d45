"""What of a failed batch is run again."""

from __future__ import annotations

import pytest

from jitney.errors import InputRejected, JitneyError, OutOfDeviceMemory, Overloaded, WorkerLost
from jitney.scheduling.batch import Batch, Reason
from jitney.scheduling.reruns import MOST_LOSSES, MOST_PARTS, harm, parts_of
from jitney.testing import make_entry, make_key

WHOLE, APART = WorkerLost(rerun="whole"), WorkerLost(rerun="apart", suspect=True)


def batch(count: int, *, stateful: bool = False, losses: int = 0) -> Batch:
    """Return a batch of entries of one row."""
    key = make_key(max_rows=1024, stateful=stateful)
    made = Batch(key, [make_entry(key) for _ in range(count)], count, Reason.FULL, "d0", 1.0)
    made.losses = losses
    return made


@pytest.mark.parametrize(
    ("count", "error", "losses", "parts"),
    [
        (5, InputRejected("x"), 0, [(2, 0), (3, 0)]),
        (2, OutOfDeviceMemory(), 1, [(1, 1), (1, 1)]),
        (1, InputRejected("x"), 0, []),
        (3, Overloaded("x"), 0, []),
        (3, WorkerLost("x"), 0, []),
        (3, WHOLE, 0, [(3, 1)]),
        (1, WHOLE, 1, [(1, 2)]),
        (3, WHOLE, MOST_LOSSES, []),
        (3, APART, 0, [(1, 1)] * 3),
        (1, APART, 0, []),
        (3, APART, MOST_LOSSES, []),
    ],
)
def test_parts_by_what_went_wrong(
    count: int, error: JitneyError, losses: int, parts: list[tuple[int, int]]
) -> None:
    """Sizes of the parts, and how many workers their entries have seen the end of."""
    failed = batch(count, losses=losses)
    found = parts_of(failed, failed.entries, error)
    assert parts == [(part.rows, part.losses) for part in found]
    assert all(part.reason is Reason.RETRY for part in found)


def test_a_large_batch_is_run_again_in_a_bounded_number_of_parts() -> None:
    """Every entry is in one of them."""
    failed = batch(1000)
    parts = parts_of(failed, failed.entries, APART)
    assert len(parts) <= MOST_PARTS
    assert failed.entries == [entry for part in parts for entry in part.entries]


@pytest.mark.parametrize("error", [InputRejected("x"), WHOLE, APART])
def test_nothing_stateful_is_run_again(error: JitneyError) -> None:
    """Its state has moved on, or is gone."""
    failed = batch(4, stateful=True)
    assert [] == parts_of(failed, failed.entries, error)


def test_harm_is_what_others_suffered() -> None:
    """Workers that ended, and batches that failed; not a rejection that cost nobody else."""
    (retried, _) = parts_of(two := batch(2), two.entries, APART)
    (unlucky,) = parts_of(one := batch(1), one.entries, WHOLE)
    assert [0, 1, 0, 1, 2, 1] == [
        harm(batch(1), InputRejected("x")),
        harm(retried, InputRejected("x")),
        harm(batch(1), WHOLE),
        harm(batch(1), APART),
        harm(retried, APART),
        harm(unlucky, APART),
    ]
