"""What load balancers are told, name by name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from grpc_health.v1 import health_pb2

from jitney.errors import InvalidRequest, Overloaded
from jitney.transport.health import HealthReporter, HealthService

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


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
    reporter.update()
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
        reporter.stop()
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


def test_changes_that_come_together_are_told_once() -> None:
    """Soon, and with what holds then."""

    async def scenario() -> None:
        known = Known(ready=False)
        reporter = HealthReporter(cast("Any", known))
        reporter.update()
        reporter.refresh()
        reporter.refresh()
        known.ready = True
        await asyncio.sleep(0)
        reply = await reporter.servicer.Check(health_pb2.HealthCheckRequest(), None)
        assert SERVING == reply.status

    asyncio.run(scenario())


# -- the service ----------------------------------------------------------------------------------


def watch(service: HealthService, name: str) -> AsyncGenerator[Any, None]:
    """Watch a name."""
    return service.Watch(health_pb2.HealthCheckRequest(service=name), None)


def test_watchers_hear_of_changes() -> None:
    """What holds now, and then every change of their own name; unknown names may become known."""

    async def scenario() -> None:
        service = HealthService()
        service.tell({"a": SERVING})
        one, other = watch(service, "a"), watch(service, "b")
        assert [SERVING, UNKNOWN] == [(await anext(one)).status, (await anext(other)).status]
        soon = asyncio.ensure_future(anext(one))
        service.tell({"a": SERVING, "b": SERVING})
        assert SERVING == (await anext(other)).status
        assert not soon.done()
        service.tell({"a": NOT_SERVING, "b": SERVING})
        assert NOT_SERVING == (await soon).status
        assert "<HealthService of 2 names, 2 watchers>" == repr(service)
        await one.aclose()
        await other.aclose()
        assert 0 == service.watchers

    asyncio.run(scenario())


def test_a_watcher_that_does_not_read_holds_up_nobody() -> None:
    """Nor the news, nor other watchers; when it reads, it hears what holds then."""

    async def scenario() -> None:
        service = HealthService()
        service.tell({"a": SERVING})
        hung, other = watch(service, "a"), watch(service, "a")
        await anext(hung)
        for status in (NOT_SERVING, SERVING, NOT_SERVING):
            service.tell({"a": status})
            assert status == (await anext(other)).status
        assert NOT_SERVING == (await anext(hung)).status

    asyncio.run(scenario())


def test_a_list_has_every_name() -> None:
    """Up to the number that the protocol allows."""

    async def scenario() -> None:
        service = HealthService()
        service.tell({"a": SERVING, "b": NOT_SERVING})
        listed = (await service.List(health_pb2.HealthListRequest(), None)).statuses
        assert {"a": SERVING, "b": NOT_SERVING} == {k: v.status for k, v in listed.items()}
        service.tell({str(number): SERVING for number in range(101)})
        with pytest.raises(Overloaded, match="101 names, and a reply lists 100 at most"):
            await service.List(health_pb2.HealthListRequest(), None)

    asyncio.run(scenario())


def test_names_are_short() -> None:
    """A watcher's name is kept as long as it watches."""

    async def scenario() -> None:
        request = health_pb2.HealthCheckRequest(service="x" * 129)
        service = HealthService()
        with pytest.raises(InvalidRequest):
            await service.Check(request, None)
        with pytest.raises(InvalidRequest):
            await anext(service.Watch(request, None))
        assert 0 == service.watchers

    asyncio.run(scenario())
