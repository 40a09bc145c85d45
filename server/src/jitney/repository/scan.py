"""What is in the model repositories: ``<root>/<model>/[model.toml]`` and ``<version>/model.pt``.

Where a model has no ``model.toml``, its ``config.pbtxt`` is read instead. Scanning opens no file
but these and the lists of labels that they name, and nothing outside the roots. What is wrong with
one model is said in its entry and never keeps the others from being found.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError, JitneyError, ModelError
from jitney.repository.audited import FAILED, event_of
from jitney.repository.containment import real_path, safe_model_name
from jitney.repository.contents import FolderContents
from jitney.repository.integrity import NO_CHECKS, NOTHING_PROMISED
from jitney.repository.manifest import (
    FILE_NAME,
    MAX_VERSION,
    MODEL_FILE,
    TRITON_FILE_NAME,
    ModelManifest,
    VersionPolicy,
)
from jitney.repository.manifest_reader import parse_manifest
from jitney.repository.side_files import decoded, is_plain_name, reader_of
from jitney.repository.triton.mapping import MODEL_SUFFIXES, manifest_of
from jitney.repository.triton.text import parse_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.repository.integrity import Integrity, Promise
    from jitney.repository.side_files import ReadFile

__all__ = [
    "MODEL_FILE",
    "FoundModel",
    "FoundVersion",
    "safe_model_name",
    "scan",
    "scan_model",
    "select_versions",
    "with_manifest",
]

# One way to write each number, so that no two folders are the same version.
_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version folder; ``path`` is its resolved model file.

    It is None where ``error`` is set, and for a built-in model, which has no file.
    """

    version: int
    path: Path | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A folder of a model repository, or what is wrong with it.

    ``name`` passes ``safe_model_name`` unless ``error`` says that it does not; it is then escaped
    to printable ASCII. ``manifest`` is None exactly where ``error`` is set. ``versions`` ascend.
    ``folder`` is where it really is, and ``root`` what links in it must not lead out of; both are
    unset where the folder could not be read.
    Error texts hold no path, so they may be shown to callers. ``error_event`` is what the audit log
    calls the error.
    """

    name: str
    manifest: ModelManifest | None = None
    versions: tuple[FoundVersion, ...] = ()
    error: str | None = None
    warnings: tuple[str, ...] = ()
    folder: Path | None = None
    root: str = ""
    promise: Promise = NOTHING_PROMISED
    error_event: str = FAILED


def scan(roots: Iterable[Path], integrity: Integrity = NO_CHECKS) -> list[FoundModel]:
    """Return every model of the roots, sorted by name.

    Files beside the models and folders whose name begins with a dot are none of our business (and
    Kubernetes keeps the real files of a mounted volume in such folders).

    :param integrity: what is demanded of the files that a model has beside its versions.
    :raises ConfigError: when a root cannot be listed, or is given twice.
    """
    found: dict[str, FoundModel] = {}
    for root in _resolve(roots):
        for entry in _list(root):
            name = entry.name
            if name.startswith(".") or not (entry.is_symlink() or entry.is_dir()):
                continue
            if entry.is_symlink() and _is_file(entry):
                continue
            if not safe_model_name(name):
                # ascii() keeps names that are not text out of logs and replies; what it writes is
                # never a safe name itself, so no model is shadowed.
                name = ascii(name)[1:-1]
                model = FoundModel(name, error=_BAD_NAME)
            elif name in found:
                model = FoundModel(name, error=_TWICE)
            else:
                model = _read_model(root, name, integrity)
            found[name] = model
    return sorted(found.values(), key=lambda model: model.name)


def scan_model(
    roots: Iterable[Path], name: str, integrity: Integrity = NO_CHECKS
) -> FoundModel | None:
    """Return the one model of that name, None where there is none; for a load on request.

    :param name: as a caller sent it; a hostile one is looked for nowhere.
    :raises ConfigError: when a root cannot be listed, or is given twice.
    """
    resolved = _resolve(roots)
    if not safe_model_name(name):
        return None
    homes = [root for root in resolved if os.path.lexists(Path(root, name))]
    if len(homes) > 1:
        return FoundModel(name, error=_TWICE)
    return _read_model(homes[0], name, integrity) if homes else None


def select_versions(
    found: FoundModel, policy: VersionPolicy | None = None
) -> tuple[FoundVersion, ...]:
    """Return the versions that the policy asks for, ascending.

    A broken version counts: if the latest cannot be served, the operator shall hear of it, and not
    be served an older one without a word. A listed version that is missing is returned with an
    error for the same reason.

    :param policy: instead of the manifest's own.
    """
    if policy is None:
        policy = found.manifest.versions if found.manifest else VersionPolicy()
    if policy.policy == "all":
        return found.versions
    if policy.policy == "latest":
        return found.versions[-policy.count :]
    by_number = {version.version: version for version in found.versions}
    source = found.manifest.source if found.manifest else FILE_NAME
    missing = f"listed under versions in {source}, but there is no such folder"
    return tuple(
        by_number.get(number) or FoundVersion(number, None, missing) for number in policy.numbers
    )


def with_manifest(
    found: FoundModel, manifest: ModelManifest, warnings: Sequence[str]
) -> FoundModel:
    """Return a model as if its folder held another configuration, which may name another file.

    :param warnings: what is to be said of that configuration.
    :raises ModelError: when its folder cannot be listed any more.
    """
    versions: Sequence[FoundVersion] = found.versions
    if found.folder is not None:
        try:
            versions, _ = _read_versions(found.folder, found.root, manifest)
        except OSError as error:
            msg = f"its folder cannot be listed ({error.strerror})"
            raise ModelError(msg) from None
    return dataclasses.replace(
        found, manifest=manifest, versions=tuple(versions), warnings=tuple(warnings)
    )


_BAD_NAME: Final = (
    "not a model's name: use 1 to 128 letters, digits, '_', '.' or '-', and no '.' in front"
)
_TWICE: Final = "found in more than one model repository; keep one of them"


def _resolve(roots: Iterable[Path]) -> Sequence[str]:
    resolved: dict[str, Path] = {}
    for root in roots:
        try:
            real = os.path.realpath(root, strict=True)
        except OSError as error:
            raise _unreadable(root, error) from None
        if real in resolved:
            msg = f"repository.model_repository: {str(root)!r} is given twice"
            raise ConfigError(msg)
        resolved[real] = root
        try:
            os.scandir(real).close()
        except OSError as error:
            raise _unreadable(root, error) from None
    return list(resolved)


def _unreadable(root: Path, error: OSError) -> ConfigError:
    # The folder is shown: the text is for who starts the server, and it is what they wrote.
    return ConfigError(
        f"repository.model_repository: cannot list {str(root)!r}: {error.strerror}; give a folder "
        "that holds one folder per model, with --model-repository"
    )


def _list(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_file(entry: os.DirEntry[str]) -> bool:
    # Asks for the kind of what a link leads to; nothing is opened, wherever that is.
    try:
        return entry.is_file()
    except OSError:  # a loop
        return False


def _read_model(root: str, name: str, integrity: Integrity) -> FoundModel:
    try:
        folder = Path(real_path(Path(root, name), root))
        promise = integrity.promise(FolderContents(folder, root, is_model=True))
        read_file = promise.reader(reader_of(folder, root))
        manifest, warnings = _read_manifest(folder, name, read_file)
        versions, oddities = _read_versions(folder, root, manifest)
    except JitneyError as error:
        return FoundModel(name, error=str(error), error_event=event_of(error))
    except OSError as error:
        return FoundModel(name, error=f"its folder cannot be listed ({error.strerror})")
    said = (*warnings, *oddities)
    return FoundModel(name, manifest, versions, None, said, folder, root, promise)


def _read_manifest(folder: Path, name: str, read_file: ReadFile) -> tuple[ModelManifest, list[str]]:
    has_triton = os.path.lexists(folder / TRITON_FILE_NAME)
    if os.path.lexists(folder / FILE_NAME):
        ignored = f"{TRITON_FILE_NAME} is ignored: {FILE_NAME}, which is beside it, says it all"
        text = decoded(read_file(FILE_NAME), FILE_NAME)
        return parse_manifest(text, read_file), [ignored] if has_triton else []
    if has_triton:
        config = parse_config(decoded(read_file(TRITON_FILE_NAME), TRITON_FILE_NAME))
        return manifest_of(config, name, read_file=read_file)
    return ModelManifest(), []


def _read_versions(
    folder: Path, root: str, manifest: ModelManifest
) -> tuple[tuple[FoundVersion, ...], tuple[str, ...]]:
    versions, warnings = [], []
    for entry in _list(os.fspath(folder)):
        if _VERSION.match(entry.name) and int(entry.name) <= MAX_VERSION:
            versions.append(_read_version(folder / entry.name, root, manifest))
        elif entry.name.strip("+- ").isdigit():
            warnings.append(
                f"{entry.name!a} is ignored: a version is a whole number, without sign, "
                "blanks or zeros in front"
            )
    versions.sort(key=lambda version: version.version)
    if not versions and manifest.builtin is not None:
        versions.append(FoundVersion(1, None))
    if not versions:
        file = manifest.runtime.file
        warnings.append(f"no version in it: expected a folder such as 1 with {file}")
    return tuple(versions), tuple(warnings)


def _read_version(folder: Path, root: str, manifest: ModelManifest) -> FoundVersion:
    number, file = int(folder.name), manifest.runtime.file
    if manifest.builtin is not None:
        return FoundVersion(number, None)
    try:
        # The folder first: through one that leads elsewhere, not even the file's kind is asked.
        real_folder = Path(real_path(folder, root))
        path = Path(real_path(real_folder / file, root))
    except ModelError as error:
        return FoundVersion(number, None, f"{error}{_instead(folder, root, file)}")
    if not path.is_file():
        return FoundVersion(number, None, f"{file}: not a regular file")
    return FoundVersion(number, path)


def _instead(folder: Path, root: str, file: str) -> str:
    """Return what else there is in a version's folder that has no model file, for its error."""
    try:
        names = [entry.name for entry in _list(real_path(folder, root))]
    except (JitneyError, OSError):
        return ""
    if file in names:
        return ""
    for name in names:
        if name.endswith(MODEL_SUFFIXES) and is_plain_name(name):
            return (
                f"; there is {name!a}: rename it, or name it with runtime.file in {FILE_NAME} or "
                f"default_model_filename in {TRITON_FILE_NAME}"
            )
    for name in names:
        if name.startswith("model."):
            return f"; there is {name!a}, and only TorchScript files are served"
    return ""
