"""The place of requests in a sequence."""

from __future__ import annotations

import pytest

from jitney_client import Sequence


def test_the_first_starts_and_the_last_ends() -> None:
    """Everything between is neither."""
    sequence = Sequence("s")
    steps = [sequence.next(), sequence.next(), sequence.last()]
    assert [("s", True, False), ("s", False, False), ("s", False, True)] == [
        tuple(step.values()) for step in steps
    ]
    assert "<Sequence s ended>" == repr(sequence)
    with pytest.raises(ValueError, match="the sequence s has ended"):
        sequence.next()


def test_one_request_may_be_all() -> None:
    """The last one may be the first."""
    assert {"sequence_id": 3, "sequence_start": True, "sequence_end": True} == Sequence(3).last()


def test_ids_are_random_and_legal() -> None:
    """Two sequences never meet, and none has the number that means no sequence."""
    ids = {Sequence().id for _ in range(100)}
    assert 100 == len(ids)
    assert all(isinstance(i, int) and 0 < i < 1 << 63 for i in ids)
