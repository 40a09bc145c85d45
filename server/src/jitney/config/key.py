"""One setting under its three names, and the reading of its values."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jitney.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.config.setting import Setting

__all__ = ["AUTO", "BY_PATH", "KEYS", "PREFIX", "SECTIONS", "Key", "WrongValueError"]

PREFIX: Final = "JITNEY_"
AUTO: Final = "auto"
"""The text that stands for None where a setting may be left to the server."""

_BOOLEANS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


class WrongValueError(Exception):
    """A value is not what its setting takes; the text says what would be."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting under its three names."""

    section: str
    field: str
    kind: Any
    default: Any
    setting: Setting

    @property
    def path(self) -> str:
        """The key in the settings file, such as ``server.grpc_port``."""
        return f"{self.section}.{self.field}"

    @property
    def flag(self) -> str:
        """The flag, such as ``--grpc-port``."""
        return "--" + self.field.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable, such as ``JITNEY_SERVER_GRPC_PORT``."""
        return f"{PREFIX}{self.section}_{self.field}".upper()

    def from_text(self, text: str) -> object:
        """Read the value as flags and the environment write it: always a text."""
        if self.kind is bool:
            if text.lower() not in _BOOLEANS:
                raise WrongValueError(self.expected)
            return _BOOLEANS[text.lower()]
        if self.kind is int:
            if not re.fullmatch(r"-?[0-9]{1,20}", text):
                raise WrongValueError(self.expected)
            return self.from_value(int(text))
        if self.kind in (float, float | None) and text != AUTO:
            # float() alone would also take "nan", "1_0" and digits of other scripts.
            if not re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{0,20})?", text):
                raise WrongValueError(self.expected)
            return self.from_value(float(text))
        if self.kind == tuple[Path, ...]:
            return self.from_value(text.split(os.pathsep) if text else [])
        return self.from_value(text)

    def from_value(self, value: object) -> object:
        """Check a value as TOML has it, and return it as the tree has it.

        :raises WrongValueError: saying what was expected.
        """
        if self.kind == float | None and value == AUTO:
            return None
        if self.kind == tuple[Path, ...]:
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list) or not (values or self.default == ()):
                raise WrongValueError(self.expected)
            if not all(isinstance(item, str) and item and "\0" not in item for item in values):
                raise WrongValueError(self.expected)
            return tuple(Path(item) for item in values)
        if not self._fits(value):
            raise WrongValueError(self.expected)
        return float(value) if self.kind in (float, float | None) else value  # type: ignore[arg-type]  # _fits says that it is a number

    def _fits(self, value: object) -> bool:
        setting = self.setting
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return (
                isinstance(value, str)
                and (not setting.choices or value in setting.choices)
                and (setting.pattern is None or bool(re.fullmatch(setting.pattern, value)))
            )
        number = int if self.kind is int else int | float
        if isinstance(value, bool) or not isinstance(value, number):
            return False
        low = -math.inf if setting.low is None else setting.low
        high = math.inf if setting.high is None else setting.high
        return low <= value <= high  # False for nan

    @property
    def expected(self) -> str:
        """What the setting takes, for error texts."""
        setting = self.setting
        if self.kind is bool:
            return "true or false"
        if self.kind == tuple[Path, ...]:
            return setting.form or "one or more folders"
        if self.kind is str:
            return f"one of {', '.join(setting.choices)}" if setting.choices else setting.form
        noun = "a whole number" if self.kind is int else "a number"
        auto = f", or {AUTO}" if self.kind == float | None else ""
        return f"{noun} from {setting.low:.16g} to {setting.high:.16g}{auto}"


def _read_keys() -> Iterator[Key]:
    for section, section_type in typing.get_type_hints(Settings).items():
        kinds = typing.get_type_hints(section_type)
        for field in dataclasses.fields(section_type):
            yield Key(
                section, field.name, kinds[field.name], field.default, field.metadata["setting"]
            )


KEYS: Final = tuple(_read_keys())
BY_PATH: Final = {key.path: key for key in KEYS}
SECTIONS: Final = tuple(dict.fromkeys(key.section for key in KEYS))
