"""Devices that share models, and what is asked of them."""

from __future__ import annotations

import pytest
from policies import bring_up, offer, policy_for
from profiles import line

from jitney.scheduling.load import LEAST_PRESSURE
from jitney.scheduling.policy import Policy, PolicySettings
from jitney.testing import make_key

A, B, C = (make_key(name, max_rows=8, max_queue_rows=1 << 20) for name in "abc")
PROFILE = line(0.001, 0.004)


def policy(**devices: str) -> Policy:
    """Return a policy with devices and the models on each, by their letters."""
    made = Policy(PolicySettings(least_spread=0.0))
    keys = {"a": A, "b": B, "c": C}
    for name, models in devices.items():
        bring_up(made, name, *(keys[letter] for letter in models), profile=PROFILE)
    return made


def groups(made: Policy) -> list[set[str]]:
    """Return the names of the devices of each group."""
    return [{d.name for d in group.devices} for group in made._fleet.groups if group.devices]


def ask(made: Policy, rate: float, *keys: object, until: float = 2.0, start: float = 0.0) -> None:
    """Let rows with a deadline of 100 ms arrive at a rate, of which none is served."""
    count = int(rate * (until - start))
    for i in range(count):
        now = start + i / rate
        for key in keys:
            entry = offer(made, key, at=now, deadline=now + 0.1)  # type: ignore[arg-type]  # keys
            made.cancel(entry)
    made.refresh(until)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ({"d0": "a", "d1": "a"}, [{"d0", "d1"}]),
        ({"d0": "a", "d1": "b"}, [{"d0"}, {"d1"}]),
        ({"d0": "a", "d1": "b", "d2": "ab"}, [{"d0", "d1", "d2"}]),
        ({"d0": "ab", "d1": "c", "d2": "b"}, [{"d1"}, {"d0", "d2"}]),
        ({"d0": "", "d1": "c"}, [{"d1"}]),
    ],
)
def test_devices_are_connected_by_the_models_that_they_run(
    devices: dict[str, str], expected: list[set[str]]
) -> None:
    """Also by way of a third one; those that run nothing are in no group."""
    assert expected == groups(policy(**devices))


def test_groups_follow_what_comes_and_goes() -> None:
    """A model that is loaded joins devices, one that is gone parts them, as does a lost device."""
    made = policy(d0="a", d1="b", d2="")
    for key in (A, B):
        made.model_ready("d2", key.model)
    assert [{"d0", "d1", "d2"}] == groups(made)

    made.model_gone("d2", A.model)
    assert [{"d0"}, {"d1", "d2"}] == groups(made)

    made.device_down("d0")
    assert [{"d1", "d2"}] == groups(made)


def test_devices_that_a_model_cannot_use_do_not_hide_that_there_is_too_much() -> None:
    """Nine idle devices of their own beside the one that is asked for twice what it can do."""
    alone = policy(d0="a")
    beside = policy(d0="a", **{f"builtin:{n}": "b" for n in range(9)})
    for made in (alone, beside):
        ask(made, 1000.0, A)

    for made in (alone, beside):
        figures = made.figures.statistics()
        assert (True, 1.0) == (figures.tight, figures.pressure)
    assert alone.figures.statistics().utilisation == beside.figures.statistics().utilisation


def test_a_busy_model_with_its_own_device_does_not_raise_the_price_of_others() -> None:
    """Its own group is tight, and that is what the figures show; the other has room."""
    made = policy(d0="a", d1="b")
    ask(made, 1000.0, A)
    offer(made, B, at=2.0, deadline=2.1)
    made.refresh(2.0)

    busy, idle = (made._fleet.group(key.model).load for key in (A, B))
    assert (True, False) == (busy.tight, idle.tight)
    assert (1.0, LEAST_PRESSURE) == (busy.pressure, idle.pressure)
    assert busy.utilisation == made.figures.statistics().utilisation
    assert 1 == round(idle.turns) - 1  # only its own queue takes turns on its device


def test_what_no_device_runs_is_asked_of_nobody() -> None:
    """A model that is being loaded again keeps its demand apart until it is there."""
    made = policy(d0="a", d1="b")
    ask(made, 1000.0, A)
    made.device_down("d0")
    offer(made, B, at=2.0, deadline=2.1)
    made.refresh(2.0)

    assert made._fleet.group(A.model).load.tight
    assert not made._fleet.group(B.model).load.tight

    made.model_ready("d1", A.model, PROFILE)
    made.turn(2.0)
    assert made._fleet.group(B.model).load.tight


def test_a_policy_without_devices_has_figures() -> None:
    """Nothing is asked, and nothing is there."""
    figures = policy_for().figures.statistics()

    assert (0.0, LEAST_PRESSURE, False) == (figures.utilisation, figures.pressure, figures.tight)
