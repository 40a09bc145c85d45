"""What stands in the labels of figures.

Labels come from the registry of models and from our own errors, never from the wire, or a caller
could make as many time series as there are names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jitney.errors import JitneyError
    from jitney.types import ModelRef

__all__ = ["MODEL", "UNKNOWN", "WHY", "labels_of", "why"]

MODEL: Final = ("model", "version")
UNKNOWN: Final = "_unknown"
"""The model label of requests that name no model we have."""
WHY: Final = {
    "QUEUE_FULL": "full",
    "REQUEST_LIMIT": "full",
    "EXPIRED": "expired",
    "DEADLINE_TOO_SHORT": "unreachable",
    "PREDICTED_LATE": "price",
    "SHED": "price",
    "TENANT_QUOTA": "quota",
    "BYTE_BUDGET": "bytes",
}
"""Reasons of errors to words on the metrics page: the few that an operator decides by. Every other
reason is its own word, in lower case."""


def why(error: JitneyError) -> str:
    """Return the word under which a refusal or failure is counted."""
    return WHY.get(error.reason) or error.reason.lower()


def labels_of(model: ModelRef | None) -> tuple[str, str]:
    """Return the labels of a version, or of requests that name none that we have."""
    return (UNKNOWN, "") if model is None else (model.name, str(model.version))
