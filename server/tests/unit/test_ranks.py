"""Who goes first within a queue when there is not enough for all."""

from __future__ import annotations

from profiles import line

from jitney.scheduling.batch import NORMAL, Entry
from jitney.scheduling.fairness import Tenants
from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.plan import Terms
from jitney.scheduling.queue import KeyQueue
from jitney.scheduling.ranks import BLIND, Ranked, Ranks
from jitney.testing import make_entry, make_key

KEY = make_key(max_rows=8)
LATENCY = LatencyModel(line(1.0, 1.0), 8, least_spread=0.0)
TERMS = Terms(start=10.0, price=0.0, keep=0.4, max_rows=8, max_bytes=1 << 20, reach=32)


def tenants(*over: str) -> Tenants:
    """Return tenants of which some are over their share."""
    found = Tenants({})
    found.over = frozenset((tenant, KEY.model) for tenant in over)
    found.contested = frozenset(model for _, model in found.over)
    return found


def queue_of(*entries: Entry) -> KeyQueue:
    """Return a queue with these waiting."""
    queue = KeyQueue(KEY, LATENCY, 0.0)
    queue.worth = 1.0
    for entry in entries:
        queue.timed.push(entry)
    return queue


def due(slack: float, *, priority: int = NORMAL, tenant: str = "", rows: int = 1) -> Entry:
    """Return an entry that must end so long after the start of TERMS."""
    entry = make_entry(KEY, rows=rows, priority=priority, tenant=tenant)
    entry.position = TERMS.start + slack
    return entry


def ranked(queue: KeyQueue, who: Tenants | None = None, terms: Terms = TERMS) -> Ranked:
    """Plan for a queue in which something is in time."""
    made = Ranks(tenants() if who is None else who).plan(queue, LATENCY, terms)
    assert made is not None
    return made


def test_classes_rank_below_tenants_within_their_share() -> None:
    """The lowest class of a tenant within its share goes before the highest of one beyond it."""
    ranks = Ranks(tenants("greedy"))
    entries = [due(9, priority=p, tenant=t) for t in ("modest", "greedy") for p in range(3)]

    assert [0, 1, 2, 3, 4, 5] == [ranks.rank(entry) for entry in entries]


def test_one_batch_in_twenty_is_formed_without_regard_to_classes() -> None:
    """So that none starves; tenants still count."""
    ranks = Ranks(tenants("greedy"))
    low, greedy = due(9, priority=2), due(9, priority=2, tenant="greedy")
    seen = []
    for _ in range(2 * BLIND):
        seen.append((ranks.rank(low), ranks.rank(greedy)))
        ranks.count_batch()

    assert 2 == seen.count((0, 3))
    assert 2 * BLIND - 2 == seen.count((2, 5))


def test_the_batch_is_planned_for_the_best_rank_alone() -> None:
    """Tight entries of a lower class neither bound the batch of the higher one nor join it."""
    low, high = [due(2, priority=2) for _ in range(3)], [due(9, priority=0) for _ in range(8)]

    made = ranked(queue_of(*low, *high))

    assert (0, high, []) == (made.rank, list(made.chosen), list(made.victims))


def test_lower_ranks_fill_the_room_that_is_left() -> None:
    """Three of the high class leave room for five others, if they make nobody late."""
    high, low = [due(9, priority=0) for _ in range(3)], [due(20, priority=2) for _ in range(9)]

    made = ranked(queue_of(*high, *low))

    assert [*high, *low[:5]] == list(made.chosen)
    assert (8, True) == (made.plan.rows, made.plan.full)


def test_filling_makes_nobody_late() -> None:
    """Of rows that take a second each, three of the high class have time for one more."""
    high, low = [due(5, priority=0) for _ in range(3)], [due(20, priority=2) for _ in range(9)]

    made = ranked(queue_of(*high, *low))

    assert [*high, low[0]] == list(made.chosen)


def test_only_the_rank_that_is_planned_for_is_given_up() -> None:
    """A tight head of the high class is a victim; those of lower classes expire by themselves."""
    low, head = due(2, priority=2), due(2, priority=0)
    others = [due(9, priority=0) for _ in range(8)]

    made = ranked(queue_of(low, head, *others), terms=TERMS._replace(keep=0.0))

    assert ([head], others) == (list(made.victims), list(made.chosen))


def test_a_rank_in_which_nothing_is_in_time_is_passed_over() -> None:
    """The next one is planned for, and nobody is given up."""
    hopeless, low = due(1, priority=0), due(5, priority=2)

    made = ranked(queue_of(hopeless, low))

    assert (2, [low], []) == (made.rank, list(made.chosen), list(made.victims))


def test_nothing_in_time_is_no_plan() -> None:
    """A queue of which all would be late has nothing to send."""
    assert None is Ranks(tenants()).plan(queue_of(due(1)), LATENCY, TERMS)


def test_tenants_of_a_rank_take_turns_by_what_they_were_given() -> None:
    """Who was given less so far has more of the batch, until they are even."""
    who = tenants()
    who.served = {"a": 4.0, "b": 0.0}
    a, b = [due(9, tenant="a") for _ in range(8)], [due(9, tenant="b") for _ in range(8)]

    made = ranked(queue_of(*a, *b), who)

    assert {*a[:2], *b[:6]} == set(made.chosen)


def test_those_that_are_late_anyhow_do_not_hide_what_is_behind_them() -> None:
    """However many heads this device cannot serve, whom it can is found."""
    hopeless, patient = [due(1) for _ in range(100)], due(9, priority=0)

    assert [patient] == list(ranked(queue_of(*hopeless, patient)).chosen)


def test_a_wide_entry_is_planned_for_while_a_tenant_is_over() -> None:
    """Its rows are more than a best batch has; it leaves all the same."""
    wide = due(20, tenant="modest", rows=6)
    queue = queue_of(wide)
    queue.best_rows = 2

    assert [wide] == list(ranked(queue, tenants("greedy")).chosen)


def test_those_within_their_share_are_not_given_up_for_a_larger_batch() -> None:
    """Their rows count eight times when they are to be given up."""
    head, others = due(2, tenant="modest"), [due(9, tenant="modest") for _ in range(5)]

    protected = ranked(queue_of(head, *others), tenants("greedy"))
    unprotected = ranked(queue_of(head, *others))

    assert ([], [head]) == (list(protected.victims), list(unprotected.victims))
