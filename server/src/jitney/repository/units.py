"""Which folders a path stands for: a version, a model with its versions, or a whole repository."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import ConfigError
from jitney.repository.containment import safe_model_name
from jitney.repository.contents import FolderContents
from jitney.repository.manifest import FILE_NAME, TRITON_FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Unit", "is_version", "unit_of", "units_of"]

_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


class Unit(NamedTuple):
    """A folder that has a manifest of its own; ``label`` is what to call it to whoever asked."""

    label: str
    folder: Path
    contents: FolderContents


def is_version(folder: Path) -> bool:
    """Whether a folder is one of a model's versions, by its name."""
    return _VERSION.match(folder.name) is not None


def units_of(path: Path) -> list[Unit]:
    """Return the folders that a path stands for, in the order of their names.

    :raises ConfigError: when there is nothing of the kind.
    """
    folder = Path(os.path.realpath(path))
    if not folder.is_dir():
        msg = f"{path}: there is no such folder"
        raise ConfigError(msg)
    if is_version(folder):
        return [unit_of(folder)]
    units = list(_units_of_model(folder, folder))
    if not units:
        models = [entry for entry in _folders(folder) if safe_model_name(entry.name)]
        units = [unit for model in models for unit in _units_of_model(model, folder)]
    if not units:
        msg = f"{path}: neither a version's folder, nor a model's, nor one that holds models"
        raise ConfigError(msg)
    return units


def unit_of(version: Path) -> Unit:
    """Return a version's folder; links in it may lead to wherever the model's other files are."""
    return _unit(version.parent.name, version, version.parent)


def _units_of_model(folder: Path, root: Path) -> Iterator[Unit]:
    versions = [entry for entry in _folders(folder) if is_version(entry)]
    has_config = any((folder / name).exists() for name in (FILE_NAME, TRITON_FILE_NAME))
    real = Path(os.path.realpath(folder))
    beside = FolderContents(real, os.path.realpath(root), is_model=True)
    if has_config or (versions and beside.paths()):
        yield Unit(folder.name, real, beside)
    for version in sorted(versions, key=lambda entry: int(entry.name)):
        yield _unit(folder.name, version, root)


def _unit(model: str, version: Path, root: Path) -> Unit:
    real = Path(os.path.realpath(version))
    return Unit(f"{model}/{version.name}", real, FolderContents(real, os.path.realpath(root)))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())
