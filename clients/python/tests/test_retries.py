"""When a failed call is made again."""

from __future__ import annotations

import random

import grpc
import pytest

from jitney_client import DeadlineExceeded, Overloaded, Retries, Unavailable
from jitney_client.retries import Retrying

CODE = grpc.StatusCode.UNAVAILABLE
LOST = Unavailable("lost", code=CODE)


def make(**options: float) -> Retrying:
    """Return a policy whose luck is the same each time."""
    rng = random.Random(7)  # noqa: S311  # not a secret
    return Retrying(Retries(**options), rng)  # type: ignore[arg-type]


def test_pauses_grow_and_end() -> None:
    """Without advice, each pause is about twice the last, up to the longest; then it is enough."""
    retrying = make(attempts=5, pause=0.1, longest=0.3)
    pauses = [retrying.pause_after(LOST, attempt, None) for attempt in range(1, 6)]
    for pause, middle in zip(pauses[:4], (0.1, 0.2, 0.3, 0.3), strict=True):
        assert pause == pytest.approx(middle, rel=0.2)
    assert pauses[4] is None


def test_advice_of_the_server_is_kept_exactly() -> None:
    """A pushback is waited for, no shorter and no longer."""
    full = Overloaded("full", code=CODE, retry_after=0.75)
    assert 0.75 == make().pause_after(full, 3, None)


def test_a_pause_up_to_the_deadline_is_too_long() -> None:
    """An attempt that could not begin in time is not waited for."""
    full = Overloaded("full", code=CODE, retry_after=0.75)
    assert make().pause_after(full, 1, 0.75) is None
    assert 0.75 == make().pause_after(full, 1, 0.76)


def test_what_is_not_safe_is_not_repeated() -> None:
    """An expired deadline stays expired."""
    assert make().pause_after(DeadlineExceeded("late", code=CODE), 1, None) is None


def test_nothing_is_repeated_while_most_fails() -> None:
    """Five failures in a row use up the budget; ten successes for each retry fill it again."""
    retrying = make(budget=0.1)

    def repeats(times: int) -> list[bool]:
        return [retrying.pause_after(LOST, 1, None) is not None for _ in range(times)]

    assert [True] * 5 + [False] * 2 == repeats(7)
    for _ in range(15):
        retrying.succeeded()
    assert [False] == repeats(1)
    for _ in range(40):
        retrying.succeeded()
    assert [True, True] == repeats(2)


def test_off_is_off() -> None:
    """Without a policy nothing is repeated, and nothing counted."""
    retrying = Retrying(None)
    retrying.succeeded()
    assert retrying.pause_after(LOST, 1, None) is None
    assert "<Retrying off>" == repr(retrying)
    assert "<Retrying 10.0 of 10>" == repr(make())
