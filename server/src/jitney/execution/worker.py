"""The worker process that runs models with torch: ``python -m jitney.execution.worker``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jitney.execution.worker_loop import run_worker
from jitney.runtime.device import open_device
from jitney.runtime.load import load_instance

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

    from jitney.load_options import LoadOptions
    from jitney.runtime.device import Device
    from jitney.runtime.instance import Instance

__all__ = ["TorchRuntime", "main"]


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on the descriptors it inherited; return the exit code."""

    def open_runtime(name: str, threads: int) -> TorchRuntime:
        return TorchRuntime(open_device(name, threads=threads))

    return run_worker(argv, open_runtime)


if __name__ == "__main__":
    sys.exit(main())
