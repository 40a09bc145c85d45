"""The environments that peers are installed in; ``make compare`` makes them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

__all__ = ["COMPAT", "PROGRAMS", "Environment", "torch_packages"]

ROOT: Final = Path(__file__).resolve().parents[3]
COMPAT: Final = ROOT / ".compat"
PROGRAMS: Final = Path(__file__).parent / "programs"


def torch_packages() -> str:
    """Return the folder of packages of this environment, the one with torch."""
    return str(Path(torch.__file__).resolve().parents[1])


@dataclass(frozen=True, slots=True)
class Environment:
    """A peer's own environment under ``.compat``; torch comes from ours: once on the disk."""

    name: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return COMPAT / f"venv-{self.name}"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def missing(self, package: str) -> str:
        """Return why a package is not there; empty when it is."""
        if (self.packages / package).exists():
            return ""
        return f"{package} is not installed (make {COMPAT.name}/{self.folder.name}/.done)"

    def version(self, distribution: str) -> str:
        """Return the version of an installed distribution."""
        found = sorted(self.packages.glob(f"{distribution}-*.dist-info"))
        return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else "unknown"

    def binary(self, name: str) -> str:
        """Return the path of one of its programs."""
        return str(self.folder / "bin" / name)

    def paths(self) -> str:
        """Return a ``PYTHONPATH``: our programs, its own packages, then ours for torch."""
        return os.pathsep.join((str(PROGRAMS), str(self.packages), torch_packages()))
