"""What the operator allows a model: its configuration where it says something, else the settings.

Clients count priority *levels*, as many as the operator likes; the scheduler has three *classes*.
``class_of`` maps one onto the other, and what is said of levels holds for their class.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from jitney.scheduling.batch import NORMAL, PRIORITIES, Mode

if TYPE_CHECKING:
    from jitney.config import BatchingSettings
    from jitney.repository.manifest import BatchingManifest, ModelManifest

    T = TypeVar("T")

__all__ = ["ModelLimits", "class_of", "level_class", "limits_of"]


class ModelLimits(NamedTuple):
    """What the operator allows: rows of a batch, rows waiting, and how long things may take.

    ``max_queue_delay`` is how long the oldest request may wait for company; ``default_slo`` and
    ``default_timeout`` stand in for a deadline and bound the wait for a batch, from arrival, both
    infinite for none. All three are seconds. ``default_priority`` is the protocol's, 1 the highest.
    ``slot_bytes`` is the size of a batch's inputs, all together, at most. ``split`` tells that
    requests larger than a batch may be served in parts, ``shared`` that several may share a batch.

    ``priority_levels`` is how many levels clients count, 0 for the three classes themselves. The
    tuples have an element per class: ``default_timeouts`` what ``default_timeout`` is for it,
    ``class_queue_rows`` the rows of it that may wait, ``delays_late`` whether it waits on, behind
    all others, where ``default_timeout`` would end it. The last two are empty where no class has
    anything of its own.
    """

    max_batch_size: int
    max_queue_rows: int
    max_queue_delay: float
    slot_bytes: int
    default_slo: float = math.inf
    default_timeout: float = math.inf
    default_priority: int = 2
    mode: Mode = Mode.LATENCY
    split: bool = True
    shared: bool = True
    priority_levels: int = 0
    default_timeouts: tuple[float, ...] = (math.inf,) * PRIORITIES
    class_queue_rows: tuple[int, ...] = ()
    delays_late: tuple[bool, ...] = ()


def limits_of(manifest: ModelManifest, defaults: BatchingSettings, slot_bytes: int) -> ModelLimits:
    """Return the limits of a model."""
    given = manifest.batching
    queue_rows = _first(given.max_queue_size, defaults.max_queue_size)
    timeout_ms = _first(given.default_timeout_ms, defaults.default_timeout_ms)
    # Middle of what there is, unless somebody says otherwise: the settings count three levels.
    middle = (given.priority_levels + 1) // 2 or defaults.default_priority
    return ModelLimits(
        max_batch_size=manifest.max_batch_size or defaults.max_batch_size,
        max_queue_rows=queue_rows,
        max_queue_delay=_first(given.max_queue_delay_ms, defaults.max_queue_delay_ms) / 1000,
        slot_bytes=slot_bytes,
        default_slo=_limit(_first(given.default_slo_ms, defaults.default_slo_ms)),
        default_timeout=_limit(timeout_ms),
        default_priority=_first(given.default_priority, middle),
        mode=Mode(_first(given.mode, defaults.mode)),
        split=_first(given.split_large_requests, defaults.split_large_requests),
        shared=given.enabled,
        priority_levels=given.priority_levels,
        default_timeouts=_timeouts(given, timeout_ms),
        class_queue_rows=_queue_rows(given, queue_rows),
        delays_late=_delays(given),
    )


def class_of(priority: int, limits: ModelLimits) -> int:
    """Return the scheduler's class, 0 the highest, of a request with this priority.

    :param priority: as the client sent it: 1 is the highest, 0 the model's default. Above the
        number of levels it is the default too, as Triton has it; where nobody counted levels, it is
        the lowest class.
    """
    levels = limits.priority_levels
    if not 0 < priority or (levels and priority > levels):
        priority = limits.default_priority
    return level_class(priority, levels)


def level_class(level: int, levels: int) -> int:
    """Return the class of one of ``levels`` levels: they are spread evenly, in order.

    A single level is the middle class: whoever counts to one wants to overtake nobody.
    """
    if not levels:
        return min(level, PRIORITIES) - 1
    if levels == 1:
        return NORMAL
    return (level - 1) * PRIORITIES // max(levels, PRIORITIES)


def _members(given: BatchingManifest) -> list[list[int]]:
    """Return the levels of each class."""
    members: list[list[int]] = [[] for _ in range(PRIORITIES)]
    for level in range(1, (given.priority_levels or PRIORITIES) + 1):
        members[level_class(level, given.priority_levels)].append(level)
    return members


def _timeouts(given: BatchingManifest, default_ms: float) -> tuple[float, ...]:
    """Return the default timeout of each class: the longest of its levels'."""
    by_level = {level: said.default_timeout_ms for level, said in given.levels.items()}
    return tuple(
        max((_limit(_first(by_level.get(level), default_ms)) for level in levels), default=math.inf)
        for levels in _members(given)
    )


def _queue_rows(given: BatchingManifest, most: int) -> tuple[int, ...]:
    """Return the rows of each class that may wait: the sum of its levels', and never above all."""
    by_level = {level: said.max_queue_size for level, said in given.levels.items()}
    if not any(by_level.values()):
        return ()
    return tuple(
        min(sum(by_level.get(level) or most for level in levels) or most, most)
        for levels in _members(given)
    )


def _delays(given: BatchingManifest) -> tuple[bool, ...]:
    """Return whether each class waits on when it is late: where all of its levels do."""
    by_level = {level: said.on_timeout for level, said in given.levels.items()}
    delays = tuple(
        bool(levels)
        and all((by_level.get(level) or given.on_timeout) == "delay" for level in levels)
        for levels in _members(given)
    )
    return delays if any(delays) else ()


def _first(given: T | None, default: T) -> T:
    return default if given is None else given


def _limit(milliseconds: float) -> float:
    """Return seconds; 0 means that there is no limit."""
    return milliseconds / 1000 if milliseconds else math.inf
