"""Turns of flows, and tenants over their share."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from jitney.scheduling import fairness
from jitney.scheduling.batch import NORMAL
from jitney.scheduling.fairness import Flows, Tenants
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.scheduling.batch import Entry
    from jitney.types import ModelRef

KEY = make_key()


def tagged(
    flows: Flows, tenant: str = "", seconds: float = 1.0, priority: int = NORMAL, model: str = "m"
) -> Entry:
    """Let an entry of a flow wait, by its tag."""
    key = KEY if model == "m" else make_key(model)
    entry = make_entry(key, tenant=tenant, priority=priority)
    entry.position = flows.tag(entry, seconds)
    return entry


def served(
    weights: Mapping[str, float], *flows: tuple[str, int], turns: int = 200
) -> Counter[tuple[str, int]]:
    """Serve flows that always have something waiting; return how often each had its turn."""
    fair = Flows(weights)
    waiting: list[tuple[float, int, Entry]] = []
    count = Counter[tuple[str, int]]()
    for number, (tenant, priority) in enumerate(flows):
        entry = tagged(fair, tenant, priority=priority)
        heapq.heappush(waiting, (entry.position, number, entry))
    for number in range(turns):
        _, _, entry = heapq.heappop(waiting)
        count[entry.tenant, entry.priority] += 1
        following = tagged(fair, entry.tenant, priority=entry.priority)
        fair.left([entry])
        heapq.heappush(waiting, (following.position, len(flows) + number, following))
    return count


# -- flows --------------------------------------------------------------------------------------


def test_a_lone_flow_is_served_in_order() -> None:
    """Tags rise with every entry, by its time."""
    flows = Flows({})

    assert [0.0, 1.0, 3.0] == [tagged(flows, seconds=s).position for s in (1.0, 2.0, 1.0)]


def test_flows_take_turns_in_proportion_to_their_weights() -> None:
    """Of two tenants of weights 3 and 1, one has three of four turns."""
    turns = served({"a": 3.0}, ("a", NORMAL), ("b", NORMAL))

    assert pytest.approx(150, abs=2) == turns["a", NORMAL]


def test_a_flow_of_long_requests_has_fewer_turns() -> None:
    """Turns are counted by device time: a second of one is as much as ten tenths of another."""
    flows = Flows({})

    long = [tagged(flows, "long", seconds=1.0) for _ in range(2)]
    short = [tagged(flows, "short", seconds=0.1) for _ in range(11)]

    assert pytest.approx(long[1].position) == short[10].position


def test_a_lower_class_has_one_turn_in_twenty() -> None:
    """It is far behind, and does not starve."""
    turns = served({}, ("", 0), ("", 1), turns=2000)

    assert pytest.approx(100, abs=2) == turns["", 1]


def test_one_that_was_idle_has_saved_nothing_up() -> None:
    """A flow that returns starts where the others are."""
    flows = Flows({})
    for _ in range(10):
        flows.left([tagged(flows, "busy")])

    assert 9.0 == tagged(flows, "back").position


def test_models_are_flows_of_their_own() -> None:
    """A tenant's requests to another model do not stand behind those to the first."""
    flows = Flows({})
    tagged(flows, "a")
    tagged(flows, "a")

    assert 0.0 == tagged(flows, "a", model="other").position


def test_what_was_never_done_is_not_charged() -> None:
    """A thousand requests that were cancelled do not keep the next one of their flow waiting."""
    flows = Flows({})
    for entry in [tagged(flows, "a") for _ in range(1000)]:
        flows.withdraw(entry)

    assert 0.0 == tagged(flows, "a").position


def test_whoever_waits_is_not_overtaken_by_newcomers_of_its_own_flow() -> None:
    """While one of it waits, what was cancelled before it still counts."""
    flows = Flows({})
    entries = [tagged(flows, "a") for _ in range(3)]
    flows.withdraw(entries[0])

    assert 3.0 == tagged(flows, "a").position


def test_what_is_put_back_waits_with_its_tag() -> None:
    """An entry that was taken and not begun counts as waiting again."""
    flows = Flows({})
    first, second = tagged(flows, "a"), tagged(flows, "a")
    flows.left([first, second])
    flows.back(second)
    flows.withdraw(second)

    assert {} == flows._waiting


def test_ten_thousand_flows_leave_no_list_behind() -> None:
    """Names come from the wire, so what is remembered of them is bounded."""
    flows = Flows({})

    for i in range(10_000):
        flows.left([tagged(flows, str(i))])

    assert len(flows._ends) <= fairness.REMEMBERED + 1
    assert {} == flows._waiting


# -- tenants ------------------------------------------------------------------------------------


def asks(tenant: str, model: str = "m") -> Entry:
    """Return an entry of a tenant for a model."""
    return make_entry(KEY if model == "m" else make_key(model), tenant=tenant)


@dataclass(frozen=True)
class Devices:
    """Some devices that share all models."""

    working: float
    models: frozenset[ModelRef] = frozenset()


def tenants_asking(
    demands: Mapping[str, float],
    weights: Mapping[str, float] | None = None,
    devices: float = 1.0,
) -> Tenants:
    """Return tenants whose demands, in devices, have been steady for long; "a/m" names a model."""
    tenants = Tenants(weights or {})
    now = 0.0
    for i in range(4000):
        now = i * 0.01
        for party, demand in demands.items():
            tenants.note_arrival(asks(*party.split("/")), demand * 0.01, 0.1, now)
    group = Devices(devices)
    tenants.update(lambda _: group, now)
    return tenants


def over(tenants: Tenants, *parties: str) -> list[str]:
    """Return which of some parties are over their share."""
    return [party for party in parties if tenants.is_over(asks(*party.split("/")))]


def test_while_there_is_room_nobody_is_over() -> None:
    """A tenant may use what is left of the devices, however much more than others that is."""
    assert frozenset() == tenants_asking({"greedy": 0.9, "modest": 0.05}).over


def test_who_asks_for_more_than_the_water_level_is_over() -> None:
    """Of a device, 2.0 and 0.1 are asked: the level is 0.9, and the modest one is within."""
    assert ["greedy"] == over(tenants_asking({"greedy": 2.0, "modest": 0.1}), "greedy", "modest")


def test_several_may_be_over() -> None:
    """Two that ask for twice the device each share what the third leaves."""
    tenants = tenants_asking({"a": 2.0, "b": 2.0, "modest": 0.1})

    assert ["a", "b"] == over(tenants, "a", "b", "modest")


def test_where_all_are_alike_nobody_is_over() -> None:
    """Nobody needs to be protected from anybody."""
    assert frozenset() == tenants_asking({"a": 1.0, "b": 1.0, "c": 1.0}).over


def test_a_lone_tenant_of_one_model_is_never_over() -> None:
    """It has all there is."""
    assert frozenset() == tenants_asking({"a": 5.0}).over


def test_a_busy_model_does_not_take_all_of_its_tenant_s_share() -> None:
    """A tenant's models share what it has as tenants share the devices."""
    tenants = tenants_asking({"a/busy": 5.0, "a/quiet": 0.2})

    assert ["a/busy"] == over(tenants, "a/busy", "a/quiet")


def test_weights_raise_the_level() -> None:
    """One of weight 3 is entitled to three quarters of the device, and asks for less."""
    assert ["b"] == over(tenants_asking({"a": 0.7, "b": 0.7}, {"a": 3.0}), "a", "b")
    assert [] == over(tenants_asking({"a": 0.7, "b": 0.7}), "a", "b")


def test_a_little_more_than_the_share_is_tolerated() -> None:
    """Demand is noisy: nobody is over by 5 %, and nobody who is hardly more so than another."""
    assert ["b"] == over(tenants_asking({"a": 0.525, "b": 0.8}), "a", "b")
    assert [] == over(tenants_asking({"a": 0.6, "b": 0.7}), "a", "b")


def test_without_devices_nobody_is_over() -> None:
    """While all devices are down, there is nothing to share, and nothing fails."""
    tenants = tenants_asking({"a": 1.0, "b": 0.1}, devices=0.0)

    assert 2 == len(tenants)


def test_what_tenants_were_given_is_counted_by_weight() -> None:
    """A second for a tenant of weight 2 counts half."""
    tenants = tenants_asking({"a": 0.1, "b": 0.1}, {"a": 2.0})

    tenants.charge("a", 1.0)
    tenants.charge("b", 1.0)

    assert {"a": 0.5, "b": 1.0} == tenants.served


def test_a_newcomer_starts_where_the_others_are() -> None:
    """It does not live on what it did not use before."""
    tenants = tenants_asking({"a": 0.1, "b": 0.1})
    tenants.charge("a", 5.0)
    tenants.charge("b", 7.0)

    tenants.note_arrival(asks("new"), 0.001, 0.1, 40.0)

    assert 5.0 == tenants.served["new"]


def test_shares_are_those_of_the_devices_that_are_asked() -> None:
    """Who keeps one group of devices busy is over there, and nobody is over on the others."""
    tenants = tenants_asking({"a/x": 2.0, "b/x": 0.1, "a/y": 0.4, "b/y": 0.1}, devices=3.0)
    assert [] == over(tenants, "a/x", "b/x", "a/y", "b/y")
    x, y = (make_key(name).model for name in "xy")
    groups = {x: Devices(1.0, frozenset({x})), y: Devices(1.0, frozenset({y}))}

    tenants.update(groups.__getitem__, 3999 * 0.01)

    assert ["a/x"] == over(tenants, "a/x", "b/x", "a/y", "b/y")
    assert {x} == tenants.contested


def test_who_asks_for_nothing_is_forgotten() -> None:
    """After an hour only the one who still asks is there; a late charge does not bring it back."""
    tenants = tenants_asking({"a": 0.1, "b": 0.1})
    tenants.note_arrival(asks("b"), 0.001, 0.1, 3600.0)

    group = Devices(1.0)
    tenants.update(lambda _: group, 3600.0)
    tenants.charge("a", 1.0)

    assert (1, {"b"}) == (len(tenants), set(tenants.served))


def test_ten_thousand_tenants_leave_no_list_behind() -> None:
    """Names come from the wire, so what is remembered of them is bounded."""
    tenants = Tenants({})

    for i in range(10_000):
        tenants.note_arrival(asks(str(i)), 0.001, 0.1, 0.0)

    assert len(tenants) == len(tenants.served) <= fairness.REMEMBERED
