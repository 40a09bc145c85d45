"""What ``jitney token`` does."""

from __future__ import annotations

import math
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.access.entries import NAME, PATTERN, Rate, TokenEntry
from jitney.access.file_edits import add_token, read_entries, remove_tokens
from jitney.access.principal import Grant
from jitney.access.tokens import Hashed, id_of, new_token
from jitney.cli.failure import CommandError
from jitney.cli.table import table
from jitney.clock import wall_seconds
from jitney.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

__all__ = ["create", "list_all", "revoke"]

UNITS: Final = {"m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,6})([mhd])")
_ID: Final = re.compile(r"[0-9a-f]{16}")


def create(arguments: argparse.Namespace) -> int:
    """Make a token, keep what it is known by, and print it."""
    file, name, now = _file_of(arguments), arguments.name, wall_seconds()
    if not NAME.fullmatch(name):
        msg = "NAME: expected letters, digits and _.@:/- (and neither anonymous nor unix)"
        raise ConfigError(msg)
    models = tuple(arguments.models or ["*"])
    if not all(PATTERN.fullmatch(model) for model in models):
        msg = "--model: expected the name of a model, in which * and ? may stand"
        raise ConfigError(msg)
    token = new_token()
    entry = TokenEntry(
        name,
        id_of(token) or "",
        Hashed.of(token),
        Grant(frozenset(arguments.roles), models),
        now,
        _expiry(arguments.expires, now),
        _rate(arguments.rate, arguments.burst),
    )
    if arguments.out is not None:
        _write_new(arguments.out, token)
    try:
        add_token(file, entry)
    except ConfigError:
        if arguments.out is not None:  # it is good for nothing, and in the way of the next attempt
            arguments.out.unlink(missing_ok=True)
        raise
    if arguments.out is None:
        # Alone on stdout, so that it can be sent to where it belongs, and nowhere else.
        sys.stdout.write(f"{token}\n")
    where = "this is the only time that it is shown" if arguments.out is None else arguments.out
    sys.stderr.write(
        f"a token for '{name}' ({_grant(entry)}), {_until(entry, now)}: {where}; "
        f"its id is {entry.id}\n"
    )
    return 0


def _write_new(file: Path, token: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{token}\n")
    except OSError as error:
        msg = f"--out {file}: cannot be written: {error.strerror}"
        raise ConfigError(msg) from None


def list_all(arguments: argparse.Namespace) -> int:
    """Print who may call."""
    entries, now = read_entries(_file_of(arguments)), wall_seconds()
    rows = [
        (
            one.name,
            one.id,
            ",".join(sorted(one.grant.roles)),
            ",".join(one.grant.models),
            _limit(one.rate),
            _until(one, now),
        )
        for one in entries.tokens
    ]
    rows += [
        (
            one.name,
            f"certificate {one.san or 'CN=' + one.cn}",
            ",".join(sorted(one.grant.roles)),
            ",".join(one.grant.models),
            _limit(one.rate),
            "",
        )
        for one in entries.certificates
    ]
    _print(table(("NAME", "ID", "ROLES", "MODELS", "RATE", "VALID"), rows) if rows else ["none"])
    if entries.anonymous is not None:
        roles, models = entries.anonymous
        _print([f"without any: {', '.join(sorted(roles))} for {', '.join(models)}"])
    return 0


def revoke(arguments: argparse.Namespace) -> int:
    """Remove tokens."""
    which, file = arguments.which, _file_of(arguments)
    removed = _ID.fullmatch(which) and remove_tokens(file, lambda one: one.id == which)
    removed = removed or remove_tokens(file, lambda one: one.name == which)
    if not removed:
        msg = "there is no token of that name or id; see jitney token list"
        raise CommandError(msg)
    _print(f"revoked {one.id} of '{one.name}'" for one in removed)
    return 0


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _file_of(arguments: argparse.Namespace) -> Path:
    if not arguments.file:
        msg = "--file: name the server's file of tokens"
        raise ConfigError(msg)
    return Path(arguments.file)


def _rate(rate: float | None, burst: float | None) -> Rate | None:
    if rate is None:
        if burst is not None:
            msg = "--burst: needs --rate"
            raise ConfigError(msg)
        return None
    burst = max(1.0, rate) if burst is None else burst
    if not 0 < rate <= 1e9 or not 1 <= burst <= 1e9:  # noqa: PLR2004  # as entries has them
        msg = "--rate, --burst: expected a rate above 0, and a burst of 1 or more"
        raise ConfigError(msg)
    return Rate(rate, burst)


def _expiry(text: str, now: float) -> float:
    if text == "never":
        return math.inf
    if (match := _DURATION.fullmatch(text)) and int(match[1]):
        return now + int(match[1]) * UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        msg = f"--expires: expected 90d, 12h, 30m, a day such as 2030-01-31, or never, got {text!r}"
        raise ConfigError(msg) from None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if seconds <= now:
        msg = f"--expires: {text} is over already"
        raise ConfigError(msg)
    return seconds


def _grant(entry: TokenEntry) -> str:
    return f"{', '.join(sorted(entry.grant.roles))} for {', '.join(entry.grant.models)}"


def _limit(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.rate:g}/s"


def _until(entry: TokenEntry, now: float) -> str:
    if entry.expires == math.inf:
        return "for ever"
    day = datetime.fromtimestamp(entry.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"until {day}" if entry.expires > now else f"expired {day}"
