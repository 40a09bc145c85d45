"""The asynchronous client as a blocking one, so that one test can be about both."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Self

from jitney_client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AsBlocking"]

PATIENCE = 30.0
"""Seconds after which a call of a test has hung."""


class AsBlocking:
    """Everything that an object awaits or iterates over, done on a loop in a thread of its own."""

    def __init__(self, wrapped: Any, loop: _Loop | None = None) -> None:
        self._wrapped = wrapped
        self._loop = loop or _Loop()
        self._owner = loop is None

    @classmethod
    def client(cls, address: Any, **options: Any) -> AsBlocking:
        """Return an asynchronous client that blocks."""
        return cls(AsyncClient(address, **options))

    def __enter__(self) -> Self:
        """Enter the asynchronous block."""
        self._loop.run(self._wrapped.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it."""
        try:
            self._loop.run(self._wrapped.__aexit__(*error))
        finally:
            if self._owner:
                self._loop.end()

    def __iter__(self) -> Iterator[Any]:
        """Iterate asynchronously."""
        return self._iterate(self._wrapped)

    def __len__(self) -> int:
        """Return the length."""
        return len(self._wrapped)

    def __repr__(self) -> str:
        """Return that of what is wrapped, as if it blocked."""
        return repr(self._wrapped).replace("Async", "")

    def __getattr__(self, name: str) -> Any:
        """Return a method that blocks."""
        found = getattr(self._wrapped, name)
        return self._call(found) if inspect.ismethod(found) else found

    def _call(self, method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            if isinstance(result, Coroutine):
                result = self._loop.run(result)
            if isinstance(result, AsyncIterator) and inspect.isasyncgen(result):
                return self._iterate(result)
            if type(result).__name__.startswith("Async"):
                return AsBlocking(result, self._loop)
            return result

        return call

    def _iterate(self, iterator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run(iterator.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            if inspect.isasyncgen(iterator):
                self._loop.run(iterator.aclose())


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Any) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(PATIENCE)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
