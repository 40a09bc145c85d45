"""What the audit log is told of an error: which event it is, and of which file."""

from __future__ import annotations

from typing import Final

from jitney.errors import JitneyError, ModelError

__all__ = ["FAILED", "REFUSED", "digest_of", "event_of"]

REFUSED: Final = "model.refused"
"""Something was found that is not the author's or the operator's wish."""
FAILED: Final = "model.load_failed"
REFUSALS: Final = frozenset({"INTEGRITY", "SIGNATURE", "STATIC_SCAN"})


def event_of(error: JitneyError) -> str:
    """Return the event of a model that was not loaded because of this."""
    return REFUSED if error.reason in REFUSALS else FAILED


def digest_of(error: JitneyError) -> str:
    """Return the SHA-256 of the file that was not loaded, empty where it was not read that far."""
    return error.digest if isinstance(error, ModelError) else ""
