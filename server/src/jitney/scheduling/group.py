"""Devices that share models, and so their load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.scheduling.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.scheduling.device import DeviceState
    from jitney.types import ModelRef

__all__ = ["Group", "groups_of"]


class Group:
    """Devices that are connected by the models that they run, and what is asked of them together.

    What one of them is asked for can be done by, or keeps from other work, only devices of its
    group. So demand is compared with the devices of a group, never of others: a busy model that
    has devices to itself does not raise the price of any other's.

    ``devices`` has those that run models, ``models`` what they run. The group of models that no
    device runs has no devices.
    """

    __slots__ = ("devices", "load", "models")

    def __init__(self, devices: Iterable[DeviceState] = ()) -> None:
        self.devices = tuple(devices)
        self.models: frozenset[ModelRef] = frozenset().union(*(d.models for d in self.devices))
        self.load = Load()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        names = ", ".join(device.name for device in self.devices)
        return f"<Group of {names or 'no device'}, load {self.load.utilisation:.2f}>"

    @property
    def working(self) -> int:
        """The number of devices that are not kept from work by loading a model, at least 1."""
        return max(1, sum(not device.loading for device in self.devices))


def groups_of(devices: Iterable[DeviceState]) -> list[Group]:
    """Return the groups of devices, in their order; devices without models are in none."""
    parts: list[tuple[set[ModelRef], list[DeviceState]]] = []
    for device in devices:
        if not device.models:
            continue
        models, members = set(device.models), [device]
        apart = []
        for part in parts:
            if models.isdisjoint(part[0]):
                apart.append(part)
            else:
                models |= part[0]
                members = [*part[1], *members]
        parts = [*apart, (models, members)]
    return [Group(members) for _, members in parts]
