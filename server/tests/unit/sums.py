"""That nobody is lost: what the policy holds, and all its sums, against the model of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jitney.scheduling.batch import PRIORITIES, Entry, State
from jitney.scheduling.entry_heap import SPARE
from jitney.scheduling.load import LEAST_PRESSURE

if TYPE_CHECKING:
    from policy_model import World

    from jitney.scheduling.lane import Lane


def check_sums(world: World) -> None:
    """Check that entries, rows and bytes are conserved, and that all sums say so."""
    policy, backlog, waiting = world.policy, world.policy.backlog, list(world.waiting)
    figures = policy.figures.statistics()
    rows = sum(entry.rows for entry in waiting)
    assert (len(waiting), rows) == (figures.queued_entries, figures.queued_rows)
    assert len({entry.key for entry in waiting}) == figures.queues
    assert LEAST_PRESSURE <= figures.pressure <= 1.0
    _check_places(world, running=figures.running, staged=figures.staged)
    seen: set[Entry] = set()
    for queue in policy.waiting_queues:
        for lane, timed in ((queue.timed, True), (queue.background, False)):
            _check_lane(lane)
            for entry in lane.entries:
                assert queue.key is entry.key
                assert timed == entry.is_timed
            seen.update(lane.entries)
    assert seen == world.waiting.keys()
    by_model, by_tenant, by_class = Counter[object](), Counter[object](), Counter[object]()
    for entry in waiting:
        by_model[entry.key.model] += entry.rows
        if entry.tenant:
            by_tenant[entry.key.model, entry.tenant] += entry.rows
        if entry.key.class_queue_rows:
            by_class[entry.key.model, entry.priority] += entry.rows
    assert by_model == policy.figures.queued_rows()
    assert by_tenant == backlog.tenant_rows
    assert by_class == backlog.class_rows
    timed_entries = sum(entry.is_timed for entry in waiting)
    for heap, count in (
        (backlog.expiries, timed_entries),
        (backlog.turns, len(waiting) - timed_entries),
    ):
        assert count == heap._live
        assert count <= len(heap) <= 2 * count + SPARE
    assert {queue for queue in policy.waiting_queues if queue.is_full()} == backlog.full
    assert policy.flows == Counter(
        (entry.tenant, entry.priority, entry.key.model) for entry in waiting if not entry.is_timed
    )
    again = {entry.key.model for entry in world.live_retries()}
    assert by_model.keys() | again <= policy.figures.waiting_models()


def _check_places(world: World, *, running: int, staged: int) -> None:
    """Check that every entry is in one place: waiting, in one batch, or ended."""
    devices = world.devices.values()
    begun = [batch for d in devices for batch in (d.running, d.staged) if batch is not None]
    assert running == sum(device.running is not None for device in devices)
    assert staged == sum(device.staged is not None for device in devices)
    places = [*world.waiting, *world.ended, *world.live_retries()]
    places += [e for batch in begun for e in batch.entries if e.state is State.RUNNING]
    assert len(places) == len(set(places)) == world.count - world.turned_away


def _check_lane(lane: Lane) -> None:
    entries = lane.entries
    assert lane.positions == [entry.position for entry in entries]
    assert lane.positions == sorted(lane.positions)
    assert lane.rows == sum(entry.rows for entry in entries)
    assert lane.nbytes == sum(entry.nbytes for entry in entries)
    classes = [entry.priority for entry in entries]
    assert lane.classes == [classes.count(p) for p in range(PRIORITIES)]


def check_nothing_left(world: World) -> None:
    """Check that after a drain nobody waits, and nothing is remembered of anybody."""
    policy, backlog = world.policy, world.policy.backlog
    assert world.count == world.turned_away + len(world.ended)
    figures = policy.figures.statistics()
    assert (0, 0, 0, 0, 0) == (
        figures.queued_entries,
        figures.queued_rows,
        figures.queues,
        figures.running,
        figures.staged,
    )
    assert set() == policy.figures.waiting_models()
    assert ({}, {}, {}) == (backlog.rows, backlog.tenant_rows, backlog.class_rows)
    assert set() == policy.unbegun
    assert None is policy.next_due(world.now)
