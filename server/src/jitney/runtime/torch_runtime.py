"""One of torch's devices, as a worker's loop sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.runtime.device import open_device
from jitney.runtime.load import load_instance

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from jitney.load_options import LoadOptions
    from jitney.runtime.device import Device
    from jitney.runtime.instance import Instance

__all__ = ["TorchRuntime", "open_torch_runtime"]


class TorchRuntime:
    """A ``runtime.interface.Runtime`` on one of torch's devices."""

    def __init__(self, device: Device) -> None:
        self.name = device.name
        self.description = device.description
        self._device = device

    def pin(self, buffer: mmap.mmap) -> bool:
        """Page-lock the slots where the device copies by itself."""
        return self._device.pin(buffer)

    def memory(self) -> dict[str, int]:
        """Return the device's figures."""
        return self._device.memory()

    def load(self, path: str, options: LoadOptions, progress: Callable[[str], None]) -> Instance:
        """Load, prove and warm up a TorchScript file."""
        return load_instance(path, options, self._device, progress)


def open_torch_runtime(name: str, threads: int) -> TorchRuntime:
    """Return the runtime of a worker's device.

    :raises ConfigError: if there is no such device.
    """
    return TorchRuntime(open_device(name, threads=threads))
