"""Changes to the file of tokens: as text, so that what people wrote into it stays as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import itertools
import json
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.access.entries import parse_entries
from jitney.access.file import read_file, shown
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jitney.access.entries import Entries, TokenEntry

__all__ = ["add_token", "read_entries", "remove_tokens"]

HEADER: Final = """\
# Who may call, and what. Tokens are made by `jitney token create`, which shows each of them once;
# here is only what they are known by again. A server that runs takes changes up by itself.
"""
OWNER_ONLY: Final = 0o600
_HEADING: Final = re.compile(r"^(?:[ \t]*#[^\n]*\n)*[ \t]*\[\[?[A-Za-z]", re.MULTILINE)
"""A table's heading, and the comments that stand right above it."""


def read_entries(file: Path) -> Entries:
    """Return what stands in the file.

    :raises ConfigError: naming it, when it cannot be used.
    """
    try:
        return parse_entries(read_file(file).text)
    except ConfigError as error:
        msg = f"{shown(file)}: {error}"
        raise ConfigError(msg) from None


def add_token(file: Path, token: TokenEntry) -> None:
    """Append a token; the file is made where there is none, for its owner only.

    :raises ConfigError: when the file cannot be used, or not be written.
    """
    _edit(file, lambda text: f"{text.rstrip()}\n\n{_table(token)}".lstrip("\n"))


def remove_tokens(file: Path, wanted: Callable[[TokenEntry], bool]) -> list[TokenEntry]:
    """Remove the tokens that are wanted, with the comments in and above them; return them.

    :raises ConfigError: when the file cannot be used, or not be written.
    """
    removed = [token for token in read_entries(file).tokens if wanted(token)]
    if removed:
        _edit(file, functools.partial(_without, {token.id for token in removed}))
    return removed


def _without(ids: set[str], text: str) -> str:
    changed = "".join(part for part in _parts(text) if not _is_of(part, ids))
    before, after = parse_entries(text), parse_entries(changed)
    left = tuple(token for token in before.tokens if token.id not in ids)
    if dataclasses.replace(before, tokens=left) != after:
        msg = "written in a way that this command cannot change; remove the [[token]] by hand"
        raise ConfigError(msg)
    return changed


def _table(token: TokenEntry) -> str:
    lines = [
        "[[token]]",
        f"name = {json.dumps(token.name)}",
        f'id = "{token.id}"',
        f'hash = "{token.hashed}"',
        f"created = {_moment(token.created)}",
    ]
    if token.expires < float("inf"):
        lines.append(f"expires = {_moment(token.expires)}")
    lines += [
        f"roles = {json.dumps(sorted(token.grant.roles))}",
        f"models = {json.dumps(list(token.grant.models))}",
    ]
    if token.rate is not None:
        lines += [f"rate = {token.rate.rate!r}", f"burst = {token.rate.burst!r}"]
    return "\n".join(lines) + "\n"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parts(text: str) -> Iterator[str]:
    """Yield what is above the first table, and then each table."""
    starts = [0, *(match.start() for match in _HEADING.finditer(text)), len(text)]
    for start, end in itertools.pairwise(starts):
        yield text[start:end]


def _is_of(part: str, ids: set[str]) -> bool:
    """Tell whether a part of the text is the table of one of these tokens."""
    if "[[token]]" not in part:
        return False
    return any(token.id in ids for token in parse_entries(part).tokens)


def _edit(file: Path, change: Callable[[str], str]) -> None:
    """Change the file's text, in one step for whoever reads it, and one after the other."""
    file = file.resolve()
    try:
        with _locked(file.parent):
            mode, text = OWNER_ONLY, HEADER
            if file.exists():
                text = read_file(file).text
                parse_entries(text)  # nothing is added to what is broken
                mode = file.stat().st_mode & 0o777
            changed = change(text)
            parse_entries(changed)
            _replace(file, changed, mode)
    except OSError as error:
        msg = f"{shown(file)}: cannot be written: {error.strerror}"
        raise ConfigError(msg) from None
    except ConfigError as error:
        msg = f"{shown(file)}: {error}"
        raise ConfigError(msg) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for others who change files in a folder; the file itself is another one afterwards."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(file: Path, text: str, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fchmod(opened.fileno(), mode)
            os.fsync(opened.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
