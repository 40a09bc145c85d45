"""What the contract of Policy says of a decision, as checks against the model of it."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

from best_plan import best_plan, plan_from

from jitney.errors import DeadlineExpired, JitneyError, Overloaded
from jitney.scheduling.batch import (
    NO_DEADLINE,
    PRIORITIES,
    Batch,
    Entry,
    Mode,
    Reason,
    State,
)
from jitney.scheduling.placement import gap_sizes
from jitney.scheduling.policy import SOON

if TYPE_CHECKING:
    from policy_model import World
    from watched_policy import Closing

    from jitney.scheduling.latency import LatencyModel
    from jitney.scheduling.queue import KeyQueue

EPS = 2.0**-30
"""What sums of seconds, or of rows' worth, may be off by."""


# -- refusals -------------------------------------------------------------------------------------


def check_predicted(world: World, entry: Entry) -> None:
    """Check that nobody is said to be late beside an idle device, because of other devices' work.

    What waits before counts if it is of a model that any device with this one could run.
    """
    before = {e.key.model for e in world.waiting if e.is_timed and e.position <= entry.position}
    fit = [device for device in world.devices.values() if entry.key.model in device.models]
    if any(device.is_idle for device in fit):
        assert any(before & device.models for device in fit), "refused for nothing"


def check_refused(
    world: World, entry: Entry, error: JitneyError, *, victims: set[Entry], again: set[Entry]
) -> None:
    """Check that whoever is refused was there, and is refused for the reason that is given."""
    assert State.DONE is entry.state
    if not isinstance(error, DeadlineExpired):
        assert isinstance(error, Overloaded)
        assert "SHED" == error.reason
        assert error.retry_after > 0
        assert entry in victims
        assert entry in world.waiting
    elif entry in world.waiting:
        last = entry.deadline - world.reference(entry.key, entry.span)
        assert min(last - world.policy.margin(entry.key), entry.start_by) < world.now
        if entry.start_by < world.now:
            assert not _waits_on(entry), "refused instead of being put last"
    else:
        assert entry in again
        longest = max(
            (world.latency(n, entry.key).planned(entry.key.max_rows) for n in world.devices),
            default=0.0,
        )
        assert entry.deadline <= world.now + longest


def check_put_last(world: World, entry: Entry) -> None:
    """Check that an entry that did not start in time waits on behind the others, by its class."""
    assert State.DONE is not entry.state
    assert _waits_on(entry, world.classes[entry]), "put last, and not refused"
    assert world.start_by[entry] < world.now
    assert (PRIORITIES - 1, NO_DEADLINE) == (entry.priority, entry.start_by)
    assert entry.is_timed == (entry.deadline != NO_DEADLINE)
    if entry.is_timed:
        assert entry.deadline == entry.position


def _waits_on(entry: Entry, priority: int | None = None) -> bool:
    classes = entry.key.delays_late
    return bool(classes) and classes[entry.priority if priority is None else priority]


def check_victims_were_worth_it(world: World, victims: set[Entry]) -> None:
    """Check that nobody was given up whom a device that is still idle could serve."""
    if not victims:
        return
    for name, device in world.devices.items():
        if device.is_idle and world.now >= world.policy.rests_until(name):
            for entry in victims:
                if entry.key.model in device.models:
                    least = world.latency(name, entry.key).planned(entry.span)
                    least += world.policy.margin(entry.key)
                    assert world.now + least > entry.position, "given up beside an idle device"


# -- batches --------------------------------------------------------------------------------------


def check_batch(world: World, batch: Batch, closing: Closing) -> None:
    """Check that a batch is what the contract says."""
    choice, key, device = closing.choice, batch.key, world.devices[batch.device]
    latency, eps = world.latency(batch.device, key), EPS * world.unit
    assert key.model in device.models
    assert batch.entries
    assert batch.entries == [*choice.timed, *choice.riders]
    assert batch.formed_at == world.now
    assert _rows(batch) == batch.rows <= key.max_rows
    assert sum(e.nbytes for e in batch.entries) == batch.nbytes
    if not key.fill:
        assert batch.nbytes <= key.max_bytes
    assert batch.planned == latency.planned(batch.rows)
    for entry in batch.entries:
        assert key is entry.key
        assert State.RUNNING is entry.state
        assert entry in world.waiting
        assert closing.terms.start + batch.planned <= entry.deadline + eps, "planned to be late"
        assert closing.start <= entry.start_by + eps, "planned to start late"
    assert batch.staged == (device.running is not None)
    if batch.staged:
        assert device.staged is None
        assert Reason.FULL is batch.reason
        assert not choice.victims
    if batch.reason is Reason.FULL:
        _check_full(batch, closing, latency)
    assert world.draining or batch.reason is not Reason.DRAIN
    if key.fill:
        _check_rows(closing, latency)
        return
    _check_order(world, closing, latency)
    _check_plan(closing, latency)


def _rows(batch: Batch) -> int:
    """Return how many rows a batch must have: up to the last one that is taken, if they are."""
    if not batch.key.fill:
        return sum(entry.rows for entry in batch.entries)
    rows = [entry.row for entry in batch.entries]
    assert len(rows) == len(set(rows)), "two entries in one row"
    assert all(entry.rows == 1 for entry in batch.entries)
    return 1 + max(rows)


def _check_rows(closing: Closing, latency: LatencyModel) -> None:
    """Check that nobody with a deadline and a free row was left behind for nothing.

    Whoever is would not be in time itself, or would make the batch late, or had no room.
    """
    choice, key = closing.choice, closing.choice.queue.key
    if not choice.timed:
        assert closing.background
        return
    taken = {entry.row for entry in (*choice.timed, *choice.riders)}
    due = min(entry.position for entry in choice.timed)
    nbytes = sum(entry.nbytes for entry in choice.timed)
    for entry in closing.timed:
        if entry in choice.timed or entry.row in taken:
            continue
        rows = max(entry.span, *(e.span for e in choice.timed))
        late = closing.terms.start + latency.planned(rows) > min(due, entry.position)
        gaps = sum(gap_sizes(key)) * rows
        assert late or nbytes + entry.nbytes + gaps > key.max_bytes, "left behind"


def _check_full(batch: Batch, closing: Closing, latency: LatencyModel) -> None:
    """Check that not one row more would fit, or not the next entry in order."""
    key, taken, lane = batch.key, closing.choice.timed, closing.timed
    most = key.max_rows
    if not taken:
        taken, lane = closing.choice.riders, closing.background
        most = min(most, latency.densest)
    if key.fill:
        gaps = sum(gap_sizes(key)) * key.max_rows
        assert len(batch.entries) == key.max_rows or batch.nbytes + gaps > key.max_bytes - 8
    elif batch.rows < most and batch.nbytes < key.max_bytes:
        following = lane[lane.index(taken[-1]) + 1]
        rows, nbytes = batch.rows + following.rows, batch.nbytes + following.nbytes
        assert rows > most or nbytes > key.max_bytes, "called full"


def _check_order(world: World, closing: Closing, latency: LatencyModel) -> None:
    """Check that nobody is overtaken in a queue of one class and tenant, or while there is room.

    Except those that this device cannot serve in time. Entries without deadline leave by tag.
    """
    choice = closing.choice
    assert closing.background[: len(choice.riders)] == list(choice.riders)
    alike = len({(entry.tenant, entry.priority) for entry in closing.timed}) <= 1
    if choice.timed and (alike or not world.policy.figures.statistics().tight):
        gone = [*choice.victims, *choice.timed]
        first = closing.timed.index(gone[0])
        assert closing.timed[first : first + len(gone)] == gone
        for entry in closing.timed[:first]:
            soonest = closing.terms.start + latency.planned(entry.rows)
            assert entry.position <= soonest + EPS * world.unit, "overtaken"
    assert all(a.position <= b.position for a, b in pairwise(choice.timed))


def _check_plan(closing: Closing, latency: LatencyModel) -> None:
    """Check that no other plan is worth more, and that whoever is given up adds to its value."""
    choice, terms, waiting = closing.choice, closing.terms, closing.timed
    if choice.victims:
        rows = sum(entry.rows for entry in waiting)
        assert (
            rows > terms.max_rows
            or sum(entry.nbytes for entry in waiting) > terms.max_bytes
            or latency.planned(rows) > waiting[0].position - terms.start
        ), "given up although all fit"
    if not choice.timed or choice.at is None:
        return
    skip = bisect_left(waiting, terms.start + latency.planned(1), key=_position)
    best = best_plan(waiting, latency.planned, terms, skip)
    first = best.skip + len(choice.victims)
    assert waiting[best.skip : first] == choice.victims
    made = plan_from(waiting, latency.planned, terms, best.skip, first)
    assert made.value >= best.value - EPS, "another plan is worth more"
    if choice.victims:
        kept = plan_from(waiting, latency.planned, terms, best.skip, best.skip)
        assert made.value >= kept.value - EPS, "given up for nothing"
    if not latency.pads:  # else it may have been cut back to a bucket
        assert waiting[first : made.end] == choice.timed


def _position(entry: Entry) -> float:
    return entry.position


def check_retry(world: World, batch: Batch) -> None:
    """Check that part of a failed batch runs again, alone, with those that still want it."""
    device = world.devices[batch.device]
    latency = world.latency(batch.device, batch.key)
    assert batch in world.retries
    assert batch.planned >= latency.planned(batch.rows)
    assert device.running is None
    assert not batch.staged
    assert batch.key.model in device.models
    assert batch.entries
    assert _rows(batch) == batch.rows
    assert sum(e.nbytes for e in batch.entries) == batch.nbytes
    for entry in batch.entries:
        assert State.RUNNING is entry.state
        assert entry not in world.ended
        assert entry.deadline > world.now


# -- what stays -----------------------------------------------------------------------------------


def note_last_moment(world: World, entry: Entry) -> None:
    """Note when an entry must have started, by what is estimated now."""
    last = entry.deadline - world.reference(entry.key, entry.span) - world.policy.margin(entry.key)
    world.last[entry] = min(last, entry.start_by)


def check_nobody_hopeless_waits(world: World) -> None:
    """Check that whoever cannot be in time has been told so.

    As the policy does, this looks again only when the moment that was estimated has come.
    """
    now = world.now - EPS * world.unit
    for entry in world.waiting:
        if world.last[entry] < now:
            note_last_moment(world, entry)
            assert world.last[entry] >= now, "hopeless, and not told"


def check_idle_devices(world: World) -> list[Entry]:
    """Check that none is idle beside what it may run, unless that waits for company.

    Return what does: the next turn must not find that it waited for too long. (Where the policy
    takes another device for faster, by figures up to a second old, it may.)
    """
    deferred: list[Entry] = []
    for name, device in world.devices.items():
        if not device.is_idle:
            continue
        assert not any(e.key.model in device.models for e in world.live_retries())
        rests = not world.draining and world.now < world.policy.rests_until(name)
        for queue in world.policy.waiting_queues:
            if queue.key.model in device.models:
                feasible = _feasible(world, name, queue)
                latency = world.latency(name, queue.key)
                waits = rests or _may_wait(world, queue, latency)
                assert not feasible or waits, "an idle device"
                deferred += [
                    entry
                    for entry in feasible
                    if not rests
                    and world.reference(queue.key, entry.span) <= latency.planned(entry.span)
                ]
    return deferred


def _feasible(world: World, device: str, queue: KeyQueue) -> list[Entry]:
    """Return what an idle device could still do in time, alone."""
    latency = world.latency(device, queue.key)
    start = world.now + world.policy.batch_margin(queue) + EPS * world.unit
    timed = [
        entry
        for entry in queue.timed.entries
        if start + latency.planned(entry.span) <= entry.position
    ]
    return [*timed, *queue.background.entries]


def _may_wait(world: World, queue: KeyQueue, latency: LatencyModel) -> bool:
    """Whether a queue may wait for company while a device is idle."""
    key = queue.key
    full = queue.is_full() and not world.policy.cuts_background(latency, key)
    if key.fill:  # two that want the same row do not fill two
        entries = (*queue.timed.entries, *queue.background.entries)
        full = full and len({entry.row for entry in entries}) >= key.max_rows
    if world.draining or (full and not queue.timed.entries):
        return False
    if key.mode is Mode.EFFICIENCY or queue.defers:
        return True
    return world.now < queue.oldest() + key.max_delay


def check_due(world: World) -> None:
    """Check that the next moment lies ahead, and is early enough for whatever needs it."""
    due = world.due
    assert due is None or due > world.now
    moments = [min(entry.deadline, entry.start_by) for entry in world.waiting]
    moments += [entry.deadline for entry in world.live_retries()]
    last = min(moments, default=math.inf) + (SOON + EPS) * world.unit
    assert last == math.inf or (due is not None and due <= last)
