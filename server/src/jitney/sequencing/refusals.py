"""The errors with which requests of sequences are refused, in the words that clients know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.errors import (
    BatchTooLarge,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    WorkerLost,
)

if TYPE_CHECKING:
    from jitney.sequencing.step import Step

__all__ = [
    "forgotten",
    "lost",
    "orphaned",
    "queue_full",
    "several_rows",
    "too_large",
    "unstarted",
]


def several_rows(model: str) -> InvalidRequest:
    """Return the refusal of a request of several rows: they cannot all come next."""
    return InvalidRequest(
        f"inference request to model '{model}' must specify batch-size 1 due to requirements of "
        "sequence batcher"
    )


def too_large(step: Step) -> BatchTooLarge:
    """Return the refusal of a request that no batch holds."""
    return BatchTooLarge(
        f"the inputs of this request to '{step.key.model.name}' have {step.nbytes} bytes with "
        f"those that tell its sequence, and one batch may have {step.key.max_bytes} (the server's "
        "--slot-bytes)"
    )


def unstarted(step: Step) -> InvalidRequest:
    """Return the refusal of a request that continues nothing."""
    return InvalidRequest(_unstarted(step))


def orphaned(step: Step) -> InvalidRequest:
    """Return the end of a request that continues one that came to nothing."""
    return InvalidRequest(f"{_unstarted(step)}: the one that came was not answered")


def queue_full(step: Step, waiting: int) -> Overloaded:
    """Return the refusal of a request that finds ``waiting`` others before it."""
    key = step.key
    return Overloaded(
        f"Exceeds maximum queue size: {waiting} requests of sequences of model "
        f"'{key.model.name}' are waiting, the limit is {key.max_queue_rows}"
    )


def forgotten(step: Step, why: str) -> ModelNotReady:
    """Return the end of a request whose sequence is no more."""
    return ModelNotReady(f"{why}: {_must_start_again(step)}")


def lost(step: Step, error: WorkerLost) -> WorkerLost:
    """Return the end of a request that took its sequence with it."""
    return WorkerLost(f"{error}: {_must_start_again(step)}")


def _unstarted(step: Step) -> str:
    return (
        f"inference request for sequence {step.id} to model '{step.key.model.name}' must specify "
        "the START flag on the first request of the sequence"
    )


def _must_start_again(step: Step) -> str:
    return (
        f"sequence {step.id} of model '{step.key.model.name}' has ended, and must be started again"
    )
