"""Models that the server brings along: they compute nothing, and need no file and no device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BuiltinSpec", "Handler"]

Handler: TypeAlias = Literal["identity", "repeat", "echo"]


@dataclass(frozen=True, slots=True)
class BuiltinSpec:
    """A built-in model: its handler and the parameters that its operator set."""

    handler: Handler
    parameters: Mapping[str, str] = field(default_factory=dict)
