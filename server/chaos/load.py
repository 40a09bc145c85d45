"""When requests are sent."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["Endless", "Limited", "closed_loop", "open_loop"]

LEAST_SLEEP: Final = 0.001
"""Seconds; what is due within them is sent together."""


class Endless:
    """Numbers until ``over`` is set: what a loop takes that somebody else ends."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self.over = False

    def __iter__(self) -> Iterator[int]:
        """Return itself."""
        return self

    def __next__(self) -> int:
        """Return the next number."""
        if self.over:
            raise StopIteration
        return next(self._numbers)


class Limited(Endless):
    """So many numbers of an iterator that others share."""

    def __init__(self, numbers: Iterator[int], count: int) -> None:
        super().__init__(itertools.islice(numbers, count))


async def open_loop(
    send: Callable[[int], Awaitable[None]],
    rate: float,
    seconds: float,
    *,
    numbers: Iterator[int],
    grace: float = 30.0,
    seed: int = 7,
) -> int:
    """Send requests at random moments, whatever has come back (Poisson); return how many.

    :param rate: per second.
    :param seconds: for how long, unless the numbers end before.
    :param grace: seconds after which requests that have not ended are given up, and stay open in
        their history.
    """
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)  # noqa: S311  # not a secret
    began = loop.time()
    due = began + rng.expovariate(rate)
    running: set[asyncio.Task[None]] = set()
    count = 0
    while due < began + seconds:
        if (wait := due - loop.time()) > LEAST_SLEEP:
            await asyncio.sleep(wait)
        number = next(numbers, None)
        if number is None:
            break
        task = asyncio.ensure_future(_run(send, number))
        running.add(task)
        task.add_done_callback(running.discard)
        count += 1
        due += rng.expovariate(rate)
    await _finish(set(running), grace)
    return count


async def closed_loop(
    send: Callable[[int], Awaitable[None]],
    numbers: Iterator[int],
    concurrency: int,
    *,
    grace: float = 60.0,
) -> None:
    """Keep so many requests going until the shared iterator ends.

    :param grace: seconds that one request may take; the caller then gives up for good.
    """

    async def caller() -> None:
        for number in numbers:
            await asyncio.wait_for(_run(send, number), grace)

    ends = await asyncio.gather(*(caller() for _ in range(concurrency)), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, TimeoutError):
            raise end


async def _run(send: Callable[[int], Awaitable[None]], number: int) -> None:
    await send(number)


async def _finish(running: set[asyncio.Task[None]], grace: float) -> None:
    if not running:
        return
    done, late = await asyncio.wait(running, timeout=grace)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()  # a bug of the harness must not look like a lost request
