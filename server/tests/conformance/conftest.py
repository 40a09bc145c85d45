"""A live server with the models of the public clients, and those clients, unmodified.

The suite runs with whichever ``tritonclient`` is found first on the path: ``make conformance`` runs
it with the oldest and with the newest that we support.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# pytest imports test files by their path, so that their names may recur; helpers are looked up.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))

import tritonclient.grpc as triton
from live_server import LiveServer
from public_models import write_public_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def public_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of every public model, as Triton would be given it."""
    root = tmp_path_factory.mktemp("public")
    write_public_models(root)
    return root


@pytest.fixture(scope="session")
def server(public_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server of all of them, shared by every test that changes nothing for others."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    flags = ("--allow-client-shm", "true", "--forward-metadata", "x-jitney-.*")
    with LiveServer(public_models, log, *flags) as live:
        yield live


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Start servers of one's own: ``start(repository, *flags)``; they end with the test."""
    with ExitStack() as stack:

        def begin(repository: Path, *flags: str) -> LiveServer:
            log = tmp_path / f"server{len(list(tmp_path.glob('server*.log')))}.log"
            return stack.enter_context(LiveServer(repository, log, *flags))

        yield begin


@pytest.fixture
def client(server: LiveServer) -> Iterator[triton.InferenceServerClient]:
    """Return the public synchronous client, connected to the shared server."""
    with triton.InferenceServerClient(server.address) as connected:
        yield connected
