"""What load balancers are told, name by name."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from grpc_health.v1 import health_pb2

from jitney.transport.health import HealthReporter

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Known:
    """What the server says of itself; tests change it."""

    def __init__(self, *, ready: bool, **models: bool) -> None:
        self.ready = ready
        self.models = models

    def is_ready(self) -> bool:
        """Return whether it can serve what it should."""
        return self.ready

    def models_ready(self) -> dict[str, bool]:
        """Return the models."""
        return self.models


async def told(reporter: HealthReporter, *names: str) -> list[int]:
    """Return what somebody hears who asks for these names now."""
    await reporter.update()
    replies = [
        await reporter.servicer.Check(health_pb2.HealthCheckRequest(service=name), None)
        for name in names
    ]
    return [reply.status for reply in replies]


def test_every_name_has_its_own_truth() -> None:
    """Models, the server, and the process; only the process lives on when the server stops."""

    async def scenario() -> None:
        known = Known(ready=True, up=True, down=False)
        reporter = HealthReporter(cast("Any", known))
        names = ("", "readiness", "liveness", "up", "down")
        expected = [SERVING, SERVING, SERVING, SERVING, NOT_SERVING]
        assert expected == await told(reporter, *names)
        await reporter.stop()
        expected = [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING, NOT_SERVING]
        assert expected == await told(reporter, *names)

    asyncio.run(scenario())


def test_a_model_that_is_gone_from_the_repository_does_not_serve() -> None:
    """Nobody speaks of it any more, and the last word must not be that it serves."""

    async def scenario() -> None:
        known = Known(ready=True, here=True, leaving=True)
        reporter = HealthReporter(cast("Any", known))
        assert [SERVING, SERVING] == await told(reporter, "here", "leaving")
        del known.models["leaving"]
        assert [SERVING, NOT_SERVING] == await told(reporter, "here", "leaving")
        known.models["leaving"] = True
        assert [SERVING] == await told(reporter, "leaving")

    asyncio.run(scenario())
