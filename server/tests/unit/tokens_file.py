"""Files of tokens for tests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jitney.access.entries import Rate, TokenEntry
from jitney.access.file_edits import add_token
from jitney.access.principal import Grant
from jitney.access.tokens import Hashed, id_of, new_token

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["make_token"]


def make_token(
    file: Path,
    name: str,
    roles: Iterable[str] = ("infer",),
    models: tuple[str, ...] = ("*",),
    *,
    expires: float = math.inf,
    rate: Rate | None = None,
) -> str:
    """Add a token to a file, which is made where there is none; return it."""
    token = new_token()
    identifier = id_of(token)
    assert identifier is not None
    grant = Grant(frozenset(roles), models)
    entry = TokenEntry(name, identifier, Hashed.of(token), grant, 0.0, expires, rate)
    add_token(file, entry)
    return token
