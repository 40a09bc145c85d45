"""The command line's flags for settings: one per setting, derived from the tree."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from jitney.config.key import AUTO, BY_PATH, KEYS, SECTIONS, Key
from jitney.config.tritonserver import INSTEAD
from jitney.errors import ConfigError

__all__ = ["add_flags", "flag_values"]

FOREIGN = "flags of tritonserver"
"""Where those of its flags are kept that are not ours; no attribute of a setting has blanks."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting, grouped by section; what is not given leaves no trace.

    Flags of tritonserver are known as well, so that ``flag_values`` can say what to write instead.
    """
    for section in SECTIONS:
        group = parser.add_argument_group(section)
        for key in KEYS:
            if key.section != section:
                continue
            options: dict[str, Any] = {"metavar": _metavar(key)}
            if key.kind is bool:
                # Triton writes both "--flag" and "--flag=false".
                options |= {"nargs": "?", "const": "true"}
            elif key.kind == tuple[Path, ...] or key.setting.is_list:
                options["action"] = "append"
            group.add_argument(
                key.flag,
                dest=key.path,
                default=argparse.SUPPRESS,
                help=f"{key.setting.help} (default {_default(key)}; {key.variable})",
                **options,
            )

    for flag in INSTEAD:
        parser.add_argument(
            flag, action=_Foreign, nargs="?", dest=FOREIGN, help=argparse.SUPPRESS, default=[]
        )


class _Foreign(argparse.Action):
    """Notes that a flag was given, whatever its value."""

    def __call__(self, _: object, namespace: argparse.Namespace, *__: object) -> None:
        given = getattr(namespace, FOREIGN)
        setattr(namespace, FOREIGN, [*given, self.option_strings[0]])


def flag_values(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings among parsed arguments, as ``load_settings`` takes them.

    :raises ConfigError: for all flags of tritonserver among them, with what to write instead.
    """
    if foreign := list(dict.fromkeys(getattr(arguments, FOREIGN, ()))):
        lines = [f"  {flag}: {INSTEAD[flag]}" for flag in foreign]
        msg = "\n".join(["flags of tritonserver, which are others here:", *lines])
        raise ConfigError(msg)
    values = {path: value for path, value in vars(arguments).items() if path in BY_PATH}
    for path, value in values.items():
        if BY_PATH[path].setting.is_list:
            values[path] = ",".join(value)
    return values


def _metavar(key: Key) -> str:
    if key.kind is bool:
        return "true|false"
    if key.setting.choices:
        return "|".join(key.setting.choices)
    if key.kind == tuple[Path, ...]:
        return "DIR"
    if key.setting.is_file:
        return "FILE"
    for unit in ("seconds", "ms", "bytes", "port"):
        if key.field.endswith("_" + unit):
            return unit.upper()
    return "TEXT" if key.kind is str else "N"


def _default(key: Key) -> str:
    if key.kind is bool:
        return str(key.default).lower()
    if key.kind == tuple[Path, ...]:
        return os.pathsep.join(map(str, key.default))
    return AUTO if key.default is None else f"{key.default}"
