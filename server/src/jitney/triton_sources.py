"""What the page of Triton's names is made from, beside what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.repository.handle import VersionState
from jitney.telemetry.triton_page import PinnedMemory, VersionFigures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney.execution.pool import WorkerPool
    from jitney.overview import Overview
    from jitney.repository.repository import Repository
    from jitney.telemetry.gpu import GpuFigures, Gpus
    from jitney.telemetry.host import Host, HostFigures

__all__ = ["TritonSources"]


class TritonSources:
    """A ``telemetry.triton_page.Sources``; everything is read when somebody asks."""

    def __init__(
        self, repository: Repository, overview: Overview, pool: WorkerPool, host: Host, gpus: Gpus
    ) -> None:
        self._repository = repository
        self._overview = overview
        self._pool = pool
        self._host = host
        self._gpus = gpus

    def versions(self) -> Iterator[VersionFigures]:
        """Yield every version that is ready."""
        waiting = self._overview.queued_requests()
        for version in list(self._repository.versions()):
            if version.state is VersionState.READY:
                loads = [report.load_seconds for report in list(version.reports.values())]
                yield VersionFigures(
                    version.ref.name,
                    str(version.ref.version),
                    max(loads, default=0.0),
                    waiting.get((version.ref.name, version.ref.version), 0),
                )

    def pinned(self) -> PinnedMemory:
        """Return the batch buffers of all workers that page-lock them."""
        return PinnedMemory(*self._pool.pinned_bytes())

    def host(self) -> HostFigures:
        """Return the figures of the machine."""
        return self._host.read()

    def gpus(self) -> Sequence[GpuFigures]:
        """Return the figures of every NVIDIA device."""
        return self._gpus.read()
