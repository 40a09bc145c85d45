"""What stands in the file of tokens, read and checked."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from jitney.access.principal import ROLES, Grant
from jitney.access.tokens import Hashed
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NAME", "PATTERN", "CertificateEntry", "Entries", "Rate", "TokenEntry", "parse_entries"]

NAME: Final = re.compile(r"(?!(anonymous|unix)$)[A-Za-z0-9][A-Za-z0-9_.@:/-]{0,127}", re.ASCII)
"""A principal's: it stands in logs, on metrics pages and in queues."""
PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?-]{1,128}", re.ASCII)
MAX_ENTRIES: Final = 100_000
MAX_SAN: Final = 1024
_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_HIGHEST: Final = 1e9


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second, and how many at once; infinite where nobody set a limit."""

    rate: float = math.inf
    burst: float = math.inf


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token: its line has everything but the token itself."""

    name: str
    id: str
    hashed: Hashed = field(repr=False)
    grant: Grant
    created: float
    expires: float
    rate: Rate | None


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """A name in client certificates: one of the subject's alternative names, or its common name."""

    name: str
    san: str
    cn: str
    grant: Grant
    rate: Rate | None


@dataclass(frozen=True, slots=True)
class Entries:
    """Everything in the file."""

    tokens: tuple[TokenEntry, ...] = ()
    certificates: tuple[CertificateEntry, ...] = ()
    anonymous: Grant | None = None
    anonymous_rate: Rate | None = None


TOKEN_KEYS: Final = ("name", "id", "hash", "created", "expires")
CERTIFICATE_KEYS: Final = ("name", "san", "cn")
GRANT_KEYS: Final = ("roles", "models", "rate", "burst")


def parse_entries(text: str) -> Entries:
    """Return what a file says.

    :raises ConfigError: naming the entry that is wrong; hashes are not repeated.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Its texts show a character or a position, never a line.
        msg = f"not TOML: {str(error) or 'too deeply nested'}"
        raise ConfigError(msg) from None
    known = ("token", "certificate", "anonymous")
    for key in tables:
        if key not in known:
            msg = f"{key[:40]}: expected [[token]], [[certificate]] or [anonymous]"
            raise ConfigError(msg)
    tokens = tuple(
        _token(_Table(table, f"token {number}"))
        for number, table in enumerate(_tables(tables, "token"), 1)
    )
    ids = [token.id for token in tokens]
    if len(set(ids)) != len(ids):
        msg = f"token: the id {max(ids, key=ids.count)} is there more than once"
        raise ConfigError(msg)
    certificates = tuple(
        _certificate(_Table(table, f"certificate {number}"))
        for number, table in enumerate(_tables(tables, "certificate"), 1)
    )
    if "anonymous" not in tables:
        return Entries(tokens, certificates)
    anonymous = _Table(tables["anonymous"], "anonymous")
    anonymous.only(GRANT_KEYS)
    return Entries(tokens, certificates, anonymous.grant(), anonymous.rate())


def _tables(tables: Mapping[str, Any], key: str) -> list[Any]:
    found = tables.get(key, [])
    if not isinstance(found, list):
        msg = f"{key}: write [[{key}]], with two brackets: there may be several"
        raise ConfigError(msg)
    if len(found) > MAX_ENTRIES:
        msg = f"{key}: {len(found)} of them, at most {MAX_ENTRIES} are read"
        raise ConfigError(msg)
    return found


def _token(table: _Table) -> TokenEntry:
    table.only((*TOKEN_KEYS, *GRANT_KEYS))
    name = table.name()
    identifier = table.text("id", "the id that jitney token create wrote")
    if not _ID.fullmatch(identifier):
        table.fail("id", "16 hexadecimal digits")
    hashed = Hashed.read(table.text("hash", "sha256:SALT:HASH, as jitney token create wrote it"))
    if hashed is None:
        table.fail("hash", "sha256:SALT:HASH, as jitney token create wrote it")
    return TokenEntry(
        name,
        identifier,
        hashed,
        table.grant(),
        table.moment("created", -math.inf),
        table.moment("expires", math.inf),
        table.rate(),
    )


def _certificate(table: _Table) -> CertificateEntry:
    table.only((*CERTIFICATE_KEYS, *GRANT_KEYS))
    san, cn = (table.get(key, "") for key in ("san", "cn"))
    if not isinstance(san, str) or not isinstance(cn, str) or bool(san) == bool(cn):
        table.fail("san, cn", "one of them, a text: a name that stands in the certificate")
    if len(san or cn) > MAX_SAN:
        table.fail("san, cn", f"at most {MAX_SAN} characters")
    name = table.name(otherwise=san or cn)
    return CertificateEntry(name, san, cn, table.grant(), table.rate())


class _Table:
    """A table of the file, and how its mistakes are told."""

    def __init__(self, table: object, where: str) -> None:
        self._where = where
        if not isinstance(table, dict):
            msg = f"{where}: expected a table"
            raise ConfigError(msg)
        self._table: dict[str, Any] = table

    def fail(self, key: str, expected: str) -> NoReturn:
        msg = f"{self._where}: {key}: expected {expected}"
        raise ConfigError(msg)

    def get(self, key: str, default: object) -> Any:  # noqa: ANN401  # whatever TOML has there
        return self._table.get(key, default)

    def only(self, keys: tuple[str, ...]) -> None:
        for key in self._table:
            if key not in keys:
                # A name that was written wrongly would otherwise be a limit that is not there.
                msg = f"{self._where}: {key[:40]}: no such key; there are {', '.join(keys)}"
                raise ConfigError(msg)

    def text(self, key: str, expected: str) -> str:
        value = self._table.get(key)
        if not isinstance(value, str):
            self.fail(key, expected)
        return value

    def name(self, otherwise: str = "") -> str:
        value = self._table.get("name", otherwise)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.fail("name", "letters, digits and _.@:/- (and neither anonymous nor unix)")
        self._where = f"{self._where} ({value})"
        return value

    def grant(self) -> Grant:
        roles = self._texts("roles", None)
        if not roles or not set(roles) <= set(ROLES):
            self.fail("roles", f"a list of some of {', '.join(ROLES)}")
        models = self._texts("models", ["*"])
        if not models or not all(PATTERN.fullmatch(model) for model in models):
            self.fail("models", "a list of names of models, in which * and ? may stand")
        return Grant(frozenset(roles), tuple(models))

    def _texts(self, key: str, default: list[str] | None) -> list[str]:
        values = self._table.get(key, default)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self.fail(key, "a list of texts")
        return values

    def rate(self) -> Rate | None:
        if "rate" not in self._table:
            if "burst" in self._table:
                self.fail("rate", "a number beside burst")
            return None
        rate = self._number("rate", 0)
        return Rate(rate, self._number("burst", max(1.0, rate)))

    def _number(self, key: str, default: float) -> float:
        value = self._table.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        low = 1 if key == "burst" else 1e-6
        if not is_number or not low <= value <= _HIGHEST:
            self.fail(key, f"a number from {low:g} to {_HIGHEST:g}")
        return float(value)

    def moment(self, key: str, default: float) -> float:
        value = self._table.get(key)
        if value is None:
            return default
        if not isinstance(value, datetime) or value.tzinfo is None:
            self.fail(key, "a moment such as 2030-01-31T12:00:00Z")
        return value.timestamp()
