"""The transport of the blocking client: gRPC's threads."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import grpc

from jitney_client.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import TypeVar

    from jitney_client.connection import Connection, Metadata

    R = TypeVar("R")

__all__ = ["BlockingTransport", "run"]


class BlockingTransport:
    """Carries bytes over one channel or several in turn.

    Its methods are coroutines that never suspend: they block. So what is written once, for both
    clients, on top of a transport, is an ordinary call here (``run``).
    """

    def __init__(self, connection: Connection) -> None:
        credentials, options = connection.channel_credentials(), connection.options()
        self._channels = [
            grpc.insecure_channel(connection.target.uri, options)
            if credentials is None
            else grpc.secure_channel(connection.target.uri, credentials, options)
            for _ in range(connection.channels)
        ]
        self._calls: list[dict[str, Callable[..., bytes]]] = [{} for _ in self._channels]
        self._turn = itertools.count() if len(self._channels) > 1 else None
        self._closed = threading.Event()

    async def call(
        self, path: str, message: bytes, timeout: float | None, metadata: Metadata
    ) -> bytes:
        """Make a call, from bytes to bytes.

        :raises JitneyError: when it fails.
        """
        # next() is atomic, so threads take turns without a lock.
        index = 0 if self._turn is None else next(self._turn) % len(self._channels)
        call = self._calls[index].get(path)
        if call is None:
            call = self._calls[index][path] = self._channels[index].unary_unary(path)
        try:
            return call(message, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error, given_up=self._closed.is_set()) from None
        except ValueError as error:
            raise self._explained(error) from None

    def stream(
        self, path: str, messages: Iterator[bytes], timeout: float | None, metadata: Metadata
    ) -> Any:  # noqa: ANN401  # gRPC's call, which has no type
        """Begin a call that streams both ways; it is an iterator of the replies' bytes."""
        index = 0 if self._turn is None else next(self._turn) % len(self._channels)
        try:
            call = self._channels[index].stream_stream(path)
            return call(messages, timeout=timeout, metadata=metadata)
        except ValueError as error:
            raise self._explained(error) from None

    async def pause(self, seconds: float) -> None:
        """Wait, or until the client is closed."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """Close the connections; calls that are running end with ``Cancelled``."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def _explained(self, error: ValueError) -> ValueError:
        """Return what gRPC's error meant."""
        return ValueError("the client is closed") if self._closed.is_set() else error


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on a blocking transport to its end, which it reaches without suspending."""
    try:
        work.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    work.close()
    msg = "a blocking coroutine was suspended"
    raise AssertionError(msg)
