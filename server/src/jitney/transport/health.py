"""``grpc.health.v1``: what load balancers and orchestrators ask.

Names: ``""`` and ``readiness`` (the server can serve what it should), ``liveness`` (the process
answers; it never waits for a device), and the name of every model.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from grpc_health.v1 import health_pb2, health_pb2_grpc

from jitney.errors import InvalidRequest, ModelNotFound, Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jitney.overview import Overview

__all__ = ["HealthReporter", "HealthService"]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
MAX_NAME: Final = 128
MAX_LISTED: Final = 100
"""Names that one reply may list, as the protocol has it."""


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    """Answers by name what ``tell`` was told last.

    gRPC's own service for asyncio writes to its watchers under a lock that whoever tells it of a
    change needs as well: one watcher that does not read keeps the news from everybody, and a server
    from stopping. Here each watcher looks for itself, and misses at most what was superseded before
    it read.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.watchers = 0

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<HealthService of {len(self._statuses)} names, {self.watchers} watchers>"

    def tell(self, statuses: dict[str, int]) -> None:
        """Put statuses in force; names that are not among them are unknown from now on."""
        if statuses != self._statuses:
            self._statuses = statuses
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def Check(  # noqa: N802  # the protocol's name
        self, request: health_pb2.HealthCheckRequest, _: object
    ) -> health_pb2.HealthCheckResponse:
        """Answer for one name.

        :raises ModelNotFound: where there is no such name.
        """
        status = self._statuses.get(_name_of(request))
        if status is None:
            msg = "unknown service"
            raise ModelNotFound(msg)
        return health_pb2.HealthCheckResponse(status=status)

    async def List(  # noqa: N802  # the protocol's name
        self, _: health_pb2.HealthListRequest, __: object
    ) -> health_pb2.HealthListResponse:
        """Answer for all names.

        :raises Overloaded: where these are too many for one reply.
        """
        if len(self._statuses) > MAX_LISTED:
            msg = f"there are {len(self._statuses)} names, and a reply lists {MAX_LISTED} at most"
            raise Overloaded(msg, reason="TOO_MANY_NAMES")
        response = health_pb2.HealthListResponse()
        for name, status in self._statuses.items():
            response.statuses[name].status = status
        return response

    async def Watch(  # noqa: N802  # the protocol's name
        self, request: health_pb2.HealthCheckRequest, _: object
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answer for one name now and after every change; unknown names may become known."""
        name, told = _name_of(request), None
        self.watchers += 1
        try:
            while True:
                changed = self._changed
                status = self._statuses.get(name, UNKNOWN)
                if status != told:
                    told = status
                    yield health_pb2.HealthCheckResponse(status=status)
                else:
                    await changed.wait()
        finally:
            self.watchers -= 1


def _name_of(request: health_pb2.HealthCheckRequest) -> str:
    name: str = request.service
    if len(name) > MAX_NAME:
        msg = f"the service's name has {len(name)} characters, at most {MAX_NAME} are allowed"
        raise InvalidRequest(msg)
    return name


class HealthReporter:
    """Keeps the health service in step with the truth.

    ``refresh`` may be called at any moment from the event loop and coalesces; watchers hear of
    every change that lasts. After ``stop`` everything is NOT_SERVING for good, but ``liveness``.
    """

    def __init__(self, overview: Overview) -> None:
        self.servicer = HealthService()
        self._overview = overview
        self._known: set[str] = set()
        self._handle: asyncio.Handle | None = None
        self._stopping = False

    def refresh(self) -> None:
        """Bring every name up to date, soon."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self.update)

    def update(self) -> None:
        """Bring every name up to date, now."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        ready = self._overview.is_ready()
        wanted = {"": ready, "readiness": ready, **self._overview.models_ready()}
        # Of a model that is gone from the repository, the last word would hold for ever.
        self._known.update(wanted)
        statuses = {
            name: SERVING if wanted.get(name, False) and not self._stopping else NOT_SERVING
            for name in self._known
        }
        self.servicer.tell({**statuses, "liveness": SERVING})

    def stop(self) -> None:
        """Say NOT_SERVING from now on."""
        self._stopping = True
        self.update()
