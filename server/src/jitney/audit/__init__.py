"""An audit log whose lines hang together: who did what to which model, and when.

``log.AuditLog`` is what the server holds; ``verification.verify`` is what an auditor runs.
"""

from jitney.audit.log import NO_AUDIT, Audit, AuditLog, AuditStatistics

__all__ = ["NO_AUDIT", "Audit", "AuditLog", "AuditStatistics"]
