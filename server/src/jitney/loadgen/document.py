"""Results as one JSON document, from which the report is made."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jitney.loadgen.point import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.loadgen.point import Point
    from jitney.loadgen.search import Found

__all__ = ["machine", "make"]

FORMAT: Final = 1
PACKAGES: Final = ("jitney", "numpy", "protobuf", "grpcio", "uvloop")


def make(
    setup: dict[str, Any],
    points: Sequence[Point],
    found: Found | None = None,
    overload: Sequence[tuple[float, Point]] = (),
) -> dict[str, Any]:
    """Return the document.

    :param setup: what was asked for, in words and numbers.
    :param overload: points with their loads as multiples of the rate that was found.
    """
    return {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "setup": setup,
        "found": None if found is None else found.to_json(),
        "quantiles": QUANTILES,
        "points": [point.to_json() for point in points],
        "overload": [{"factor": factor, **point.to_json()} for factor, point in overload],
    }


def machine() -> dict[str, Any]:
    """Return the machine that made the load, and the versions there."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **versions},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
