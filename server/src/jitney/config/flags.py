"""The command line's flags for settings: one per setting, derived from the tree."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from jitney.config.key import AUTO, BY_PATH, KEYS, SECTIONS, Key

__all__ = ["add_flags", "flag_values"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting, grouped by section; what is not given leaves no trace."""
    for section in SECTIONS:
        group = parser.add_argument_group(section)
        for key in KEYS:
            if key.section != section:
                continue
            options: dict[str, Any] = {"metavar": _metavar(key)}
            if key.kind is bool:
                # Triton writes both "--flag" and "--flag=false".
                options |= {"nargs": "?", "const": "true"}
            elif key.kind == tuple[Path, ...]:
                options["action"] = "append"
            group.add_argument(
                key.flag,
                dest=key.path,
                default=argparse.SUPPRESS,
                help=f"{key.setting.help} (default {_default(key)}; {key.variable})",
                **options,
            )


def flag_values(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings among parsed arguments, as ``load_settings`` takes them."""
    return {path: value for path, value in vars(arguments).items() if path in BY_PATH}


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
