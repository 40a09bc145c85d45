"""The devices, and how long things take on the best of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.scheduling.batch import NO_DEADLINE
from jitney.scheduling.device import DeviceState
from jitney.scheduling.group import Group, groups_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from jitney.latency_profile import LatencyProfile
    from jitney.scheduling.batch import Batch, BatchKey
    from jitney.scheduling.latency import LatencyModel
    from jitney.scheduling.model_latency import ModelLatency
    from jitney.types import ModelRef

__all__ = ["Fleet"]


class Fleet:
    """What may run where.

    ``groups`` are the devices that share models; they are made anew, without a load, whenever
    devices or models come or go. ``epoch`` counts the occasions on which another device may have
    become the fastest for something. ``unbegun`` are the batches that lost devices were to run
    next: nobody has begun them.
    """

    __slots__ = (
        "_devices",
        "_group_of",
        "_homeless",
        "_least_spread",
        "_rivals",
        "epoch",
        "groups",
        "unbegun",
    )

    def __init__(self, least_spread: float) -> None:
        self._least_spread = least_spread
        self._devices: dict[str, DeviceState] = {}
        self._rivals: dict[ModelRef, frozenset[ModelRef]] = {}
        self._homeless = Group()
        self._group_of: dict[ModelRef, Group] = {}
        self.groups: list[Group] = [self._homeless]
        self.epoch = 0
        self.unbegun: set[Batch] = set()

    def __len__(self) -> int:
        """Return how many devices there are."""
        return len(self._devices)

    def __iter__(self) -> Iterator[DeviceState]:
        """Return the devices in the order in which they came up."""
        return iter(self._devices.values())

    def get(self, name: str) -> DeviceState | None:
        """Return a device, if it is there."""
        return self._devices.get(name)

    def add(self, name: str) -> None:
        """Add a device that runs nothing yet."""
        self._devices[name] = DeviceState(name)
        self._changed()

    def remove(self, name: str) -> None:
        """Remove a device."""
        device = self._devices.pop(name, None)
        self._changed()
        if device is not None and device.staged is not None:
            self.unbegun.add(device.staged)

    def add_model(self, device: str, model: ModelRef, profile: LatencyProfile | None) -> None:
        """Let a device, if it is there, run a model."""
        if device in self._devices:
            self._devices[device].add(model, profile)
        self._changed()

    def remove_model(self, device: str, model: ModelRef) -> None:
        """Let a device run a model no more."""
        if device in self._devices:
            self._devices[device].discard(model)
        self._changed()

    def set_loading(self, device: str, *, loading: bool) -> None:
        """Note whether a device, if it is there, is busy with loading a model."""
        if device in self._devices:
            self._devices[device].loading = loading

    def latency(self, device: DeviceState, key: BatchKey) -> LatencyModel:
        """Return how long batches of a key take on a device."""
        return device.latency(key, self._least_spread)

    def latencies(self) -> list[ModelLatency]:
        """Return what is known of how long batches take, by device and model; on any thread."""
        return [
            latency
            for device in list(self._devices.values())
            for latency in device.latencies(self._least_spread)
        ]

    def reference(self, key: BatchKey) -> LatencyModel:
        """Return the latencies of the fastest device for a key; if none runs it, of an unknown."""
        models = [self.latency(device, key) for device in self if key.model in device.models]
        if not models:
            return DeviceState("").latency(key, self._least_spread)
        return min(models, key=lambda latency: latency.planned(key.max_rows))

    def free_at(self, model: ModelRef, now: float) -> tuple[float, int]:
        """Return when one of the devices with a model is free, and how many there are."""
        first = NO_DEADLINE
        count = 0
        for device in self:
            if model in device.models and not device.loading:
                count += 1
                first = min(first, device.free_at if device.running else now)
        return max(now, first), count

    def _changed(self) -> None:
        self._rivals.clear()
        self.epoch += 1
        self._homeless = Group()
        self.groups = [*groups_of(self), self._homeless]
        self._group_of = {model: group for group in self.groups for model in group.models}

    def group(self, model: ModelRef) -> Group:
        """Return the group of the devices that run a model."""
        return self._group_of.get(model, self._homeless)

    def rivals(self, model: ModelRef) -> frozenset[ModelRef]:
        """Return the models that share a device with one, itself included."""
        rivals = self._rivals.get(model)
        if rivals is None:
            shared = [device.models for device in self if model in device.models]
            rivals = self._rivals[model] = frozenset().union(*shared)
        return rivals

    def others(self, device: DeviceState, now: float) -> list[float]:
        """Return when other devices will be free, ascending; now for those that are.

        Only those count that run something of what this one runs: a device whose models are still
        loading is idle, and no help.
        """
        if len(self._devices) == 1:
            return []
        models = device.models.keys()
        return sorted(
            other.free_at if other.running else now
            for other in self
            if other is not device and not other.loading and not models.isdisjoint(other.models)
        )

    def idle_models(self, device: DeviceState) -> Container[ModelRef]:
        """Return the models that other devices could run now."""
        if len(self._devices) == 1:
            return ()
        idle = [other.models for other in self if other is not device and other.is_idle]
        return idle[0] if len(idle) == 1 else frozenset().union(*idle)
