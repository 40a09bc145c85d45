"""Files that a model's configuration may name: only such as lie in the model's own folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from jitney.errors import ConfigError, JitneyError
from jitney.repository.containment import open_regular, real_path

__all__ = [
    "ReadFile",
    "decoded",
    "is_plain_name",
    "nothing_to_read",
    "read_bytes",
    "read_labels",
    "read_text",
    "reader_of",
]

MAX_BYTES: Final = 16 << 20
"""A longer file is refused: the labels of the largest vocabularies take a few MiB."""

MAX_NAME: Final = 255

ReadFile: TypeAlias = Callable[[str], bytes]
"""Returns the bytes of a file by its plain name.

Raises ModelError where it cannot be read, and ConfigError where it is too long."""


def is_plain_name(name: str) -> bool:
    """Whether ``name`` is that of a file beside others: no folder, and nothing hidden."""
    return (
        0 < len(name) <= MAX_NAME
        and name.isprintable()
        and not name.startswith(".")
        and "/" not in name
        and "\\" not in name
    )


def reader_of(folder: Path, root: str) -> ReadFile:
    """Return what reads the files of a model's folder.

    :param folder: resolved.
    :param root: the folder that links must not lead out of, resolved.
    """

    def read(name: str) -> bytes:
        return read_bytes(Path(real_path(folder / name, root)))

    return read


def nothing_to_read(name: str) -> bytes:
    """Refuse, where a configuration stands for itself and has no folder.

    :raises ConfigError: always.
    """
    msg = f"{name!r} cannot be read: there is no model's folder here"
    raise ConfigError(msg)


def read_bytes(path: Path) -> bytes:
    """Read a whole file; ``path`` must have been resolved, a symbolic link is refused.

    :raises ModelError: when it cannot be read, or is no regular file.
    :raises ConfigError: when it is too long.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        msg = f"{path.name}: larger than {MAX_BYTES >> 20} MiB"
        raise ConfigError(msg)
    return data


def read_text(path: Path) -> str:
    """Read a whole file of UTF-8 text, as ``read_bytes`` does.

    :raises ConfigError: when it is too long, or no such text.
    """
    return decoded(read_bytes(path), path.name)


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file.

    :raises ConfigError: when it is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{name}: not UTF-8 text (at byte {error.start})"
        raise ConfigError(msg) from None


def read_labels(name: str, where: str, read_file: ReadFile) -> tuple[str, ...]:
    """Read the names of classes, one per line; an empty line is a class without a name.

    :param where: the path of the key that names the file, for error texts.
    :raises ConfigError: when the name leads elsewhere, or the file cannot be read.
    """
    if not is_plain_name(name):
        msg = f"{where}: expected the plain name of a file in the model's folder, got {name!r}"
        raise ConfigError(msg)
    try:
        text = decoded(read_file(name), name)
    except JitneyError as error:
        wrong = ConfigError(f"{where}: {error}")
        wrong.reason = error.reason  # what a manifest does not let pass stays that for auditors
        raise wrong from None
    # Not splitlines(), which knows eight more ways to end a line than files have.
    lines = text.replace("\r\n", "\n").rstrip("\n")
    return tuple(lines.split("\n")) if lines else ()
