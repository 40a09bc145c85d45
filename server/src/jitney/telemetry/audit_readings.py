"""What the metrics page tells about the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.telemetry.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.audit import AuditStatistics

__all__ = ["audit_readings"]


def audit_readings(read: Callable[[], AuditStatistics]) -> tuple[Reading, ...]:
    """Return the figures of the audit log; ``read`` is called on another thread."""
    return (
        Reading(
            "jitney_audit_records",
            "Records of the audit log that are in its file.",
            (),
            lambda: [((), read().written)],
            counts=True,
        ),
        Reading(
            "jitney_audit_lost",
            "Records of the audit log that could not be written for too long.",
            (),
            lambda: [((), read().lost)],
            counts=True,
        ),
        Reading(
            "jitney_audit_failing",
            "Whether the audit log cannot be written now.",
            (),
            lambda: [((), read().failing)],
        ),
    )
