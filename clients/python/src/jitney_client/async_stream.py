"""Many requests over one call, for the asynchronous client."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from jitney_client.deadline import NEVER, Deadline
from jitney_client.errors import Cancelled, JitneyError, Unavailable
from jitney_client.options import check_options
from jitney_client.replies import OpenRequests
from jitney_client.result import InferResult
from jitney_client.statuses import from_rpc_error
from jitney_client.stream import SEVERAL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Self, Unpack

    from jitney_client.core import Core
    from jitney_client.options import RequestOptions
    from jitney_client.prepared import Inputs

__all__ = ["AsyncPending", "AsyncStream"]


class AsyncPending(AsyncIterator[InferResult]):
    """As ``Pending``: await it for the only reply, or iterate over the replies.

    By one task at a time.
    """

    __slots__ = ("_ended", "_events", "_first", "_news")

    def __init__(self) -> None:
        # An event only where somebody waits: mostly the reply is there by then.
        self._events: deque[InferResult | JitneyError | None] = deque()
        self._news: asyncio.Event | None = None
        self._first: InferResult | JitneyError | None = None
        self._ended = False

    def __await__(self) -> Generator[Any, None, InferResult]:
        """Wait for the only reply."""
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> InferResult:
        """Return the only reply.

        :param timeout: seconds to wait for it; None as long as it takes.
        :raises TimeoutError: when it is not there by then; it may still come.
        :raises ValueError: when the model sent none, or several.
        :raises JitneyError: when the request failed.
        """
        deadline = Deadline(timeout)
        if self._first is None:
            self._first = await self._next(deadline)
        if self._first is None:
            raise ValueError(SEVERAL.format("no"))
        if isinstance(self._first, JitneyError):
            raise self._first
        if not self._ended and await self._next(deadline) is not None:
            raise ValueError(SEVERAL.format("several"))
        self._ended = True
        return self._first

    def __aiter__(self) -> Self:
        """Return the iterator of the replies."""
        return self

    async def __anext__(self) -> InferResult:
        """Return the next reply, when it is there.

        :raises JitneyError: when the request failed.
        """
        event = await self._next(NEVER)
        if event is None:
            self._events.append(None)  # for whoever asks again
            raise StopAsyncIteration
        if isinstance(event, JitneyError):
            raise event
        return event

    async def _next(self, deadline: Deadline) -> InferResult | JitneyError | None:
        while not self._events:
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            try:
                async with asyncio.timeout(deadline.remaining()):
                    await self._news.wait()
            except TimeoutError:
                msg = f"no reply within {deadline.timeout:g} s"
                raise TimeoutError(msg) from None
        return self._events.popleft()

    def _put(self, reply: InferResult | JitneyError | None, *, last: bool) -> None:
        """Give it a reply."""
        if reply is not None:
            self._events.append(reply)
        if last:
            self._events.append(None)
        if self._news is not None:
            self._news.set()


class AsyncStream:
    """As ``Stream``, on one event loop."""

    def __init__(self, core: Core, begin: Callable[[], Any], max_in_flight: int) -> None:
        """Begin nothing yet: that is for ``async with``, on the loop that runs then.

        :param begin: makes the call.
        """
        if max_in_flight < 1:
            msg = f"max_in_flight: expected 1 or more, got {max_in_flight}"
            raise ValueError(msg)
        self._core = core
        self._begin = begin
        self._free = asyncio.Semaphore(max_in_flight)
        self._writing = asyncio.Lock()
        self._open = OpenRequests[AsyncPending]()
        self._error: JitneyError | None = None
        self._closing = False
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin the call."""
        self._call = self._begin()
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is open, or give it up after an error."""
        if kind is not None:
            self.cancel()
        await self.close()

    def __repr__(self) -> str:
        """Return how much is open."""
        over = f"over: {self._error}" if self._error is not None else f"{len(self._open)} open"
        return f"<AsyncStream {'closed' if self._closing else over}>"

    async def submit(
        self, model: str, inputs: Inputs, **options: Unpack[RequestOptions]
    ) -> AsyncPending:
        """Send a request; as ``Stream.submit``."""
        check_options(options, call=False)
        prepared = await self._core.prepare(model, inputs, options, self._core.deadline(None))
        pending = AsyncPending()
        await self._free.acquire()
        try:
            # gRPC takes one message at a time, and they shall leave in order.
            async with self._writing:
                self._ensure_open()
                message = self._open.add(prepared, pending)
                # Where that fails, the reader learns why, and tells whoever waits.
                with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                    await self._call.write(message)
        except BaseException:
            self._free.release()
            raise
        return pending

    def cancel(self) -> None:
        """Give up what is open: it ends with ``Cancelled``."""
        self._call.cancel()

    async def close(self) -> None:
        """Send nothing more, and wait for what is open."""
        closing, self._closing = self._closing, True
        if self._reader is None:
            return
        if not closing and self._error is None:
            async with self._writing:
                if not self._call.done():
                    await self._call.done_writing()
        await self._reader

    def _ensure_open(self) -> None:
        if self._closing or self._call is None:
            msg = "the stream is closed"
            raise ValueError(msg)
        if self._error is not None:
            raise self._error

    async def _read(self) -> None:
        ended: JitneyError = Unavailable(
            "the stream ended before the request was answered", code=grpc.StatusCode.UNAVAILABLE
        )
        try:
            async for message in self._call:
                answer = self._open.read(message)
                if answer is None:
                    continue
                answer.pending._put(answer.reply, last=answer.last)  # noqa: SLF001  # ours
                if answer.last:
                    self._free.release()
        except grpc.RpcError as error:
            ended = from_rpc_error(error)
        except asyncio.CancelledError:
            ended = Cancelled("the stream was cancelled", code=grpc.StatusCode.CANCELLED)
        except JitneyError as error:
            self._call.cancel()
            ended = error
        finally:
            self._error = ended
            for pending in self._open.drain():
                pending._put(ended, last=True)  # noqa: SLF001
                self._free.release()
