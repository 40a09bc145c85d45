"""Decisions are made by a clock that never jumps; the wall clock only dates what people read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import jitney
import jitney_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

WALL = {"time", "time_ns", "localtime", "gmtime", "ctime", "now", "utcnow", "today"}
"""Names of functions that read it."""
OWNERS = {"time", "datetime", "date"}
DATES = {
    "jitney/clock.py": "wall_seconds, for all others",
    "jitney/loadgen/document.py": "when a report was made",
    "jitney/telemetry/log_lines.py": "when a record was made",
}
"""Who may read it, and what for."""
WALL_SECONDS = {
    "jitney/access/authority.py": "whether a token has expired, which is a date",
    "jitney/audit/log.py": "when a record was made",
    "jitney/cli/token_actions.py": "when a token expires",
    "jitney/clock.py": "it is there",
    "jitney/telemetry/model_figures.py": "the last inference, as ModelStatistics shows it",
    "jitney/telemetry/spans.py": "when a span began, for whoever collects them",
    "jitney/telemetry/tracing.py": "when a traced request ended",
    "jitney/transport/tls.py": "whether a certificate is valid, which is a date",
}
"""Who may ask ``clock.wall_seconds``, and what for."""


def sources(package: ModuleType) -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of a package: its path from the package's parent, and its tree."""
    assert package.__file__ is not None
    root = Path(package.__file__).parent
    for file in sorted(root.rglob("*.py")):
        yield file.relative_to(root.parent).as_posix(), ast.parse(file.read_text())


def readers(tree: ast.Module) -> set[str]:
    """Return the calls in a module that read the wall clock."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WALL:
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in OWNERS:
                found.add(f"{name}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module in OWNERS:
            found |= {f"{node.module}.{alias.name}" for alias in node.names if alias.name in WALL}
    return found


def test_only_what_dates_something_reads_the_wall_clock() -> None:
    """A clock that is set by an hour moves no deadline, no timer and no rate."""
    found = {
        path: calls
        for package in (jitney, jitney_client)
        for path, tree in sources(package)
        if (calls := readers(tree)) and path not in DATES
    }

    assert {} == found


def test_only_what_dates_something_asks_for_wall_seconds() -> None:
    """Each of them has a reason, and the list has no one else."""
    found = {
        path
        for path, tree in sources(jitney)
        if any(
            isinstance(node, ast.Name | ast.FunctionDef | ast.alias)
            and getattr(node, "id", getattr(node, "name", "")) == "wall_seconds"
            for node in ast.walk(tree)
        )
    }

    assert WALL_SECONDS.keys() == found


def test_whoever_reads_it_is_found() -> None:
    """In each of the ways in which Python code can."""
    ways = {
        "import time\ntime.time()": {"time.time"},
        "from time import time_ns": {"time.time_ns"},
        "import datetime\ndatetime.datetime.now()": {"datetime.now"},
        "from datetime import datetime\ndatetime.now(None)": {"datetime.now"},
        "import time\ntime.monotonic()": set(),
        "loop.time()": set(),
    }

    assert ways == {source: readers(ast.parse(source)) for source in ways}
