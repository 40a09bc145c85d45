"""Many requests over one call, for the blocking client."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import grpc

from jitney_client.blocking import run
from jitney_client.deadline import Deadline
from jitney_client.errors import JitneyError, Unavailable
from jitney_client.options import check_options
from jitney_client.replies import OpenRequests
from jitney_client.result import InferResult
from jitney_client.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, Unpack

    from jitney_client.core import Core
    from jitney_client.options import RequestOptions
    from jitney_client.prepared import Inputs

__all__ = ["Pending", "Stream"]

SEVERAL: Final = "the model sent {} replies: iterate over them"


class Pending(Iterator[InferResult]):
    """A request of a stream, whose answer may be there or on its way.

    ``result()`` is the reply of a model that has one reply. Of a decoupled model, which has any
    number, iterate over the replies: each is given out once, as it comes. Both raise the error that
    the request ended with. By one thread at a time.
    """

    __slots__ = ("_ended", "_events", "_first")

    def __init__(self) -> None:
        self._events = queue.SimpleQueue[InferResult | JitneyError | None]()
        self._first: InferResult | JitneyError | None = None
        self._ended = False

    def result(self, timeout: float | None = None) -> InferResult:
        """Return the only reply.

        :param timeout: seconds to wait for it; None as long as it takes.
        :raises TimeoutError: when it is not there by then; it may still come.
        :raises ValueError: when the model sent none, or several.
        :raises JitneyError: when the request failed.
        """
        deadline = Deadline(timeout)
        if self._first is None:
            self._first = self._next(deadline)
        if self._first is None:
            raise ValueError(SEVERAL.format("no"))
        if isinstance(self._first, JitneyError):
            raise self._first
        if not self._ended and self._next(deadline) is not None:
            raise ValueError(SEVERAL.format("several"))
        self._ended = True
        return self._first

    def __iter__(self) -> Self:
        """Return the iterator of the replies."""
        return self

    def __next__(self) -> InferResult:
        """Return the next reply, when it is there.

        :raises JitneyError: when the request failed.
        """
        event = self._events.get()
        if event is None:
            self._events.put(None)  # for whoever asks again
            raise StopIteration
        if isinstance(event, JitneyError):
            raise event
        return event

    def _next(self, deadline: Deadline) -> InferResult | JitneyError | None:
        try:
            return self._events.get(timeout=deadline.remaining())
        except queue.Empty:
            msg = f"no reply within {deadline.timeout:g} s"
            raise TimeoutError(msg) from None

    def _put(self, reply: InferResult | JitneyError | None, *, last: bool) -> None:
        """Give it a reply, from the stream's thread."""
        if reply is not None:
            self._events.put(reply)
        if last:
            self._events.put(None)


class Stream:
    """Many requests over one call, each answered in its own time.

    - ``submit`` sends a request and returns at once, but where ``max_in_flight`` are not answered
      yet: then it waits until one is.
    - Replies come in the order of the requests, whatever models they are for; those of decoupled
      models, as they are made. Nobody has to read them in that order.
    - A failed request ends alone. When the connection fails, everything that is open fails with
      ``Unavailable``, and the stream is over: make another one. Nothing is repeated.
    - Leaving its ``with`` block waits for what is open, or gives it up when an error leaves the
      block.
    - Threads may share it. It has two of its own, one that writes and one that reads.
    """

    def __init__(
        self, core: Core, begin: Callable[[Iterator[bytes]], Any], max_in_flight: int
    ) -> None:
        """Begin a stream.

        :param begin: makes the call, given the messages to send.
        """
        if max_in_flight < 1:
            msg = f"max_in_flight: expected 1 or more, got {max_in_flight}"
            raise ValueError(msg)
        self._core = core
        self._free = threading.Semaphore(max_in_flight)
        self._lock = threading.Lock()
        self._open = OpenRequests[Pending]()
        self._outbox = queue.SimpleQueue[bytes | None]()
        self._error: JitneyError | None = None
        self._closing = False
        self._call = begin(iter(self._outbox.get, None))
        self._reader = threading.Thread(target=self._read, name="jitney-stream", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is open, or give it up after an error."""
        if kind is not None:
            self.cancel()
        self.close()

    def __repr__(self) -> str:
        """Return how much is open."""
        over = f"over: {self._error}" if self._error is not None else f"{len(self._open)} open"
        return f"<Stream {'closed' if self._closing else over}>"

    def submit(self, model: str, inputs: Inputs, **options: Unpack[RequestOptions]) -> Pending:
        """Send a request.

        :param inputs: as of ``Client.infer``.
        :raises JitneyError: when the stream is over, or the request does not fit the model.
        :raises TypeError: when the protocol has no datatype for an array.
        :raises ValueError: when the stream was closed, or an input or option makes no sense.
        """
        check_options(options, call=False)
        prepared = run(self._core.prepare(model, inputs, options, self._core.deadline(None)))
        pending = Pending()
        self._free.acquire()
        try:
            with self._lock:
                self._ensure_open()
                # Under the lock, so that messages leave in the order of their requests.
                self._outbox.put(self._open.add(prepared, pending))
        except BaseException:
            self._free.release()
            raise
        return pending

    def _ensure_open(self) -> None:
        if self._closing:
            msg = "the stream is closed"
            raise ValueError(msg)
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Give up what is open: it ends with ``Cancelled``."""
        self._call.cancel()

    def close(self) -> None:
        """Send nothing more, and wait for what is open."""
        with self._lock:
            closing, self._closing = self._closing, True
        if not closing:
            self._outbox.put(None)
        self._reader.join()

    def _read(self) -> None:
        ended: JitneyError = Unavailable(
            "the stream ended before the request was answered", code=grpc.StatusCode.UNAVAILABLE
        )
        try:
            for message in self._call:
                with self._lock:
                    answer = self._open.read(message)
                if answer is None:
                    continue
                answer.pending._put(answer.reply, last=answer.last)  # noqa: SLF001  # ours
                if answer.last:
                    self._free.release()
        except grpc.RpcError as error:
            ended = from_rpc_error(error)
        except JitneyError as error:
            self._call.cancel()
            ended = error
        with self._lock:
            self._error = ended
            left = self._open.drain()
        for pending in left:
            pending._put(ended, last=True)  # noqa: SLF001
            self._free.release()
        # gRPC's writing thread waits for the end of the messages, however the call ended.
        self._outbox.put(None)
