"""Which of several batches goes first."""

from __future__ import annotations

import pytest
from profiles import line

from jitney.scheduling.batch import PRIORITIES, Reason
from jitney.scheduling.choice import BACKGROUND, PATIENCE, Choice, Choices
from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.queue import KeyQueue
from jitney.testing import make_entry, make_key

QUEUE = KeyQueue(make_key(), LatencyModel(line(1.0, 1.0), 4), 0.0)


def choice(
    latest: float,
    *,
    planned: float = 1.0,
    density: float = 1.0,
    rank: int = 0,
    arrived: float = 0.0,
    yields_until: float = 0.0,
) -> Choice:
    """Return a batch that must start by ``latest``."""
    entry = make_entry(QUEUE.key, arrived=arrived)
    return Choice(
        QUEUE,
        (),
        (),
        (entry,),
        1,
        planned,
        Reason.IDLE,
        rank,
        latest,
        density,
        None,
        yields_until,
    )


def choices(*ready: Choice) -> Choices:
    """Return choices that are all ready."""
    found = Choices()
    found.ready.extend(ready)
    return found


def test_nothing_ready_is_no_choice() -> None:
    """Without choices there is nothing to do."""
    assert None is Choices().best([])


def test_what_must_start_first_goes_first() -> None:
    """Of equal rank, whatever their order, the earliest latest start decides."""
    late, early = choice(9.0), choice(5.0)

    assert early is choices(late, early).best([])
    assert early is choices(early, late).best([])


def test_a_better_rank_goes_before_urgency() -> None:
    """A class above goes first although the one below must start sooner; background goes last."""
    urgent, ranked, background = choice(1.0, rank=1), choice(9.0), choice(0.0, rank=BACKGROUND)

    assert ranked is choices(urgent, background, ranked).best([])
    assert urgent is choices(urgent, background).best([2.0])


def test_of_equally_urgent_ones_the_denser_goes_first() -> None:
    """More rows per second of the device break a tie."""
    thin, dense = choice(5.0), choice(5.0, density=2.0)

    assert dense is choices(thin, dense).best([])


def test_a_denser_one_goes_first_if_the_others_can_wait() -> None:
    """Another device is free at 3, and the urgent one must start by 5: with its second, it can."""
    urgent, dense = choice(5.0), choice(7.0, density=2.0)

    assert dense is choices(urgent, dense).best([3.0])
    assert urgent is choices(urgent, dense).best([4.5])


def test_each_that_waits_has_a_device_of_its_own() -> None:
    """Two could wait for one device each, and not one behind the other on a single one."""
    urgent, second, dense = choice(5.0), choice(5.0), choice(9.0, density=2.0)

    assert dense is choices(urgent, second, dense).best([3.0, 3.0])
    assert urgent is choices(urgent, second, dense).best([3.5])


def test_a_denser_one_of_a_lower_rank_never_goes_first() -> None:
    """Density does not buy a class."""
    urgent, dense = choice(50.0), choice(70.0, density=9.0, rank=1)

    assert urgent is choices(urgent, dense).best([0.0])


@pytest.mark.parametrize(
    ("yields_until", "density", "free_at", "goes_first"),
    [
        (4.0, 2.0, 3.0, True),
        (2.0, 2.0, 3.0, False),  # the protected would wait for too long
        (4.0, 0.5, 3.0, False),  # it is not worth their waiting
        (9.0, 2.0, 4.5, False),  # they would be late
    ],
)
def test_the_protected_let_a_denser_batch_of_the_greedy_go_first_for_a_while(
    yields_until: float, density: float, free_at: float, *, goes_first: bool
) -> None:
    """While they have most of their time left, and another device is free soon enough."""
    protected = choice(5.0, yields_until=yields_until)
    greedy = choice(9.0, rank=PRIORITIES, density=density)

    best = choices(protected, greedy).best([free_at])

    assert best is (greedy if goes_first else protected)


def test_the_greedy_among_themselves_go_by_urgency() -> None:
    """Where nobody within his share waits, there is nobody to let them go first."""
    late, early = choice(9.0, rank=PRIORITIES), choice(5.0, rank=PRIORITIES)

    assert early is choices(late, early).best([3.0])


@pytest.mark.parametrize(
    ("now", "owed", "claims"),
    [
        (PATIENCE + 0.1, 1.0, True),
        (PATIENCE - 0.1, 1.0, False),  # it has not waited for long
        (PATIENCE + 0.1, 0.9, False),  # the reserve does not suffice
    ],
)
def test_patient_background_claims_the_reserve(now: float, owed: float, *, claims: bool) -> None:
    """It has waited for a second, and its time was saved up."""
    found = Choices()
    found.add_background(background := choice(3.0, planned=1.0, rank=BACKGROUND))

    assert (background if claims else None) is found.claim(now, owed)


def test_the_background_whose_turn_is_first_may_claim() -> None:
    """Tags decide between queues, in whatever order they are looked at."""
    first, second = choice(3.0, rank=BACKGROUND), choice(4.0, rank=BACKGROUND)
    for order in ((first, second), (second, first)):
        found = Choices()
        for one in order:
            found.add_background(one)
        assert first is found.background
