"""Where the values of settings come from: flag > environment > settings file > default.

The only module that reads environment variables or a settings file, and it is given both. Every
value that is present is checked, also one that a stronger source overrides: a mistake that shows
only after a flag is removed would be found at the worst time.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import typing
from typing import TYPE_CHECKING, Final, TypeVar

from jitney.config.key import BY_PATH, KEYS, PREFIX, SECTIONS, Key, WrongValueError
from jitney.config.settings import Settings
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["load_settings"]

# Kubernetes puts these into every container beside a Service whose name begins with "jitney";
# refusing them as unknown settings would keep the server from starting there.
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")
CLIENT_TOKEN: Final = "JITNEY_TOKEN"  # noqa: S105  # the name of a variable
"""What the commands that call a server send to it: no setting of one, though it may be started from
the same shell."""
T = TypeVar("T")

_BY_VARIABLE: Final = {key.variable: key for key in KEYS}


def load_settings(
    argv_values: Mapping[str, object], environ: Mapping[str, str], file: Path | None = None
) -> Settings:
    """Merge the sources into one tree.

    :param argv_values: what ``flag_values`` returned: paths such as ``server.grpc_port`` to the
        text given, or to a list of texts where the flag may be repeated.
    :param environ: the environment; only names that begin with ``JITNEY_`` are looked at.
    :param file: a TOML file with one table per section; folders and files in it are relative to it.
    :raises ConfigError: naming the flag, the variable or the key that is wrong.
    """
    merged: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for values in (_from_file(file), _from_environment(environ), _from_flags(argv_values)):
        for key, value in values:
            merged[key.section][key.field] = value
    types = typing.get_type_hints(Settings)
    return Settings(**{section: types[section](**values) for section, values in merged.items()})


def _from_flags(values: Mapping[str, object]) -> Iterable[tuple[Key, object]]:
    for path, value in values.items():
        key = BY_PATH.get(path)
        if key is None:
            msg = f"{path}: no such setting"
            raise ConfigError(msg)
        if isinstance(value, str):
            yield key, _checked(key.from_text, value, key.flag)
        else:
            yield key, _checked(key.from_value, value, key.flag)


def _from_environment(environ: Mapping[str, str]) -> Iterable[tuple[Key, object]]:
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        if name == CLIENT_TOKEN:
            continue
        if _SERVICE_LINK.search(name) or (name.endswith("_PORT") and _SERVICE_URL.match(text)):
            continue
        key = _BY_VARIABLE.get(name)
        if key is None:
            msg = f"{name}: no such setting{_similar(name, _BY_VARIABLE)}"
            raise ConfigError(msg)
        yield key, _checked(key.from_text, text, name)


def _from_file(file: Path | None) -> Iterable[tuple[Key, object]]:
    if file is None:
        return
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"--config: cannot read {str(file)!r}: {error.strerror}"
        raise ConfigError(msg) from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of too many brackets
        msg = f"{file.name}: not TOML: {str(error) or 'too deeply nested'}"
        raise ConfigError(msg) from None
    for section, table in tables.items():
        if section not in SECTIONS:
            msg = f"{file.name}: {section}: no such section{_similar(section, SECTIONS)}"
            raise ConfigError(msg)
        if not isinstance(table, dict):
            msg = f"{file.name}: {section}: expected a table, [{section}]"
            raise ConfigError(msg)
        for field, value in table.items():
            path = f"{section}.{field}"
            key = BY_PATH.get(path)
            if key is None:
                msg = f"{file.name}: {path}: no such setting{_similar(path, BY_PATH)}"
                raise ConfigError(msg)
            checked = _checked(key.from_value, value, f"{file.name}: {path}")
            yield key, _beside(file, checked, key)


def _beside(file: Path, value: object, key: Key) -> object:
    """Return a value as it is, or folders and files in it relative to the settings file.

    A server is often started from elsewhere than where its settings lie.
    """
    if isinstance(value, tuple):
        return tuple(file.parent / folder for folder in value)
    return str(file.parent / str(value)) if key.setting.is_file and value else value


def _checked(read: Callable[[T], object], value: T, where: str) -> object:
    try:
        return read(value)
    except WrongValueError as error:
        msg = f"{where}: expected {error}, got {value!r}"
        raise ConfigError(msg) from None


def _similar(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""
