"""What is seen of a worker from outside, and what follows."""

from __future__ import annotations

import pytest

from jitney.execution.ending import Cause, Ending
from jitney.execution.vigil import Timed, Vigil


def looks(vigil: Vigil, until: float, **signs: object) -> tuple[float, Ending] | None:
    """Look four times a second until something follows; return when, and what."""
    quarter = 400  # the clock stands at 100 when it begins
    while quarter <= until * 4:
        now = quarter / 4
        verdict = vigil.look(
            now,
            signs.get("heard", now),  # type: ignore[arg-type]  # given by name
            signs.get("first"),  # type: ignore[arg-type]
            lambda: bool(signs.get("stopped")),
            busy=bool(signs.get("busy")),
        )
        if verdict is not None:
            return now, verdict
        quarter += 1
    return None


def test_a_batch_beyond_its_limit_hangs() -> None:
    """It is found at the next look, and its worker is blamed for it."""
    found = looks(Vigil(), 110, first=Timed(100.0, 2.0), busy=True)

    assert (102.25, Ending("a batch took longer than 2 s", Cause.HUNG)) == found


def test_a_worker_that_shows_signs_is_let_be() -> None:
    """However long it has nothing to do."""
    assert looks(Vigil(), 200) is None


def test_a_stopped_process_is_found_within_two_seconds() -> None:
    """Whatever it was at; nobody is to blame."""
    for busy in (False, True):
        found = looks(Vigil(), 110, heard=100.0, stopped=True, busy=busy)
        assert (102.0, Ending("somebody stopped its process", Cause.OUTSIDE)) == found


def test_a_process_that_is_stopped_for_a_moment_is_let_be() -> None:
    """As by a debugger that attaches: it takes two looks in a row."""
    vigil = Vigil()
    answers = iter([True, False, True, False])
    for now in (1.0, 1.25, 1.5, 1.75):
        assert vigil.look(now + 100, 99.0, None, lambda: next(answers), busy=True) is None


@pytest.mark.parametrize(("busy", "found"), [(True, None), (False, 110.25)])
def test_a_long_silence_ends_a_worker_that_has_nothing_to_do(
    busy: bool,  # noqa: FBT001  # a parameter of the test
    found: float | None,
) -> None:
    """One that is at something has a limit for that."""
    verdict = looks(Vigil(), 130, heard=100.0, busy=busy)

    assert found == (verdict and verdict[0])


def test_whoever_stood_still_himself_judges_nobody() -> None:
    """After a pause of this process, all times begin anew."""
    vigil = Vigil()
    batch = Timed(100.0, 2.0)
    assert vigil.look(100.0, 100.0, batch, lambda: False, busy=True) is None
    assert vigil.look(160.0, 100.0, batch, lambda: False, busy=True) is None
    assert vigil.look(160.25, 100.0, None, lambda: False, busy=False) is None

    found = looks(vigil, 170, first=batch, heard=100.0)
    assert found is None or found[0] > 162.0
