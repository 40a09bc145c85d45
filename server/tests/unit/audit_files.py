"""Audit logs of tests, at a time that does not pass."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jitney.audit import AuditLog

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 10.0
"""Seconds within which a thread has written what it was given."""


def opened(path: Path, **options: Any) -> AuditLog:
    """Return a log of that file, at a time that does not pass."""
    return AuditLog(path, **{"max_bytes": 1 << 20, "now": lambda: 0.0, **options})


def write(path: Path, *events: str, **options: Any) -> None:
    """Record events and close the log."""
    log = opened(path, **options)
    for event in events:
        log.record(event)
    log.close()


def events(path: Path) -> list[str]:
    """Return the events of a file."""
    return [json.loads(line)["event"] for line in path.read_bytes().splitlines()]
