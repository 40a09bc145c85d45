"""``manifest.json``: the files of a folder with their sizes and SHA-256 digests."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from jitney.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LISTING_FILE", "MAX_FILES", "Listed", "Listing", "is_listable", "read_listing"]

LISTING_FILE: Final = "manifest.json"
FORMAT: Final = "jitney-manifest/1"
MAX_FILES: Final = 10_000
"""Files of one folder; a version has a handful."""
MAX_PATH: Final = 1024
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class Listed(NamedTuple):
    """What is said of a file: its SHA-256 in lower-case hexadecimal, its bytes where known."""

    sha256: str
    size: int | None = None

    def is_same(self, other: Listed) -> bool:
        """Whether both are said of the same bytes; a size that nobody told is none to compare."""
        sizes = {self.size, other.size} - {None}
        return self.sha256 == other.sha256 and len(sizes) <= 1


Listing: TypeAlias = "Mapping[str, Listed]"
"""Files by their path below the folder, with ``/`` between the parts."""


def is_listable(path: str) -> bool:
    """Whether a path below a folder may be listed: none that leads out, and none with surprises."""
    parts = path.split("/")
    return (
        0 < len(path) <= MAX_PATH
        and path.isprintable()
        and "\\" not in path
        and not any(part in {"", ".", ".."} for part in parts)
    )


def write_listing(files: Listing) -> str:
    """Return the text of a ``manifest.json``, the same for the same files."""
    entries = [
        {"path": path, "size": listed.size, "sha256": listed.sha256}
        for path, listed in sorted(files.items())
    ]
    return json.dumps({"format": FORMAT, "files": entries}, indent=1) + "\n"


def read_listing(data: bytes) -> Listing:
    """Read a ``manifest.json``.

    :raises ModelError: when it is none.
    """
    try:
        value = json.loads(data.decode("utf-8"))
        given = value["format"]
        files = {entry["path"]: Listed(entry["sha256"], entry["size"]) for entry in value["files"]}
        count = len(value["files"])
    except (ValueError, TypeError, KeyError, RecursionError):
        why = "it is not JSON as jitney writes it"
        raise _wrong(why) from None
    if given != FORMAT:
        why = f"its format is {str(given)[:80]!r}, expected {FORMAT!r}"
        raise _wrong(why)
    if len(files) != count or count > MAX_FILES:
        why = f"{count} files, some of them twice, or more than {MAX_FILES}"
        raise _wrong(why)
    for path, listed in files.items():
        size, digest = listed.size, listed.sha256
        if not isinstance(path, str) or not is_listable(path):
            why = f"{str(path)[:80]!r} is not the path of a file below it"
            raise _wrong(why)
        if type(size) is not int or size < 0 or not _is_digest(digest):
            why = f"size or sha256 of {path[:80]!r} are none"
            raise _wrong(why)
    return files


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and _SHA256.match(digest) is not None


def _wrong(why: str) -> ModelError:
    return ModelError(f"{LISTING_FILE}: {why}; write it anew with `jitney manifest`")
