"""``grpc.health.v1``: what load balancers and orchestrators ask.

Names: ``""`` and ``readiness`` (the server can serve what it should), ``liveness`` (the process
answers; it never waits for a device), and the name of every model.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

if TYPE_CHECKING:
    from jitney.overview import Overview

__all__ = ["HealthReporter"]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class HealthReporter:
    """Keeps the standard health servicer in step with the truth.

    ``refresh`` may be called at any moment from the event loop and coalesces; watchers hear of
    every change. After ``stop`` everything is NOT_SERVING for good, but ``liveness``.
    """

    def __init__(self, overview: Overview) -> None:
        self.servicer = aio.HealthServicer()
        self._overview = overview
        self._told: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._dirty = False

    def refresh(self) -> None:
        """Bring every name up to date, soon."""
        self._dirty = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._tell())

    async def update(self) -> None:
        """Bring every name up to date, now."""
        self.refresh()
        if self._task is not None:
            await self._task

    async def stop(self) -> None:
        """Say NOT_SERVING from now on."""
        self._stopping = True
        await self.update()

    async def _tell(self) -> None:
        while self._dirty:
            self._dirty = False
            ready = self._overview.is_ready()
            # Of a model that is gone from the repository, the last word would hold for ever.
            gone = dict.fromkeys(self._told, False)
            wanted = {**gone, "": ready, "readiness": ready, **self._overview.models_ready()}
            statuses = {
                name: SERVING if serving and not self._stopping else NOT_SERVING
                for name, serving in wanted.items()
            }
            statuses["liveness"] = SERVING
            for name, status in statuses.items():
                if self._told.get(name) != status:
                    self._told[name] = status
                    await self.servicer.set(name, status)
