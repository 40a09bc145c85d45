"""Models that the server brings along: they compute nothing, and need no file and no worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.types import ModelRef

__all__ = ["DEVICE_PREFIX", "BuiltinSpec", "Handler", "device_of"]

Handler: TypeAlias = Literal["identity", "repeat", "echo"]

DEVICE_PREFIX: Final = "builtin:"
"""How the names of their devices begin; no other device has a colon after this word."""


@dataclass(frozen=True, slots=True)
class BuiltinSpec:
    """A built-in model: its handler and the parameters that its operator set.

    ``identity`` gives back what it gets; its parameter ``execute_delay_ms`` is how much longer than
    that every batch takes. ``repeat`` gives each element of its input in a reply of its own,
    ``echo`` the parameters of the request; both have none.
    """

    handler: Handler
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def decoupled(self) -> bool:
        """Whether a request gets any number of replies."""
        return self.handler == "repeat"


def device_of(model: ModelRef) -> str:
    """Return the name of the device that a built-in model runs on: one for each version.

    All loads of a version share it, so that a reload moves nothing in the figures of devices. A
    device for all versions of a name was the other choice; then one with a long delay would hold up
    the others.
    """
    return f"{DEVICE_PREFIX}{model}"
