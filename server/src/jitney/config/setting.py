"""One setting: what is said about it beside its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Setting", "file_setting", "setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is said about one setting beside its type and its default.

    ``low`` and ``high`` are inclusive bounds of a number. ``choices`` or ``pattern`` restrict a
    text; ``form`` describes the pattern to a person. ``is_file`` marks a text that is a path,
    ``is_list`` one with commas in it, whose flag may be repeated instead.
    """

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    form: str = ""
    is_file: bool = False
    is_list: bool = False


def setting(default: object, help_: str, **bounds: Any) -> Any:  # noqa: ANN401  # as field() is
    """Return the field of a dataclass that is a setting; ``bounds`` are those of ``Setting``."""
    return field(default=default, metadata={"setting": Setting(help_, **bounds)})


def file_setting(help_: str) -> Any:  # noqa: ANN401  # as field() is
    """Return the field of a setting that is the path of a file, empty for none."""
    return setting("", help_, pattern=r"[^\0]*", form="a file, or nothing", is_file=True)
