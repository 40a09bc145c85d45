"""How busy NVIDIA's devices are, as their driver says.

It is asked in the server's process, which has no CUDA: the driver's management library needs none.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GpuFigures", "Gpus"]

log = logging.getLogger(__name__)


class GpuFigures(NamedTuple):
    """One device; what it cannot tell is None. Memory is in bytes, utilisation 0 to 1."""

    uuid: str
    utilisation: float | None
    memory_total: int | None
    memory_used: int | None
    watts: float | None
    watts_limit: float | None
    joules: float | None


class Gpus:
    """Reads every device; none where there is no driver."""

    def __init__(self, library: Any = None) -> None:  # noqa: ANN401  # a module
        """Open the library.

        :param library: instead of NVIDIA's; for tests.
        """
        self._library = library or _nvml()
        self._joules_before: dict[str, float] = {}

    def read(self) -> list[GpuFigures]:
        """Return the figures of every device, in the driver's order."""
        nvml = self._library
        if nvml is None:
            return []
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
            return [self._read(nvml, handle) for handle in handles]
        except nvml.NVMLError as error:
            log.warning("the driver's figures cannot be read any more: %s", error)
            self._library = None
            return []

    def _read(self, nvml: Any, handle: Any) -> GpuFigures:  # noqa: ANN401
        def ask(call: Callable[[Any], Any]) -> Any:  # noqa: ANN401
            try:
                return call(handle)
            except nvml.NVMLError:  # many devices cannot tell everything
                return None

        uuid = nvml.nvmlDeviceGetUUID(handle)
        uuid = uuid.decode() if isinstance(uuid, bytes) else str(uuid)
        rates, memory = ask(nvml.nvmlDeviceGetUtilizationRates), ask(nvml.nvmlDeviceGetMemoryInfo)
        milliwatts = ask(nvml.nvmlDeviceGetPowerUsage)
        limit = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
        millijoules = ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        joules = None
        if millijoules is not None:
            # The driver counts from its own start; ours is what a counter's reader expects.
            joules = millijoules / 1000 - self._joules_before.setdefault(uuid, millijoules / 1000)
        return GpuFigures(
            uuid,
            None if rates is None else rates.gpu / 100,
            None if memory is None else memory.total,
            None if memory is None else memory.used,
            None if milliwatts is None else milliwatts / 1000,
            None if limit is None else limit / 1000,
            joules,
        )


def _nvml() -> Any:  # noqa: ANN401
    try:
        import pynvml  # noqa: PLC0415  # optional: there may be no such device
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
