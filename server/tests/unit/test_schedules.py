"""The contract of Policy on random schedules with faults: every event of each is checked.

A failure names its seed; ``python server/tests/unit/schedules.py --seed N --trace`` replays it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from schedules import START, Schedule

from jitney.scheduling import (
    choice,
    chooser,
    fairness,
    host,
    intake,
    latency,
    policy,
    prices,
    queue,
    waiting,
)

if TYPE_CHECKING:
    from policy_model import World

DURATIONS = (
    (prices, ("REPRICE_EVERY", "REPRICE_LEAST", "REPRICE_PER_QUEUE", "REFER_EVERY")),
    (policy, ("LONGEST_REST", "SOON")),
    (waiting, ("UNKNOWN_ROW",)),
    (choice, ("PATIENCE",)),
    (chooser, ("MOST_OWED",)),
    (fairness.Tenants, ("LONGEST_SPAN",)),
    (host, ("DOUBT_SECONDS", "FIRST_BATCH", "FIRST_REPLY")),
    (intake, ("DOUBT_AFTER",)),
    (latency, ("DOUBT_SECONDS", "LEAST_SECONDS")),
    (queue, ("LONGEST_SPAN",)),
)
"""All constants of the scheduler that are seconds."""


def play(seed: int, *, start: float = START, unit: float = 1.0) -> World:
    """Play a seed's schedule; whatever fails has the seed in it."""
    try:
        return Schedule(seed, start=start, unit=unit).play()
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("first", range(0, 10_000, 1000))
def test_every_schedule_keeps_the_invariants(first: int) -> None:
    """Whatever happens in whatever order, the contract of Policy holds after every event."""
    for seed in range(first, first + 1000):
        play(seed)


@pytest.mark.parametrize("seed", [31773, 35810, 102739])
def test_who_is_left_out_of_a_deferred_batch_does_not_wait_too_long(seed: int) -> None:
    """A batch waits for company only as long as those can that it leaves out."""
    play(seed)


def test_decisions_follow_from_the_events_alone() -> None:
    """The same schedule makes the same decisions a second time."""
    for seed in range(100):
        assert decisions(play(seed)) == decisions(play(seed))


def test_decisions_do_not_depend_on_when_it_is() -> None:
    """The same schedule makes the same decisions 512 seconds later."""
    for seed in range(100):
        assert decisions(play(seed)) == decisions(play(seed, start=START + 512))


@pytest.mark.parametrize("unit", [0.5, 4.0])
def test_decisions_do_not_depend_on_how_long_a_second_is(
    unit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When every time and every duration is halved, or four times as long, nothing changes.

    By a power of two, so that not even the last digit of a float does.
    """
    expected = [decisions(play(seed)) for seed in range(100)]
    for module, names in DURATIONS:
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name) * unit)

    for seed, decided in enumerate(expected):
        assert decided == decisions(play(seed, start=START * unit, unit=unit))


def decisions(world: World) -> list[str]:
    """Return what was decided, line by line."""
    return [repr(line) for line in world.log]
