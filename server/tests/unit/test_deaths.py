"""Who is to blame when a worker ends."""

from __future__ import annotations

from jitney.execution.deaths import WINDOW, Deaths, Verdict
from jitney.types import ModelRef

A, B = ModelRef("a", 1), ModelRef("b", 1)


def test_a_device_may_lose_its_worker_a_few_times() -> None:
    """With a limit of two, the third death within the window is one too many."""
    deaths = Deaths(2)
    verdicts = [deaths.note(float(t), None, others=True) for t in range(3)]
    assert [False, False, True] == [verdict.hopeless for verdict in verdicts]


def test_deaths_are_forgotten_after_a_while() -> None:
    """Those before the window do not count."""
    deaths = Deaths(1)
    deaths.note(0.0, None, others=True)
    assert Verdict(hopeless=False) == deaths.note(WINDOW + 0.001, None, others=True)
    assert 1 == len(deaths)


def test_the_third_crash_of_a_model_is_its_own() -> None:
    """It is refused, and its crashes no longer count against the device."""
    deaths = Deaths(2)
    deaths.note(0.0, A, others=True)
    deaths.note(1.0, A, others=True)
    assert Verdict(hopeless=False, refuse=A) == deaths.note(2.0, A, others=True)
    assert 0 == len(deaths)


def test_a_batch_and_the_first_of_its_parts_are_one_crash() -> None:
    """Each further part counts, and so does the next batch."""
    deaths = Deaths(9)
    parts = [False, True, False, True, True]
    verdicts = [deaths.note(float(t), A, others=True, again=p) for t, p in enumerate(parts)]
    assert [None] * 4 + [A] == [verdict.refuse for verdict in verdicts]


def test_a_device_is_not_given_up_for_a_model_that_can_be_refused() -> None:
    """Where it has lost its worker too often, every death of the model is a crash."""
    deaths = Deaths(2)
    verdicts = [deaths.note(float(t), A, others=True, again=t == 1) for t in range(3)]
    assert Verdict(hopeless=False, refuse=A) == verdicts[-1]


def test_models_that_crash_in_turn_are_counted_apart() -> None:
    """Two crashes of each are four deaths of the device and refuse nobody."""
    deaths = Deaths(3)
    verdicts = [deaths.note(float(t), (A, B)[t % 2], others=True) for t in range(4)]
    assert [None] * 4 == [verdict.refuse for verdict in verdicts]
    assert verdicts[-1].hopeless


def test_the_last_model_of_a_device_is_not_refused() -> None:
    """What it does counts against the device."""
    deaths = Deaths(3)
    verdicts = [deaths.note(float(t), A, others=False) for t in range(4)]
    assert Verdict(hopeless=True) == verdicts[-1]


def test_a_model_gets_one_more_try_to_load_and_again_after_it_loaded() -> None:
    """The first death during a load may come from outside; the second is the model's."""
    deaths = Deaths(9)
    assert [True, False] == [deaths.note_while_loading(A) for _ in range(2)]
    deaths.forgive(A)
    assert deaths.note_while_loading(A)


def test_a_model_that_cannot_be_loaded_counts_once() -> None:
    """However often it is tried, under whichever load, until the window has passed."""
    deaths = Deaths(1)
    for load in range(9):
        again = ModelRef("a", 1, load)
        assert Verdict(hopeless=False) == deaths.note_of_load(float(load), again, works=False)
    assert 1 == len(deaths)
    assert Verdict(hopeless=True) == deaths.note_of_load(10.0, B, works=False)
    deaths.note_of_load(2 * WINDOW, A, works=False)
    assert 1 == len(deaths)


def test_a_device_that_has_loaded_others_is_not_blamed_for_a_load() -> None:
    """It works, so whatever ends its processes while it is loaded does that by itself."""
    deaths = Deaths(0)
    for t, model in enumerate((A, B, A, B)):
        assert Verdict(hopeless=False) == deaths.note_of_load(float(t), model, works=True)
    assert 0 == len(deaths)
