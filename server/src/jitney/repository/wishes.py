"""From what was found of a model to what is wanted of it, and how its files are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.errors import ModelError
from jitney.repository.containment import real_path
from jitney.repository.contents import FolderContents
from jitney.repository.preparing import from_path
from jitney.repository.scan import FoundModel, FoundVersion, select_versions
from jitney.repository.side_files import nothing_to_read, reader_of
from jitney.repository.turnover import Wanted
from jitney.repository.uploads import uploaded

if TYPE_CHECKING:
    from jitney.repository.integrity import Integrity
    from jitney.repository.manifest import ModelManifest
    from jitney.repository.side_files import ReadFile
    from jitney.repository.uploads import Files

__all__ = ["NO_FILES", "reader_in", "wanted_of"]

NO_FILES: Final[Files] = {}


def wanted_of(
    found: FoundModel, manifest: ModelManifest, integrity: Integrity, files: Files = NO_FILES
) -> list[Wanted]:
    """Return the versions that should be served, ascending."""
    if files:
        return uploaded(found.name, files, manifest, integrity)
    return [
        _version_wanted(found, manifest.runtime.file, integrity, one)
        for one in select_versions(found, manifest.versions)
    ]


def _version_wanted(
    found: FoundModel, file: str, integrity: Integrity, one: FoundVersion
) -> Wanted:
    if one.path is None or found.folder is None:
        return Wanted(one.version, None, one.error)
    try:
        folder = Path(real_path(found.folder / str(one.version), found.root))
    except ModelError as error:
        return Wanted(one.version, None, str(error))
    vet = partial(integrity.vet, FolderContents(folder, found.root), file)
    return Wanted(one.version, from_path(one.path), one.error, vet)


def reader_in(found: FoundModel, folder: str = "") -> ReadFile:
    """Return what reads the files of a model's folder, or of one in it."""
    if found.folder is None:
        return nothing_to_read
    return found.promise.reader(reader_of(found.folder / folder, found.root), folder)
