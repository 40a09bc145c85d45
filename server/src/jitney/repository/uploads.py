"""Model files that came over the network, in place of those of the repository."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from jitney.repository.contents import UploadedContents
from jitney.repository.integrity import NO_CHECKS
from jitney.repository.scan import FoundModel, FoundVersion, select_versions
from jitney.repository.sealed import seal_bytes
from jitney.repository.turnover import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.repository.integrity import Integrity
    from jitney.repository.manifest import ModelManifest
    from jitney.repository.sealed import SealedFile

    Files = Mapping[int, Mapping[str, bytes]]

__all__ = ["UploadedFile", "uploaded"]


class UploadedFile:
    """A model's file in memory, for as long as any load of it may be repeated.

    It is never written anywhere: no name that came from a caller becomes a path, and nothing is
    left behind, however the server ends. The price is its size in memory, as long as it is served.
    """

    def __init__(self, name: str, data: bytes) -> None:
        """Copy the bytes.

        :raises ModelError: when memory does not suffice.
        """
        self._sealed = seal_bytes(name, data)
        # Whoever loads it holds it, and nobody else does.
        weakref.finalize(self, self._sealed.close)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<UploadedFile {self._sealed!r}>"

    def __call__(self) -> SealedFile:
        """Return the file as a loader wants it."""
        return self._sealed.again()


def uploaded(
    name: str, files: Files, manifest: ModelManifest, integrity: Integrity = NO_CHECKS
) -> list[Wanted]:
    """Return the versions that the policy asks for, out of those that were sent.

    :param files: by version and plain name; of those that are not the model's own, only a manifest
        and a signature are used.
    :raises ModelError: when memory does not suffice.
    """
    there = FoundModel(name, manifest, tuple(FoundVersion(n, None) for n in sorted(files)))
    wanted = []
    for found in select_versions(there):
        data = files.get(found.version, {}).get(manifest.runtime.file)
        if found.error is not None or manifest.builtin is not None:
            wanted.append(Wanted(found.version, None, found.error))
        elif data is None:
            why = f"{manifest.runtime.file} is not among the files that were sent"
            wanted.append(Wanted(found.version, None, why))
        else:
            file = UploadedFile(manifest.runtime.file, data)
            contents = UploadedContents(files[found.version])
            vet = partial(integrity.vet, contents, manifest.runtime.file)
            wanted.append(Wanted(found.version, file, None, vet))
    return wanted
