"""Where a scenario takes place: a scratch folder, servers, callers; all end with its block."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.process import ChildProcess

from chaos.callers import PlainCaller, RetryingCaller
from chaos.faulty_model import FaultyModel, write_faulty_model
from chaos.subject_server import SubjectServer
from jitney_client import AsyncClient
from jitney_client.connection import DEFAULT_RETRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from chaos.history import History
    from jitney_client import Retries

__all__ = ["Arena"]

STATUS_TIMEOUT: Final = 10.0
POLL_SECONDS: Final = 0.01


class Arena(contextlib.AsyncExitStack):
    """What a scenario needs; ``numbers`` are those of its requests, each drawn once."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.numbers = itertools.count()
        self._made = itertools.count()

    async def __aenter__(self) -> Self:
        """Return the arena."""
        await super().__aenter__()
        return self

    def path(self, name: str) -> Path:
        """Return a path that nothing else has; nothing is there."""
        return self.folder / f"{next(self._made)}-{name}"

    def repository(self, model: FaultyModel, *, max_rows: int, settings: str = "") -> Path:
        """Return a new repository with the model ``faulty`` in it.

        :param settings: further lines of its ``model.toml``.
        """
        root = self.path("models")
        write_faulty_model(root, model, max_rows=max_rows, settings=settings)
        return root

    async def server(
        self,
        repository: Path,
        *flags: str,
        devices: int = 2,
        sabotage: str = "",
        read_only: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> SubjectServer:
        """Start a server; it ends with the arena, whatever has become of it."""
        server = await asyncio.to_thread(
            SubjectServer,
            repository,
            self.path("s"),
            flags,
            devices=devices,
            sabotage=sabotage,
            read_only=read_only,
            environment=environment,
        )
        self.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
        return server

    def plain(
        self,
        server: SubjectServer,
        history: History,
        *,
        connections: int = 2,
        timeout: float | None = None,
        model: str = "faulty",
    ) -> PlainCaller:
        """Return a caller that sends everything once."""
        caller = PlainCaller(
            server.address, history, connections=connections, timeout=timeout, model=model
        )
        self.push_async_callback(caller.close)
        return caller

    def retrying(
        self,
        address: str | Sequence[str],
        history: History,
        *,
        timeout: float,
        retries: Retries | None = DEFAULT_RETRIES,
    ) -> RetryingCaller:
        """Return our client, as it is shipped unless other retries are given."""
        caller = RetryingCaller(address, history, timeout=timeout, retries=retries)
        self.push_async_callback(caller.close)
        return caller

    def watcher(self, server: SubjectServer) -> AsyncClient:
        """Return a client that asks the server how it is."""
        client = AsyncClient(server.address, timeout=STATUS_TIMEOUT, retries=None)
        self.push_async_callback(client.close)
        return client

    async def process(self, module: str, *arguments: str) -> ChildProcess:
        """Start one of our own programs; it ends with the arena."""
        log = self.path("process.log")
        child = await asyncio.to_thread(ChildProcess, ["-m", module, *arguments], log)
        self.push_async_callback(asyncio.to_thread, child.__exit__, None, None, None)
        return child

    async def until(self, holds: Callable[[], Any], seconds: float) -> float:
        """Return after how many seconds a condition held; infinity when it did not in time.

        :param holds: asked again and again, away from the event loop; an OSError counts as no.
        """
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            with contextlib.suppress(OSError):
                if await asyncio.to_thread(holds):
                    return time.monotonic() - began
            await asyncio.sleep(POLL_SECONDS)
        return float("inf")
