"""Many requests, a bounded number at a time, and their results in order."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from jitney_client.errors import JitneyError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
    )

    from jitney_client.progress import Progress

    T = TypeVar("T")
    R = TypeVar("R")
    Failure = JitneyError | TypeError | ValueError

__all__ = ["FAILURES", "many_awaited", "many_blocking"]

FAILURES: Final = (JitneyError, TypeError, ValueError)
"""What one item can fail with: the call, or an array that cannot be sent."""
AHEAD: Final = 2
"""Items begun for each that may run: while one is slow, those behind it go on."""


def many_blocking(
    work: Callable[[T], R],
    items: Iterable[T],
    concurrency: int,
    progress: Progress,
    *,
    return_errors: bool,
) -> Iterator[R | Failure]:
    """Yield what ``work`` returns for each item, in their order.

    Items are taken as they are needed. Leaving the loop early gives up what has not begun.
    """
    _check(concurrency)
    pool = ThreadPoolExecutor(concurrency, "jitney-infer-many")
    source = iter(items)
    waiting = deque(
        pool.submit(work, item) for item in itertools.islice(source, AHEAD * concurrency)
    )
    try:
        while waiting:
            try:
                result: R | Failure = waiting.popleft().result()
            except FAILURES as error:
                if not return_errors:
                    raise
                result = error
            for item in itertools.islice(source, 1):
                waiting.append(pool.submit(work, item))
            progress.advance()
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
        progress.close()


async def many_awaited(
    work: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    concurrency: int,
    progress: Progress,
    *,
    return_errors: bool,
) -> AsyncGenerator[R | Failure, None]:
    """Likewise, with tasks of the event loop; the items may come asynchronously as well."""
    _check(concurrency)
    free = asyncio.Semaphore(concurrency)

    async def begin(item: T) -> R:
        async with free:
            return await work(item)

    source = _as_async(items)
    waiting: deque[asyncio.Task[R]] = deque()
    more = True
    try:
        while True:
            while more and len(waiting) < AHEAD * concurrency:
                try:
                    waiting.append(asyncio.ensure_future(begin(await anext(source))))
                except StopAsyncIteration:
                    more = False
            if not waiting:
                break
            try:
                result: R | Failure = await waiting.popleft()
            except FAILURES as error:
                if not return_errors:
                    raise
                result = error
            progress.advance()
            yield result
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        progress.close()


def _check(concurrency: int) -> None:
    if concurrency < 1:
        msg = f"concurrency: expected 1 or more, got {concurrency}"
        raise ValueError(msg)


async def _as_async(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
