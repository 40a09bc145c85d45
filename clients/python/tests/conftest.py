"""A server to call, and both clients to call it with."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# pytest imports test files by their path, so that their names may recur; helpers are looked up.
sys.path.insert(0, str(Path(__file__).parent))

from as_blocking import AsBlocking
from fake_server import FakeServer

from jitney_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Run a server on a free port of the loopback."""
    with FakeServer() as server:
        yield server


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Return what makes clients; every test that uses it runs with either kind."""
    with ExitStack() as stack:

        def make(address: Any, **options: Any) -> Any:
            kind = Client if request.param == "blocking" else AsBlocking.client
            return stack.enter_context(kind(address, **{"timeout": 10.0, **options}))

        yield make


@pytest.fixture
def client(server: FakeServer, connect: Callable[..., Any]) -> Any:
    """Connect a client to the server."""
    return connect(server.address)
