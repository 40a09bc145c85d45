"""The file of tokens, as it lies on the disk."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.access.tokens import looks_like_token
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Content", "identity_of", "read_file", "shown"]

MAX_BYTES: Final = 64 << 20


class Content(NamedTuple):
    """What was found under the file's name: ``identity`` changes whenever the content may have."""

    identity: tuple[int, ...]
    digest: bytes
    text: str


def identity_of(file: Path) -> tuple[int, ...]:
    """Return what is another whenever the content of a file may be.

    :raises ConfigError: when there is no such file.
    """
    try:
        return _identity(file.stat())
    except OSError as error:
        raise _unreadable(error) from None


def read_file(file: Path) -> Content:
    """Return what is in the file.

    :raises ConfigError: when it cannot be read, or everybody may write it.
    """
    try:
        with file.open("rb") as opened:
            about = os.fstat(opened.fileno())
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(error) from None
    if about.st_mode & stat.S_IWOTH:
        msg = "everybody on this machine may write it, and give themselves rights: chmod o-w"
        raise ConfigError(msg)
    if len(data) > MAX_BYTES:
        msg = f"larger than {MAX_BYTES} bytes"
        raise ConfigError(msg)
    try:
        return Content(_identity(about), hashlib.sha256(data).digest(), data.decode())
    except UnicodeDecodeError:
        msg = "not UTF-8"
        raise ConfigError(msg) from None


def _identity(about: os.stat_result) -> tuple[int, ...]:
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_mode)


def _unreadable(error: OSError) -> ConfigError:
    return ConfigError(f"cannot be read: {error.strerror}")


def shown(file: Path) -> str:
    """Return a file's name for people, unless somebody wrote a token in its place."""
    return "(a token, not a file)" if looks_like_token(str(file)) else str(file)
