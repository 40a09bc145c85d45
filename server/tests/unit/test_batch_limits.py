"""How long a batch may take."""

from __future__ import annotations

from jitney.execution.batch_limits import LEAST, BatchLimits
from jitney.scheduling.batch import Batch, BatchKey, Reason
from jitney.testing import make_key

KEY, OTHER = make_key("a"), make_key("b")


def batch(planned: float, key: BatchKey = KEY) -> Batch:
    """Return an empty batch that is planned to take so many seconds."""
    made = Batch(key, [], 1, Reason.IDLE, "cpu", 0.0)
    made.planned = planned
    return made


def test_the_first_batch_of_a_shape_has_all_the_time() -> None:
    """It may compile; so may the first one in a new process."""
    limits = BatchLimits(60.0, 100.0)
    assert 60.0 == limits.of(batch(0.05))
    limits.ran(batch(0.05), 0.05)
    assert 5.0 == limits.of(batch(0.05))
    limits.restart()
    assert 60.0 == limits.of(batch(0.05))


def test_a_limit_is_between_two_seconds_and_the_most() -> None:
    """A plan of a millisecond leaves two seconds, one of a minute no more than the most."""
    limits = BatchLimits(60.0, 100.0)
    limits.ran(batch(0.001), 0.001)
    assert [LEAST, 60.0] == [limits.of(batch(planned)) for planned in (0.001, 60.0)]


def test_what_ended_well_once_may_take_ten_times_as_long() -> None:
    """The values of a request may make it far longer than its neighbours."""
    limits = BatchLimits(60.0, 100.0)
    for seconds in (1.5, 0.01):
        limits.ran(batch(0.01), seconds)
    assert 15.0 == limits.of(batch(0.01))


def test_without_a_plan_or_a_factor_there_is_the_most() -> None:
    """Of what nothing is known, nothing is concluded."""
    for factor, planned in ((100.0, 0.0), (0.0, 0.05)):
        limits = BatchLimits(60.0, factor)
        limits.ran(batch(planned), 0.01)
        assert 60.0 == limits.of(batch(planned))


def test_unloaded_models_are_forgotten() -> None:
    """Their keys are let go, those of others stay."""
    limits = BatchLimits(60.0, 100.0)
    limits.ran(batch(0.05), 0.05)
    limits.ran(batch(0.05, OTHER), 0.05)
    limits.forget(KEY.model)
    assert [60.0, 5.0] == [limits.of(batch(0.05, key)) for key in (KEY, OTHER)]
    limits.restart()
    assert {OTHER} == set(limits._longest)
