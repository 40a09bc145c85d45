"""What a caller asks for beside a model's name when it wants it loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import BadOverride, ControlDisabled, InvalidRequest, UnknownToLoad
from jitney.repository.containment import safe_model_name
from jitney.repository.manifest import MAX_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.config import RepositorySettings

    Value = bool | int | str | bytes

__all__ = ["LoadRequest", "check_name", "failed", "read_load_request"]

FILE: Final = "file:"
MAX_FILE_NAME: Final = 255
MAX_CONFIG: Final = 1 << 20
"""Characters of a configuration; the labels of classes are in files of their own."""
SHOWN: Final = 80
_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


class LoadRequest(NamedTuple):
    """A configuration (JSON of ``ModelConfig``) and files, by version and plain name.

    The files take the place of all that the repository has of the model.
    """

    config: str | None = None
    files: Mapping[int, Mapping[str, bytes]] = {}


def failed(name: str, why: str = "") -> str:
    """Return the text of a load that failed before any version was tried."""
    text = f"failed to load '{name}', failed to poll from model repository"
    return f"{text}: {why}" if why else text


def check_name(name: str) -> None:
    """Check the name of a model that is to be loaded.

    :raises InvalidRequest: when it is empty, or looks like a path.
    :raises UnknownToLoad: when no model can have it.
    """
    if not name.strip():
        msg = "Model name cannot be empty. Please enter a valid name to deploy."
        raise InvalidRequest(msg)
    if "/" in name or "\\" in name or ".." in name:
        msg = "model name must not contain path traversal characters"
        raise InvalidRequest(msg)
    if not safe_model_name(name):
        raise UnknownToLoad(failed(name[:SHOWN]))


def read_load_request(
    name: str, parameters: Mapping[str, Value], settings: RepositorySettings
) -> LoadRequest:
    """Read the parameters of a load.

    :param name: a name that passed ``check_name``.
    :raises InvalidRequest: when there is one that nobody knows.
    :raises BadOverride: when one cannot be used.
    :raises ControlDisabled: when files come and the operator accepts none.
    """
    config: str | None = None
    files: dict[int, dict[str, bytes]] = {}
    total = 0
    for key, value in parameters.items():
        if key == "config":
            if not isinstance(value, str) or len(value) > MAX_CONFIG:
                why = f"'config' must be a string of at most {MAX_CONFIG} characters"
                raise BadOverride(failed(name, why))
            config = value
        elif key.startswith(FILE):
            if not settings.allow_model_uploads:
                why = "this server accepts no model files (--allow-model-uploads)"
                raise ControlDisabled(failed(name, why))
            version, file = _place(name, key)
            if not isinstance(value, bytes):
                raise BadOverride(failed(name, f"{key!r} must be bytes"))
            total += len(value)
            if total > settings.max_upload_bytes:
                why = f"its files have more than {settings.max_upload_bytes} bytes"
                raise BadOverride(failed(name, f"{why} (--max-upload-bytes)"))
            files.setdefault(version, {})[file] = value
        else:
            msg = f"unrecognized load parameter '{key[:SHOWN]}'."
            raise InvalidRequest(msg)
    if files and config is None:
        raise BadOverride(failed(name, "files need a 'config' beside them"))
    return LoadRequest(config, files)


def _place(name: str, key: str) -> tuple[int, str]:
    """Return the version and the file that a key names. No file of that name is ever made."""
    version, slash, file = key.removeprefix(FILE).partition("/")
    plain = file.isprintable() and "/" not in file and "\\" not in file and file not in (".", "..")
    if (
        not slash
        or not _VERSION.match(version)
        or int(version) > MAX_VERSION
        or not plain
        or not 0 < len(file.encode("utf-8", "replace")) <= MAX_FILE_NAME
    ):
        why = (
            f"expected 'file:', a version's number, '/' and a plain name of at most "
            f"{MAX_FILE_NAME} bytes, got {key[:SHOWN]!r}"
        )
        raise BadOverride(failed(name, why))
    return int(version), file
