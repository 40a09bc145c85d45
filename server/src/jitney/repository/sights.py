"""What was seen of every model: compared with what is there now, it tells what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jitney.repository.integrity import SIGNATURE_FILE
from jitney.repository.listing import LISTING_FILE
from jitney.repository.scan import FoundModel, scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jitney.repository.integrity import Integrity

__all__ = ["Sight", "look"]


class Sight(NamedTuple):
    """What was seen of a model: equal as long as nothing about it changed.

    ``stamps`` tell a model's files by what costs nothing to ask. A new stamp on an old file costs
    a reading of it, and nothing more.
    """

    found: FoundModel
    stamps: tuple[tuple[int, int, int], ...]


def look(roots: Sequence[Path], integrity: Integrity) -> dict[str, Sight]:
    """Return what there is to be seen of every model of the repositories, by name.

    :raises ConfigError: when one of them cannot be read.
    """
    return {found.name: Sight(found, _stamps(found)) for found in scan(roots, integrity)}


def _stamps(found: FoundModel) -> tuple[tuple[int, int, int], ...]:
    stamps = []
    for version in found.versions:
        if version.path is None or found.folder is None:
            continue
        folder = found.folder / str(version.version)
        # What was refused for its manifest is looked at again when that was mended.
        for path in (version.path, folder / LISTING_FILE, folder / SIGNATURE_FILE):
            try:
                status = path.stat()
            except OSError:
                continue  # not there, or gone since; the next look tells
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)
