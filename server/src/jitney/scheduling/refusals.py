"""The errors with which the scheduler refuses: what is said, and when to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.errors import DeadlineExpired, DeadlineTooShort, Overloaded, QueueTimeout

if TYPE_CHECKING:
    from jitney.scheduling.batch import Entry
    from jitney.scheduling.queue import KeyQueue

__all__ = ["class_full", "expired", "late", "overloaded", "queue_full", "too_short"]

LEAST_WAIT: Final = 1e-3

_TEXTS: Final = {
    "PREDICTED_LATE": "what waits for model '{}' already would make this request late",
    "SHED": "model '{}' is overloaded: this request was given up so that others are in time",
    "TENANT_QUOTA": "the queue of model '{}' is full, mostly with requests of this tenant",
}


def overloaded(queue: KeyQueue, entry: Entry, reason: str, seconds: float = 0.0) -> Overloaded:
    """Return the refusal of an entry: come back after ``seconds``, or a batch's time."""
    wait = max(seconds, queue.latency.planned(queue.best_rows), LEAST_WAIT)
    return Overloaded(_TEXTS[reason].format(entry.key.model.name), reason=reason, retry_after=wait)


def queue_full(queue: KeyQueue, entry: Entry, rows: int) -> Overloaded:
    """Return the refusal of an entry that finds ``rows`` rows of its model waiting."""
    key = entry.key
    return _full(queue, f"{rows} rows of model '{key.model.name}'", key.max_queue_rows)


def class_full(queue: KeyQueue, entry: Entry, rows: int) -> Overloaded:
    """Return the refusal of an entry that finds ``rows`` rows of its model and class waiting."""
    key = entry.key
    what = f"{rows} rows of model '{key.model.name}' with the priority of this request"
    return _full(queue, what, key.class_queue_rows[entry.priority])


def _full(queue: KeyQueue, what: str, limit: int) -> Overloaded:
    msg = f"Exceeds maximum queue size: {what} are waiting, the limit is {limit}"
    wait = max(queue.latency.planned(queue.best_rows), LEAST_WAIT)
    return Overloaded(msg, reason="QUEUE_FULL", retry_after=wait)


def too_short(entry: Entry, now: float, least: float) -> DeadlineTooShort:
    """Return the refusal of an entry that alone would take ``least`` seconds."""
    left = max(0.0, entry.deadline - now)
    return DeadlineTooShort(
        f"Deadline Exceeded: {1e3 * left:.1f} ms are left for the request, and model "
        f"'{entry.key.model.name}' takes about {1e3 * least:.1f} ms for it alone"
    )


def expired(entry: Entry, now: float) -> DeadlineExpired:
    """Return the end of an entry that waited for too long."""
    if entry.start_by < now:
        return QueueTimeout("Request timeout expired")  # the protocol's text
    return late()


def late() -> DeadlineExpired:
    """Return the end of an entry whose deadline cannot be kept any more."""
    return DeadlineExpired(
        "Deadline Exceeded: the request waited until its deadline could not be kept"
    )
