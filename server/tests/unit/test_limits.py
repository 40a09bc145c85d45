"""Limits of models: priority levels of clients, and the classes that they become."""

from __future__ import annotations

import math

import pytest

from jitney.config import BatchingSettings
from jitney.repository.limits import ModelLimits, class_of, level_class, limits_of
from jitney.repository.manifest import BatchingManifest, LevelManifest, ModelManifest


def limits(batching: BatchingManifest) -> ModelLimits:
    """Return the limits of a model that says nothing else."""
    return limits_of(ModelManifest(batching=batching), BatchingSettings(), 1 << 20)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (0, [0, 1, 2]),
        (1, [1]),
        (2, [0, 1]),
        (3, [0, 1, 2]),
        (4, [0, 0, 1, 2]),
        (6, [0, 0, 1, 1, 2, 2]),
        (10, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]),
    ],
)
def test_levels_are_spread_over_the_classes_in_order(levels: int, expected: list[int]) -> None:
    """However many levels clients count, a lower number is never in a lower class."""
    assert expected == [level_class(level, levels) for level in range(1, (levels or 3) + 1)]


def test_our_own_levels_end_at_the_lowest_class() -> None:
    """Where nobody counts levels, 0 is the default, and what is above 3 is 3."""
    found = [class_of(priority, limits(BatchingManifest())) for priority in (0, 1, 2, 3, 4, 99)]
    assert [1, 0, 1, 2, 2, 2] == found


def test_a_level_above_the_last_is_the_default() -> None:
    """Where the operator counts levels, it is as in Triton."""
    of_five = limits(BatchingManifest(priority_levels=5, default_priority=5))
    assert [2, 0, 2, 2] == [class_of(priority, of_five) for priority in (0, 1, 5, 6)]


def test_levels_without_a_default_have_the_middle_one() -> None:
    """The settings count to three, so their default means nothing to other counts."""
    assert [2, 1, 3, 5] == [
        limits(BatchingManifest(priority_levels=n)).default_priority for n in (0, 1, 5, 10)
    ]


def test_nothing_of_its_own_is_nothing_to_look_at() -> None:
    """A model without policies by level costs the scheduler nothing."""
    plain = limits(BatchingManifest(default_timeout_ms=250))
    assert ((), (), (0.25,) * 3) == (
        plain.class_queue_rows,
        plain.delays_late,
        plain.default_timeouts,
    )


def test_policies_of_levels_become_those_of_their_class() -> None:
    """Bounds add up, the longest timeout holds, and a class delays if all of its levels do."""
    levels = {
        1: LevelManifest(max_queue_size=2, default_timeout_ms=100, on_timeout="delay"),
        2: LevelManifest(max_queue_size=3, default_timeout_ms=200, on_timeout="delay"),
        3: LevelManifest(default_timeout_ms=0, on_timeout="delay"),
        5: LevelManifest(max_queue_size=7),
        6: LevelManifest(max_queue_size=1),
    }
    found = limits(
        BatchingManifest(
            max_queue_size=100, default_timeout_ms=50, priority_levels=6, levels=levels
        )
    )

    assert (5, 100, 8) == found.class_queue_rows
    assert (0.2, math.inf, 0.05) == found.default_timeouts
    assert (True, False, False) == found.delays_late


def test_a_model_may_delay_in_every_class() -> None:
    """What the model says holds for the levels that say nothing."""
    found = limits(BatchingManifest(on_timeout="delay", levels={1: LevelManifest(3)}))
    assert ((True,) * 3, (3, 4096, 4096)) == (found.delays_late, found.class_queue_rows)
