"""Who calls, and what they were granted."""

from __future__ import annotations

import functools
import math
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from jitney.access.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Source = Literal["anonymous", "token", "certificate", "unix"]

__all__ = [
    "ADMIN",
    "INFER",
    "OPEN",
    "READ",
    "ROLES",
    "UNIX",
    "Grant",
    "Principal",
    "acting_as",
    "become",
    "current",
]

INFER: Final = "infer"
"""Run models, and be told what they take and give."""
READ: Final = "read"
"""Be told what the server serves and how it does."""
ADMIN: Final = "admin"
"""Change what it serves, logs and traces."""
ROLES: Final = (INFER, READ, ADMIN)
"""None of them includes another: who shall do two things is given two roles."""

EVERY: Final = "*"
MAX_NAME: Final = 128
"""Characters of a model's name; no model has a longer one, and callers may send any."""
REMEMBERED: Final = 1024
"""Names of models whose answer is kept, for each principal: names come from callers."""


class Grant(NamedTuple):
    """Some roles, for the models whose names match one of the patterns (``*`` and ``?``)."""

    roles: frozenset[str]
    models: tuple[str, ...] = (EVERY,)


class Principal:
    """Somebody who calls.

    - ``may`` says what they may do; a role that no grant has is not granted.
    - ``expires`` is in seconds since the epoch, infinite where it never does. ``revoked`` is set
      when the file no longer has what they showed: a stream that is open may then go no further.
    - ``bucket`` is their rate, which all that goes under one name in the file shares.
    """

    __slots__ = (
        "_everywhere",
        "_known",
        "_patterns",
        "anywhere",
        "bucket",
        "expires",
        "grants",
        "name",
        "revoked",
        "source",
    )

    def __init__(
        self,
        name: str,
        source: Source,
        grants: Iterable[Grant],
        *,
        expires: float = math.inf,
        bucket: Bucket | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.grants = tuple(grants)
        self.expires = expires
        self.bucket = bucket or Bucket()
        self.revoked = False
        self.anywhere = frozenset(role for grant in self.grants for role in grant.roles)
        """The roles that they have for some model."""
        self._everywhere = frozenset(
            role for grant in self.grants if EVERY in grant.models for role in grant.roles
        )
        self._patterns = {
            role: _matcher(tuple(p for g in self.grants if role in g.roles for p in g.models))
            for role in self.anywhere
        }
        self._known: dict[tuple[str, str], bool] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests: nothing of it is secret."""
        roles = ", ".join(role for role in ROLES if role in self.anywhere) or "no role"
        return f"<Principal {self.name or 'anybody'} by {self.source}: {roles}>"

    def may(self, role: str, model: str) -> bool:
        """Tell whether they have a role for a model, whether or not there is one of that name."""
        if role in self._everywhere:
            return True
        known = self._known.get((role, model))
        if known is None:
            pattern = self._patterns.get(role)
            if pattern is None or len(model) > MAX_NAME:
                return False
            known = pattern.fullmatch(model) is not None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[role, model] = known
        return known

    def may_any(self, roles: Iterable[str], model: str) -> bool:
        """Tell whether they have one of some roles for a model."""
        return any(self.may(role, model) for role in roles)

    def may_everywhere(self, roles: Iterable[str]) -> bool:
        """Tell whether they have one of some roles for every model, those to come included."""
        return not self._everywhere.isdisjoint(roles)


@functools.lru_cache(maxsize=4096)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches any of some patterns. Not fnmatch: ``[`` shall mean nothing here."""
    expressions = (
        "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern) for pattern in patterns
    )
    return re.compile("|".join(expressions), re.DOTALL)


EVERYTHING: Final = (Grant(frozenset(ROLES)),)
OPEN: Final = Principal("", "anonymous", EVERYTHING)
"""Everybody, where nobody is asked who they are."""
UNIX: Final = Principal("unix", "unix", EVERYTHING)
"""Who can open the admin socket: its permissions say who that is."""

_current: ContextVar[Principal] = ContextVar("jitney.access.current", default=OPEN)


def current() -> Principal:
    """Return on whose behalf the running call is made; ``OPEN`` where nobody is asked."""
    return _current.get()


def become(principal: Principal) -> None:
    """Act on behalf of ``principal`` to the end of the running task, and in tasks that it starts.

    That is for transports in which every call is a task of its own.
    """
    _current.set(principal)


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    """Act on behalf of ``principal`` for the length of a block."""
    before = _current.set(principal)
    try:
        yield
    finally:
        _current.reset(before)
