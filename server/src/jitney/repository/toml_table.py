"""Strict reading of a TOML table: every key is known, and has the type it should have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TomlTable"]

MAX_SHOWN: Final = 80
"""Characters of a wrong value that an error text may repeat."""

_Values: TypeAlias = dict[str, Any]


class TomlTable:
    """One table of a file, whose keys are taken one by one.

    - A key that is absent gives None (a text or a table is empty then).
    - A value that is not what its key takes raises ConfigError with the file, the path and what was
      expected.
    - ``finish`` raises for a key that nobody took: a misspelt one must not be ignored.
    """

    def __init__(self, file_name: str, values: _Values, path: str = "") -> None:
        """Read ``values``, a table of ``file_name`` whose keys begin with ``path`` in texts."""
        self._file_name = file_name
        self._values = dict(values)
        self._path = path
        self._known: list[str] = []

    def wrong(self, key: str, expected: str, value: object) -> ConfigError:
        """Return the error of a key whose value is not what is ``expected``."""
        shown = repr(value) if len(repr(value)) <= MAX_SHOWN else type(value).__name__
        return ConfigError(
            f"{self._file_name}: {self._path}{key}: expected {expected}, got {shown}"
        )

    def refuse(self, key: str, expected: str, value: object) -> NoReturn:
        """Refuse a key whose value is not what is ``expected``.

        :raises ConfigError: always.
        """
        raise self.wrong(key, expected, value)

    def take(self, key: str) -> Any:  # noqa: ANN401  # TOML's values are what they are
        """Take a value as it is, None where it is absent."""
        self._known.append(key)
        return self._values.pop(key, None)

    def table(self, key: str) -> TomlTable:
        """Take a table; an absent one is empty."""
        value = self.take(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table, [{key}]", value)
        return TomlTable(self._file_name, value, f"{self._path}{key}.")

    def optional_table(self, key: str) -> TomlTable | None:
        """Take a table that means something by being there, None where it is absent."""
        if key in self._values:
            return self.table(key)
        self._known.append(key)
        return None

    def tables(self, key: str) -> list[TomlTable]:
        """Take a list of tables; an absent one is empty."""
        values = self.take(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, f"tables, [[{self._path}{key}]]", values)
        return [
            TomlTable(self._file_name, value, f"{self._path}{key}[{i}].")
            for i, value in enumerate(values)
        ]

    def names(self) -> list[str]:
        """Return the keys that nobody took yet, of a table in which any key may stand."""
        return list(self._values)

    def text(self, key: str) -> str:
        """Take a text; an absent one is empty."""
        value = self.take(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(key, "a text", value)
        return value

    def flag(self, key: str) -> bool | None:
        """Take true or false."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """Take one of some texts."""
        value = self.take(key)
        if value is not None and (not isinstance(value, str) or value not in choices):
            raise self.wrong(key, f"one of {', '.join(choices)}", value)
        return value

    def whole(self, key: str, low: int, high: int) -> int | None:
        """Take a whole number within inclusive bounds."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}", value)
        return value

    def wholes(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Take a list of whole numbers within inclusive bounds; an absent one is empty."""
        values = self.take(key)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(
            type(value) is int and low <= value <= high for value in values
        ):
            raise self.wrong(key, f"a list of whole numbers from {low} to {high}", values)
        return tuple(values)

    def number(self, key: str, low: float, high: float) -> float | None:
        """Take a finite number within inclusive bounds."""
        value = self.take(key)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            raise self.wrong(key, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def finish(self) -> None:
        """Refuse the keys that nobody took.

        :raises ConfigError: naming the first of them, and those that are known.
        """
        for key in self._values:
            known = ", ".join(self._known)
            msg = f"{self._file_name}: {self._path}{key}: unknown key; known are {known}"
            raise ConfigError(msg)
