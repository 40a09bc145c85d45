"""What one reading of the file of tokens comes to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from jitney.access.bucket import Bucket
from jitney.access.principal import Principal
from jitney.access.tokens import Hashed, id_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from jitney.access.entries import CertificateEntry, Entries, Rate
    from jitney.access.principal import Grant, Source

__all__ = ["Book"]


class Credential(NamedTuple):
    """What is kept of a token, and who shows it."""

    hashed: Hashed
    principal: Principal


class Book:
    """Everybody in the file, by what they show; replaced as a whole by the next reading.

    Who stands in it as before stays the same object, with what is left of their rate.

    :param rate: of those who have none of their own.
    """

    def __init__(self, entries: Entries, rate: Rate, before: Book | None = None) -> None:
        self._rate = rate
        self.known: dict[Hashable, Principal] = {}
        """Everybody, by all that is said of them."""
        self.buckets: dict[tuple[str, Rate], Bucket] = {}
        self._tokens: dict[str, Credential] = {}
        for entry in entries.tokens:
            principal = self._principal(
                before, entry, "token", entry.name, (entry.grant,), entry.rate, entry.expires
            )
            self._tokens[entry.id] = Credential(entry.hashed, principal)
        by_name: dict[tuple[str, str], list[CertificateEntry]] = {}
        for one in entries.certificates:
            by_name.setdefault(("san", one.san) if one.san else ("cn", one.cn), []).append(one)
        self._certificates: dict[tuple[str, str], Principal] = {}
        for key, ones in by_name.items():
            grants = tuple(one.grant for one in ones)
            self._certificates[key] = self._principal(
                before, tuple(ones), "certificate", ones[0].name, grants, ones[0].rate
            )
        grants = () if entries.anonymous is None else (entries.anonymous,)
        rate_of_nobody = entries.anonymous_rate
        key_of_nobody = ("anonymous", grants, rate_of_nobody)
        self.anonymous = self._principal(
            before, key_of_nobody, "anonymous", "anonymous", grants, rate_of_nobody
        )
        self.verified: dict[bytes, Principal] = {}
        """Who showed what was good, by its SHA-256: so whoever is known costs one hash and one
        look-up, and no comparison whose time could tell something. Only what has a token of the
        file in it gets here, in one spelling, so there are no more than these."""

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Book {len(self._tokens)} tokens, {len(self._certificates)} certificates>"

    def _principal(
        self,
        before: Book | None,
        key: Hashable,
        source: Source,
        name: str,
        grants: tuple[Grant, ...],
        rate: Rate | None,
        expires: float = math.inf,
    ) -> Principal:
        rate = rate or self._rate
        # Several tokens of one name are one caller, who changes from one to the next.
        place = (name, rate)
        bucket = self.buckets.get(place)
        if bucket is None:
            bucket = before.buckets.get(place) if before else None
            bucket = bucket or Bucket(rate.rate, rate.burst)
            self.buckets[place] = bucket
        principal = before.known.get(key) if before else None
        if principal is None:
            principal = Principal(name, source, grants, expires=expires, bucket=bucket)
        self.known[key] = principal
        return principal

    @property
    def has_certificates(self) -> bool:
        """Whether there is anybody who is known by a certificate."""
        return bool(self._certificates)

    def principals(self) -> list[Principal]:
        """Return everybody in it."""
        return list(self.known.values())

    def of_token(self, token: str) -> Principal | None:
        """Return who shows this token, expired or not; None where it is nobody's."""
        identifier = id_of(token)
        credential = self._tokens.get(identifier) if identifier is not None else None
        if credential is None or not credential.hashed.matches(token):
            return None
        return credential.principal

    def of_certificate(self, sans: Iterable[str], common_names: Iterable[str]) -> Principal | None:
        """Return who has a certificate with these names, alternative names first."""
        for kind, names in (("san", sans), ("cn", common_names)):
            for name in names:
                found = self._certificates.get((kind, name))
                if found is not None:
                    return found
        return None

    def revoke_missing(self, after: Book) -> None:
        """Mark everybody who is not in the next reading any more, or stands otherwise in it."""
        still = {id(principal) for principal in after.principals()}
        for principal in self.principals():
            if id(principal) not in still:
                principal.revoked = True
