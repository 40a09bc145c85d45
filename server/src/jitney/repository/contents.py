"""The files of a folder that hang together: a version's, or those a model has beside its versions.

Both are the units that a manifest lists, and that a signature covers.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from jitney.errors import ModelError
from jitney.repository.containment import open_regular, real_path
from jitney.repository.listing import MAX_FILES, Listed, is_listable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Contents", "FolderContents", "UploadedContents"]

MAX_DEPTH: Final = 16
MAX_READ: Final = 16 << 20
"""Bytes of a manifest or a signature."""
CHUNK: Final = 1 << 20
NOT_OURS: Final = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
"""Names that signing tools leave out as well, so that a checkout can be served."""
_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


class Contents(Protocol):
    """Files by their path below a folder, as they are when they are asked for."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def paths(self) -> frozenset[str]:
        """Return the paths of all files.

        :raises ModelError: when one of them can be no part of a model.
        """

    def read(self, path: str) -> bytes:
        """Return a small file.

        :raises ModelError: when it cannot be read, or is not small.
        """

    def digest(self, path: str) -> Listed:
        """Read and hash a file.

        :raises ModelError: when it cannot be read.
        """


class FolderContents:
    """The files of a folder on disk, through links as far as they stay in the repository."""

    def __init__(self, folder: Path, root: str, *, is_model: bool = False) -> None:
        """Look at nothing yet.

        :param folder: resolved.
        :param root: what no link may lead out of, resolved.
        :param is_model: whether it is a model's folder, whose versions are not its own files.
        """
        self._folder = folder
        self._root = root
        self._is_model = is_model

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<FolderContents {self._folder.name}>"

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(self._folder / path)

    def paths(self) -> frozenset[str]:
        """Return the paths of all files; hidden ones of version control are left out."""
        found: list[str] = []
        for path in self._walk("", 0):
            found.append(path)
            if len(found) > MAX_FILES:
                msg = f"more than {MAX_FILES} files in one folder"
                raise ModelError(msg)
        return frozenset(found)

    def read(self, path: str) -> bytes:
        """Return a small file."""
        with os.fdopen(self._open(path), "rb") as file:
            data = file.read(MAX_READ + 1)
        if len(data) > MAX_READ:
            msg = f"{path}: larger than {MAX_READ >> 20} MiB"
            raise ModelError(msg)
        return data

    def digest(self, path: str) -> Listed:
        """Read and hash a file."""
        digest, size = hashlib.sha256(), 0
        with os.fdopen(self._open(path), "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return Listed(digest.hexdigest(), size)

    def _open(self, path: str) -> int:
        return open_regular(real_path(self._folder / path, self._root))

    def _walk(self, below: str, depth: int) -> Iterator[str]:
        if depth > MAX_DEPTH:
            msg = "its folders lead into each other, or are nested too deeply"
            raise ModelError(msg)
        real = real_path(self._folder / below, self._root)
        try:
            with os.scandir(real) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            msg = f"its folder cannot be listed ({error.strerror})"
            raise ModelError(msg) from None
        for name in names:
            # Kubernetes keeps the files of a mounted volume behind names that begin with "..".
            if name in NOT_OURS or name.startswith(".."):
                continue
            if self._is_model and not below and _VERSION.match(name):
                continue
            path = f"{below}/{name}" if below else name
            if not is_listable(path):
                msg = f"{ascii(path)[:80]} is not a name that a model's file may have"
                raise ModelError(msg)
            target = Path(real_path(self._folder / path, self._root))
            if target.is_dir():
                yield from self._walk(path, depth + 1)
            elif target.is_file():
                yield path
            else:
                msg = f"{path}: not a regular file"
                raise ModelError(msg)


class UploadedContents:
    """Files that came over the network, which are in memory already."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<UploadedContents {len(self._files)} files>"

    def has(self, path: str) -> bool:
        """Whether it was sent."""
        return path in self._files

    def paths(self) -> frozenset[str]:
        """Return the names of all files."""
        return frozenset(self._files)

    def read(self, path: str) -> bytes:
        """Return a file."""
        return self._files[path]

    def digest(self, path: str) -> Listed:
        """Hash a file."""
        data = self._files[path]
        return Listed(hashlib.sha256(data).hexdigest(), len(data))
