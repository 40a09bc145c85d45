"""Whether the files of a model are those that somebody listed, or signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError, ModelError
from jitney.repository.listing import LISTING_FILE, Listed, read_listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jitney.config import RepositorySettings
    from jitney.repository.contents import Contents
    from jitney.repository.listing import Listing
    from jitney.repository.sealed import SealedFile
    from jitney.repository.side_files import ReadFile

    Verify = Callable[[bytes], tuple[Listing, str]]

__all__ = [
    "NOTHING_PROMISED",
    "NO_CHECKS",
    "SIGNATURE_FILE",
    "Integrity",
    "Promise",
    "integrity_of",
]

SIGNATURE_FILE: Final = "model.sig"
INTEGRITY: Final = "INTEGRITY"
SIGNATURE: Final = "SIGNATURE"
"""Reasons of a ModelError."""
MOST_TOLD: Final = 3
"""Differences that an error names; `jitney verify` names all."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What is said of a folder's files, by its manifest and by its signature, or by neither.

    ``said`` has, for each of the two that there is, its file's name and the files that it lists.
    ``signer`` is the fingerprint of the key that signed, empty where nothing did.
    """

    said: tuple[tuple[str, Listing], ...] = ()
    signer: str = ""

    def missing_and_extra(self, paths: Iterable[str]) -> list[str]:
        """Return what is listed and not there, and what is there and not listed."""
        there, problems = frozenset(paths) - {SIGNATURE_FILE}, []
        for source, listing in self.said:
            # A manifest cannot list itself; a signature covers it.
            files = there - {LISTING_FILE} if source == LISTING_FILE else there
            problems += [
                f"{path}: listed in {source}, and missing" for path in _beyond(listing, files)
            ]
            problems += [f"{path}: not listed in {source}" for path in _beyond(files, listing)]
        return problems

    def problem(self, path: str, found: Listed) -> str:
        """Return what is wrong with a file, empty for nothing."""
        for source, listing in self.said:
            if path not in listing and path != source:
                return f"{path}: not listed in {source}"
        return self._changed(path, found)

    def problems(self, contents: Contents, known: Listing | None = None) -> list[str]:
        """Compare every file; takes as long as reading and hashing them.

        :param known: files whose bytes were read already, and are going to be used.
        :raises ModelError: when one cannot be read.
        """
        if not self.said:
            return []
        known = known or {}
        paths = contents.paths() | known.keys()
        problems = self.missing_and_extra(paths)
        for path in sorted(paths):
            if any(path in listing for _, listing in self.said):
                found = known[path] if path in known else contents.digest(path)
                problems += filter(None, [self._changed(path, found)])
        return problems

    def _changed(self, path: str, found: Listed) -> str:
        for source, listing in self.said:
            listed = listing.get(path)
            if listed is not None and not listed.is_same(found):
                return (
                    f"{path}: not the file that {source} lists: its SHA-256 is "
                    f"{found.sha256[:16]}…, expected {listed.sha256[:16]}…"
                )
        return ""

    def reader(self, read: ReadFile, folder: str = "") -> ReadFile:
        """Return what reads files, and gives nobody bytes that are not those that were promised.

        :param folder: the path of the files' folder below the one that this is about.
        """
        if not self.said:
            return read

        def checked(name: str) -> bytes:
            data = read(name)
            path = f"{folder}/{name}" if folder else name
            found = Listed(hashlib.sha256(data).hexdigest(), len(data))
            if problem := self.problem(path, found):
                raise _mismatch([problem])
            return data

        return checked


NOTHING_PROMISED: Final = Promise()


class Integrity:
    """What the operator demands of the files of models.

    - A folder that has a manifest is exactly what that lists, or nothing of it is used; where a
      manifest, or a signature, is demanded, a folder without one is not used either.
    - What is compared is what is used: the bytes of a model's file as they were sealed in memory,
      and those of side files as they were read.
    """

    def __init__(self, policy: str = "off", verify: Verify | None = None) -> None:
        """:param policy: ``off``, ``check`` or ``require``, for manifests.

        :param verify: reads a signature, and raises ModelError where it is not to be trusted; None
            where none is demanded.
        """
        self._policy = policy
        self._verify = verify

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        signed = ", signed" if self._verify else ""
        return f"<Integrity {self._policy}{signed}>"

    def promise(self, contents: Contents) -> Promise:
        """Return what is said of a folder's files, which are all there, and no others.

        Their bytes are not looked at.

        :raises ModelError: as ``read`` does, and when it lists other files.
        """
        promise = self.read(contents)
        if promise.said and (problems := promise.missing_and_extra(contents.paths())):
            raise _mismatch(problems)
        return promise

    def read(self, contents: Contents) -> Promise:
        """Return what is said of a folder's files; one without files needs nothing.

        :raises ModelError: when something that is demanded is missing, cannot be read, or is not to
            be trusted.
        """
        said: list[tuple[str, Listing]] = []
        signer = ""
        if self._policy != "off" and contents.has(LISTING_FILE):
            said.append((LISTING_FILE, read_listing(contents.read(LISTING_FILE))))
        elif self._policy == "require" and contents.paths() - {SIGNATURE_FILE}:
            msg = (
                f"there is no {LISTING_FILE}, and one is demanded: write it with `jitney manifest`"
            )
            raise _refusal(INTEGRITY, msg)
        if self._verify is not None:
            if contents.has(SIGNATURE_FILE):
                try:
                    listing, signer = self._verify(contents.read(SIGNATURE_FILE))
                except ModelError as error:
                    raise _refusal(SIGNATURE, str(error)) from None
                said.append((SIGNATURE_FILE, listing))
            elif contents.paths():
                msg = f"not signed: there is no {SIGNATURE_FILE}, and one is demanded"
                raise _refusal(SIGNATURE, msg)
        return Promise(tuple(said), signer)

    def vet(self, contents: Contents, path: str, sealed: SealedFile) -> str:
        """Check a version before its file is used; return the fingerprint of who signed it.

        :param path: of its file, below the version's folder.
        :param sealed: its bytes, which are those that are going to be loaded.
        :raises ModelError: when it is not what was listed or signed, or that is missing.
        """
        promise = self.read(contents)
        # Its file is compared also where it is gone by now, and so is nowhere among the paths.
        if problems := promise.problems(contents, {path: Listed(sealed.sha256, sealed.size)}):
            raise _mismatch(problems)
        return promise.signer


NO_CHECKS: Final = Integrity()


def integrity_of(settings: RepositorySettings) -> Integrity:
    """Return what the settings demand.

    :raises ConfigError: when a key cannot be read.
    """
    if settings.model_signature == "off":
        return Integrity(settings.model_integrity)
    try:
        from jitney.repository.signature import (  # noqa: PLC0415  # only where it is demanded
            read_public_key,
            verified_listing,
        )
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        msg = "repository.model_signature: needs cryptography: pip install 'jitney[server]'"
        raise ConfigError(msg) from None
    try:
        keys = [read_public_key(path) for path in settings.model_signature_key]
    except ConfigError as error:
        msg = f"repository.model_signature_key: {error}"
        raise ConfigError(msg) from None
    return Integrity(settings.model_integrity, lambda data: verified_listing(data, keys))


def _beyond(some: Iterable[str], others: Iterable[str]) -> list[str]:
    return sorted(set(some) - set(others))


def _mismatch(problems: list[str]) -> ModelError:
    more = len(problems) - MOST_TOLD
    text = "; ".join(problems[:MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
    if any(SIGNATURE_FILE in problem for problem in problems):
        return _refusal(SIGNATURE, text)
    return _refusal(INTEGRITY, f"{text}. If that is meant, write it anew with `jitney manifest`")


def _refusal(reason: str, text: str) -> ModelError:
    error = ModelError(text)
    error.reason = reason
    return error
