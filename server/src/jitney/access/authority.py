"""Knows everybody who may call, from a file that may change while the server runs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Final

from jitney.access.book import Book
from jitney.access.entries import Rate, parse_entries
from jitney.access.file import identity_of, read_file, shown
from jitney.access.principal import READ
from jitney.clock import wall_seconds
from jitney.errors import ConfigError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from jitney.access.principal import Principal

__all__ = ["Authority"]

log = logging.getLogger(__name__)

SCHEME: Final = "bearer "
NO_LIMIT: Final = Rate()
UNKNOWN: Final = "the token is not one of this server's, or was revoked"


class Authority:
    """Turns what comes with a call into the principal who makes it.

    - A call that shows nothing is ``anonymous``'s, who may do what the file says, mostly nothing.
    - ``poll`` reads the file again when it changed. One that cannot be read or is wrong changes
      nothing: everybody stays as they were, ``broken`` says so, and ``told`` is called once.
    - Tokens expire by the wall clock, at the moment that stands in the file, whatever else happens.

    :param told: is called after a reading with ``loaded`` or ``broken``, and a text for people.
    :raises ConfigError: when the file cannot be used at the start.
    """

    def __init__(
        self,
        file: Path,
        rate: Rate = NO_LIMIT,
        told: Callable[[str, str], None] = lambda *_: None,
        wall: Callable[[], float] = wall_seconds,
    ) -> None:
        self._file = file
        self._rate = rate
        self._told = told
        self._wall = wall
        self.broken = ""
        """Why the file as it is now cannot be used; empty while it is in force."""
        try:
            content = read_file(file)
            self._book = Book(parse_entries(content.text), rate)
        except ConfigError as error:
            msg = f"access.tokens_file: {shown(file)}: {error}"
            raise ConfigError(msg) from None
        self._identity, self._digest = content.identity, content.digest

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Authority {self._book}{', broken file' if self.broken else ''}>"

    # -- who calls ------------------------------------------------------------------------------

    @property
    def anonymous(self) -> Principal:
        """Who calls without showing anything."""
        return self._book.anonymous

    @property
    def has_certificates(self) -> bool:
        """Whether there is anybody who is known by a certificate."""
        return self._book.has_certificates

    def by_token(self, authorization: str) -> Principal:
        """Return who calls with this value of ``authorization``.

        :raises Unauthenticated: when it is not a token of somebody's, or no longer.
        """
        book = self._book
        shown = hashlib.sha256(authorization.encode("utf-8", "backslashreplace")).digest()
        principal = book.verified.get(shown)
        if principal is None:
            principal = _first_time(book, shown, authorization)
        if principal.expires <= self._wall():
            raise Unauthenticated(_expired(principal))
        return principal

    def by_certificate(self, sans: Iterable[str], common_names: Iterable[str]) -> Principal:
        """Return who calls with a certificate of these names; ``anonymous`` where it is unknown."""
        return self._book.of_certificate(sans, common_names) or self.anonymous

    def ensure_current(self, principal: Principal) -> None:
        """Do nothing while what somebody showed earlier still holds.

        :raises Unauthenticated: when it does not.
        """
        if principal.revoked:
            raise Unauthenticated(UNKNOWN)
        if principal.expires <= self._wall():
            raise Unauthenticated(_expired(principal))

    def may_read_metrics(
        self, authorization: str, names: tuple[Iterable[str], Iterable[str]]
    ) -> bool:
        """Tell whether somebody may read figures of the whole server; from any thread.

        :param authorization: the header's value, empty for none.
        :param names: of the client's certificate, alternative ones and common ones.
        """
        if not authorization:
            return self.by_certificate(*names).may_everywhere((READ,))
        try:
            return self.by_token(authorization).may_everywhere((READ,))
        except Unauthenticated:
            return False

    # -- the file -------------------------------------------------------------------------------

    async def poll(self) -> None:
        """Read the file again if it changed; on a thread, as disks may be slow."""
        book = self._book
        try:
            if await asyncio.to_thread(identity_of, self._file) == self._identity:
                return
            content = await asyncio.to_thread(read_file, self._file)
            if content.digest == self._digest and not self.broken:
                self._identity = content.identity
                return
            entries = await asyncio.to_thread(parse_entries, content.text)
            after = await asyncio.to_thread(Book, entries, self._rate, book)
        except ConfigError as error:
            self._is_broken(str(error))
            return
        self._book, self.broken = after, ""
        self._identity, self._digest = content.identity, content.digest
        book.revoke_missing(after)
        log.info("%s is in force: %r", shown(self._file), after)
        self._told("loaded", repr(after))

    def _is_broken(self, why: str) -> None:
        if why == self.broken:
            return
        self.broken = why
        # Whatever is found next is read, also what was in force before.
        self._identity = ()
        log.error(
            "access.tokens_file: %s: %s; what was in it before stays in force",
            shown(self._file),
            why,
        )
        self._told("broken", why)


def _first_time(book: Book, shown: bytes, authorization: str) -> Principal:
    """Return who shows a token that was not seen since the file was read.

    :raises Unauthenticated: when it is nobody's.
    """
    if authorization[: len(SCHEME)].lower() != SCHEME:
        msg = "authorization: expected 'Bearer' and a token"
        raise Unauthenticated(msg)
    token = authorization[len(SCHEME) :].strip()
    principal = book.of_token(token)
    if principal is None:
        raise Unauthenticated(UNKNOWN)
    if authorization == f"Bearer {token}":  # of its other spellings there are any number
        book.verified[shown] = principal
    return principal


def _expired(principal: Principal) -> str:
    return f"the token of '{principal.name}' has expired; ask for a new one"
