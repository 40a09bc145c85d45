"""Writes the manifest of a folder, and its signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.errors import ConfigError
from jitney.repository.integrity import SIGNATURE_FILE
from jitney.repository.listing import LISTING_FILE, write_listing
from jitney.whole_file import write_whole

if TYPE_CHECKING:
    from jitney.repository.listing import Listed
    from jitney.repository.signature import Signer
    from jitney.repository.units import Unit

__all__ = ["write_manifest"]


def write_manifest(unit: Unit, signer: Signer | None = None) -> int:
    """Write ``manifest.json`` and, with a key, ``model.sig``; return how many files are listed.

    Each appears whole or not at all. A signature of what was there before is removed: it would be
    good for nothing any more.

    :raises ModelError: when a file cannot be part of a model.
    :raises ConfigError: when the folder cannot be written.
    """
    contents = unit.contents
    files: dict[str, Listed] = {
        path: contents.digest(path)
        for path in sorted(contents.paths() - {LISTING_FILE, SIGNATURE_FILE})
    }
    try:
        write_whole(unit.folder / LISTING_FILE, write_listing(files))
        if signer is None:
            (unit.folder / SIGNATURE_FILE).unlink(missing_ok=True)
        else:
            from jitney.repository.signature import sign  # noqa: PLC0415  # needs cryptography

            covered = {**files, LISTING_FILE: contents.digest(LISTING_FILE)}
            write_whole(unit.folder / SIGNATURE_FILE, sign(covered, unit.label, signer))
    except OSError as error:
        msg = f"{unit.folder}: cannot be written ({error.strerror})"
        raise ConfigError(msg) from None
    return len(files)
